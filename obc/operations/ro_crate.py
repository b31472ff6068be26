"""`ro-crate-metadata.json`: a results folder described as a Research Object Crate (RO-Crate 1.1).

Every result file in the folder is listed. Each training is an action that made its weights, and
each evaluation is an action that made its metrics. Runs that `obc import` restored have actions
without weights. Nothing is copied: the folder itself becomes the crate.
"""

from __future__ import annotations

import mimetypes
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from obc.config.plan import Plan, Run
from obc.config.run_folder import RunFolder
from obc.io.files import read_record, write_json
from obc.runs.status import run_status
from obc.runs.versions import DISTRIBUTION

METADATA = "ro-crate-metadata.json"
CONTEXT = "https://w3id.org/ro/crate/1.1/context"
SPECIFICATION = "https://w3id.org/ro/crate/1.1"
LICENSE = "https://spdx.org/licenses/Apache-2.0"
SUITE = "#obc"
# Folders without results: files of unfinished trainings, indices of data sets, and logs.
LEFT_OUT = (RunFolder(Path()).work.path.name, "data", "logs")

Entity = dict[str, Any]


def write_crate(plan: Plan) -> Path:
    """Write the description into the results folder of a plan; return its path."""
    files = {path.relative_to(plan.results).as_posix(): path for path in _files(plan.results)}
    runs = [run for run_id in plan.runs for run in plan.seeded(run_id)]
    actions = [
        action
        for run in runs
        if run_status(run.folder) == "trained"
        for action in _actions(run, plan.results, files)
    ]
    root = {
        "@id": "./",
        "@type": "Dataset",
        "name": f"Offset Bin Classification, reproduced: results of {plan.results.name}",
        "description": f"{plan.scale.description} Tables, figures, verdicts and trainings.",
        "datePublished": datetime.now(UTC).date().isoformat(),
        "license": {"@id": LICENSE},
        "hasPart": [{"@id": name} for name in files],
        "mentions": [{"@id": action["@id"]} for action in actions],
    }
    graph = [
        {
            "@id": METADATA,
            "@type": "CreativeWork",
            "about": {"@id": "./"},
            "conformsTo": {"@id": SPECIFICATION},
        },
        root,
        {"@id": LICENSE, "@type": "CreativeWork", "name": "Apache License 2.0"},
        {"@id": SUITE, "@type": "SoftwareApplication", "name": DISTRIBUTION},
        *(_file(name, path) for name, path in files.items()),
        *actions,
    ]
    path = plan.results / METADATA
    write_json(path, {"@context": CONTEXT, "@graph": graph})
    return path


def _files(results: Path) -> list[Path]:
    """Files that the crate lists, sorted by path."""
    return [
        path
        for path in sorted(results.rglob("*"))
        if path.is_file()
        and not {part for part in path.relative_to(results).parts if part.startswith(".")}
        and not {*path.relative_to(results).parts[:-1]} & {*LEFT_OUT}
        and path.name != METADATA
    ]


def _file(name: str, path: Path) -> Entity:
    kind, _ = mimetypes.guess_type(name)
    return {
        "@id": name,
        "@type": "File",
        "name": path.name,
        "contentSize": str(path.stat().st_size),
        "encodingFormat": kind or "application/octet-stream",
    }


def _actions(run: Run, results: Path, files: dict[str, Path]) -> list[Entity]:
    """Return the actions of a run: its training or import, and its evaluations."""
    record = read_record(run.folder.record) or {}
    folder = run.folder.path.relative_to(results).as_posix()

    def action(name: str, made: list[str], **more: Any) -> Entity:
        return {
            "@id": f"#{folder}/{name}",
            "@type": "CreateAction",
            "name": f"{name} of {run}",
            "instrument": {"@id": SUITE},
            "result": [{"@id": f"{folder}/{file}"} for file in made if f"{folder}/{file}" in files],
            **more,
        }

    started, seconds = record.get("started"), record.get("seconds")
    times = {"startTime": started} if started else {}
    if started and seconds:
        ended = datetime.fromisoformat(started) + timedelta(seconds=seconds)
        times["endTime"] = ended.isoformat(timespec="seconds")
    weights = f"{folder}/{run.folder.weights.name}"
    made = [path.name for path in (run.folder.weights, run.folder.config, run.folder.record)]
    return [
        action("import" if record.get("imported") else "training", made, **times),
        *(
            action(
                f"evaluation ({decode})",
                [run.folder.metrics(decode).name, run.folder.detections(decode).name],
                **({"object": [{"@id": weights}]} if weights in files else {}),
            )
            for decode in run.resolved.spec.decodes
            if run.folder.metrics(decode).exists()
        ),
    ]

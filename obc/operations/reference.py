"""Write `results/reference/<name>`: the small files of a results folder, to be committed.

The folder has tables, figures, verdicts, the page, `runs.jsonl` and `run.yaml`. It has no data and
no weights, except starting weights in archives of stored runs. Figures that show photographs, and a
page with them, are left out, because the photographs' licences are not the suite's. A figure of
photographs is included if its own caption states that the images are not shown
(`show_images: false`).
"""

from __future__ import annotations

import contextlib
import csv
import io
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from PIL import Image

from obc.config.plan import Plan, Run
from obc.config.reference import (
    ReferenceCard,
    ReferenceFolder,
    read_card,
    write_card,
    write_choices,
)
from obc.config.run_folder import RunFolder
from obc.datasets.settings import ShapesData
from obc.io.errors import SuiteError
from obc.io.files import atomic_folder, require_record
from obc.io.pictures import narrowed
from obc.operations.stored_runs import changed, finished_runs, store, store_examples, stored
from obc.runs.runs_file import StoredRun, read_folder, write_runs
from obc.runs.status import has_weights

TABLE_KINDS = (".csv", ".md", ".tex")
# Figures are committed as SVG. A larger SVG, e.g. with many images, is replaced by a scaled PNG.
SVG_BYTES = 500_000
PICTURE_WIDTH = 1200
PAGE_BYTES = 8_000_000


class NothingToCommit(SuiteError):
    """The results folder or the card is incomplete; the message says what to do."""


class CannotReplace(SuiteError):
    """The target has files that no export made; the message says where to export to."""


@dataclass(frozen=True)
class Told:
    """Entries of the card that a person writes; None: keep the entry of the existing card."""

    commands: tuple[str, ...] | None = None
    purpose: str | None = None
    finding: str | None = None


def write_reference(
    plan: Plan,
    target: ReferenceFolder,
    told: Told,
    keep_runs: bool,
    shows_images: Callable[[Path], bool],
) -> None:
    """Write the committed folder of a plan's results; an existing folder is replaced.

    Args:
        target: the folder. Commands, purpose and finding of its card are kept unless `told` has
            others; notes are always kept.
        keep_runs: keep the archives, and store finished runs that they lack, or have with other
            files, in a further archive. False: the folder has no archives afterwards.
        shows_images: whether a figure or the page shows images of the data set; such files are left
            out if these are photographs.

    Raises:
        CannotReplace: the target has files that no export made.
        ConfigError: the target's card is not one of `read_card`.
        NothingToCommit: there are no tables, no finished training, no commands or no purpose, or an
            archive has runs that the results folder lacks.
        CannotRestore: an archive cannot be read.
        DamagedRecord, DetectionsFileError: a file of a run is damaged.
    """
    _require_replaceable(plan, target)
    sources = [folder for folder in (plan.results, plan.results / "partial") if _has_tables(folder)]
    if not sources:
        raise NothingToCommit(
            f"{plan.results}: has no tables; first `snakemake --cores 2 --config "
            f"scale={plan.scale.name}`, or its target `partial` for what there is so far"
        )
    runs = _runs(plan)
    card = _card(target, runs, told, _evaluation_seconds(plan))
    archives = target.archives() if keep_runs else []
    new = _not_stored(plan, archives, target) if keep_runs else []
    with atomic_folder(target.path) as temporary:
        made = ReferenceFolder(temporary)
        for archive in archives:
            shutil.copy2(archive, temporary)
        if new:
            store(plan, new, made.archive(max(map(_number, archives), default=0) + 1), archives)
        _copy_shown(plan, temporary, shows_images)
        _write_examples(plan, made, target)
        write_runs(made.runs, runs)
        write_choices(made, _choices(plan))
        write_card(made, card)


def _require_replaceable(plan: Plan, target: ReferenceFolder) -> None:
    """Raise CannotReplace if the target is neither new, nor empty, nor made by an export."""
    path = target.path
    why = None
    held = [
        one for one in (plan.results, Path.cwd()) if one.resolve().is_relative_to(path.resolve())
    ]
    if held:
        why = f"is or holds {held[0]}"
    elif path.is_dir() and any(path.iterdir()) and not target.card.exists():
        why = f"is not empty and has no {target.card.name} of an earlier export"
    elif path.exists() and not path.is_dir():
        why = "is a file"
    if why:
        raise CannotReplace(
            f"{path}: {why}, and the export would replace it; --out may name a new or empty "
            "folder, or one that an earlier export made"
        )


def _number(archive: Path) -> int:
    return int("".join(filter(str.isdigit, archive.name)))


# --- tables, figures, verdicts, the page -------------------------------------------------------


def _has_tables(folder: Path) -> bool:
    return any((folder / "tables").glob("*.csv"))


def _copy_shown(plan: Plan, target: Path, shows_images: Callable[[Path], bool]) -> None:
    """Copy the complete files, and files of `partial` that have no complete counterpart."""
    photographs = any(not isinstance(data, ShapesData) for data in plan.scale.data.values())
    partial = plan.results / "partial"
    for source in (plan.results, partial):
        place = target / source.relative_to(plan.results)
        for path in _small_files(source):
            name = path.relative_to(source)
            if source == partial and (plan.results / name).exists():
                continue
            if photographs and path.suffix != ".csv" and shows_images(path):
                continue
            _copy(path, place / name)
    page = plan.results / "report.html"
    small = page.exists() and page.stat().st_size <= PAGE_BYTES
    if small and not (photographs and shows_images(page)):
        _copy(page, target / page.name)


def _small_files(source: Path) -> Iterator[Path]:
    yield from (path for kind in TABLE_KINDS for path in sorted(source.glob(f"tables/*{kind}")))
    yield from sorted(source.glob("claims.*"))
    yield from sorted(source.glob("figures/*.csv"))
    for path in sorted(source.glob("figures/*.png")):
        drawing = path.with_suffix(".svg")
        small = drawing.exists() and drawing.stat().st_size <= SVG_BYTES
        yield drawing if small else path


def _copy(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix != ".png":
        shutil.copyfile(path, target)
        return
    with Image.open(path) as picture:
        narrowed(picture, PICTURE_WIDTH).save(target, optimize=True)


# --- examples to look at -----------------------------------------------------------------------


def _write_examples(plan: Plan, made: ReferenceFolder, before: ReferenceFolder) -> None:
    """Write examples of single images for notebooks: two evaluations, a trained head's output.

    Nothing is written for photographs: the suite can draw only its own scenes again. If the weights
    are missing, the folder's former head views are kept, provided they are of the same training.
    """
    table = plan.detail_table
    if table is None or not isinstance(plan.scale.data[table.dataset], ShapesData):
        return
    compared = [plan.of_row(index, row)[0] for index, row in plan.example_rows.items()]
    if compared and all(one.metrics.exists() and one.detections.exists() for one in compared):
        store_examples(plan, compared, made.examples)
    row = table.keyed_rows.get(plan.config.detail_rows.two_stages)
    if row is not None:
        _write_views(plan, plan.seeded(plan.run_of(row).run_id)[0], made.head, before.head)


def _write_views(plan: Plan, run: Run, path: Path, before: Path) -> None:
    # Libraries print while they are imported and while a model is loaded. The import is local
    # because importing MMDetection takes seconds.
    with contextlib.redirect_stdout(io.StringIO()):
        from obc.evaluation.stored_views import load_views, look_and_store

        if has_weights(run.folder):
            look_and_store(plan, run.run_id, run.seed, path)
        elif before.exists() and run.folder.record.exists():
            weights = require_record(run.folder.record)["weights_sha256"]
            if load_views(before).record["weights_sha256"] == weights:
                shutil.copy2(before, path)


# --- runs --------------------------------------------------------------------------------------


def _runs(plan: Plan) -> list[StoredRun]:
    """Return every finished training of the plan's runs, of any seed, and of starting weights."""
    folders = [one for one in RunFolder.all_in(plan.results) if one.record.exists()]
    runs = [read_folder(one) for one in folders if one.run_id in plan.runs]
    if not runs:
        raise NothingToCommit(f"{plan.results}: has no finished training")
    initial = {
        one.folder.path: one.folder
        for run in runs
        if (one := plan.initial_training(run.run_id, run.seed)) and one.folder.record.exists()
    }
    everything = [*map(read_folder, initial.values()), *runs]
    if not _trained_here(everything):
        raise NothingToCommit(
            f"{plan.results}: all {len(everything)} finished runs have imported weights, and "
            "run.yaml needs commit, day and machine of a training; first train a run of the plan"
        )
    return everything


def _not_stored(
    plan: Plan, archives: Sequence[Path], target: ReferenceFolder
) -> list[tuple[str, int]]:
    """Return the finished runs that the archives lack, or have with other files."""
    finished, known = finished_runs(plan), stored(archives)
    lost = [key for key in known if key not in finished]
    if lost:
        run_id, seed = lost[0]
        raise NothingToCommit(
            f"{target}: stores {len(lost)} runs that {plan.results} lacks, e.g. {run_id} seed "
            f"{seed}; restore them first (`obc import {target}`), or delete its archives"
        )
    return [key for key in finished if changed(plan, *key, known.get(key, {}))]


def _choices(plan: Plan) -> dict[str, Any]:
    """The options of the call that differ from the defaults, and the scale."""
    chosen = plan.config.model_dump(mode="json", exclude_defaults=True)
    return {"scale": plan.config.scale, **chosen}


# --- the card ----------------------------------------------------------------------------------


def _card(
    target: ReferenceFolder, runs: Sequence[StoredRun], told: Told, evaluation_seconds: float
) -> ReferenceCard:
    known = read_card(target) if target.card.exists() else None
    commands = told.commands or (known.commands if known else None)
    purpose = told.purpose or (known.purpose if known else None)
    if not commands or not purpose:
        raise NothingToCommit(
            f"{target.card}: needs the command that made the results and what they are for; "
            'COMMAND="make reproduce SCALE=.." PURPOSE="Tables 1-3 .." of `make reference`, or '
            "--made-by and --purpose of `obc export`"
        )
    return ReferenceCard(
        purpose=purpose,
        finding=told.finding or (known.finding if known else None),
        commands=commands,
        notes=known.notes if known else (),
        **measured(runs, evaluation_seconds),
    )


def measured(runs: Sequence[StoredRun], evaluation_seconds: float = 0.0) -> dict[str, Any]:
    """Return the card's entries that follow from records.

    These are commits, days, machines, packages, counts and device minutes. Imported weights are not
    counted as trainings, because they were trained elsewhere; their evaluations are counted.
    """
    records = sorted(_trained_here(runs), key=lambda record: record["started"])
    packages: dict[str, tuple[str, ...]] = {}
    for name, version in ((n, v) for record in records for n, v in record["packages"].items()):
        packages[name] = tuple(dict.fromkeys((*packages.get(name, ()), version)))
    seconds = sum((record["seconds"] or 0) * _devices(record) for record in records)
    return {
        "commits": tuple(dict.fromkeys(record["code"]["commit"] or "none" for record in records)),
        "uncommitted_changes": not all(record["code"].get("clean", True) for record in records),
        "first_day": date.fromisoformat(records[0]["started"][:10]),
        "last_day": date.fromisoformat(records[-1]["started"][:10]),
        "machines": tuple(dict.fromkeys(_machine(record["hardware"]) for record in records)),
        "packages": packages,
        "trainings": len(records),
        "evaluations": sum(len(run.metrics) for run in runs),
        "device_minutes": round((seconds + evaluation_seconds) / 60, 1),
    }


def _trained_here(runs: Iterable[StoredRun]) -> list[dict[str, Any]]:
    return [run.run for run in runs if run.run and not run.run.get("imported")]


def _devices(record: dict[str, Any]) -> int:
    processes = record.get("processes", 1)
    return processes if record["hardware"]["gpu"] else processes * record["hardware"]["threads"]


def _machine(hardware: dict[str, Any]) -> str:
    cores = hardware["cores"]
    gpu = hardware["gpu"] or "no GPU"
    vectors = hardware.get("vector_instructions")  # records of earlier versions have none
    processor = hardware["processor"] + (f" with {vectors}" if vectors else "")
    return f"{processor}, {cores} core{'s' * (cores != 1)}, {gpu}"


def _evaluation_seconds(plan: Plan) -> float:
    """Return the total seconds of all evaluations of the plan's runs that Snakemake timed."""
    template = RunFolder(Path()).evaluation_benchmark("*").name
    folders = (one for one in RunFolder.all_in(plan.results) if one.run_id in plan.runs)
    return sum(_seconds(path) for one in folders for path in one.path.glob(template))


def _seconds(path: Path) -> float:
    with path.open(encoding="utf-8", newline="") as file:
        line = next(csv.DictReader(file, delimiter="\t"), {})
    return float(line.get("s", 0.0))

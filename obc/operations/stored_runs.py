"""Store finished runs in an archive without their weights; restore them into a results folder.

With archives a long experiment can be run in several parts, also on different machines. One part
trains and evaluates some runs, which are committed; the next part restores them and does the rest.
The archive of a part holds the runs that no earlier archive has with the same files: new runs, and
runs that were trained or evaluated again. If two archives have a run, the later one counts.

An archive contains `archive.json` (digest of the evaluation code, format), the folder of each run,
and `shown/` with files that were drawn from trained weights. Weights are stored only if another
training starts from them. Detections are packed losslessly (`obc.evaluation.packed_detections`).
"""

from __future__ import annotations

import io
import json
import os
import tarfile
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from obc.config.plan import Plan, RowEvaluation
from obc.config.run_folder import RECORD, RunFolder
from obc.datasets.settings import ShapesData
from obc.evaluation.detections_file import DetectionsFileError
from obc.evaluation.packed_detections import pack, unpack
from obc.io.errors import SuiteError
from obc.io.files import atomic_path, read_record
from obc.runs.staleness import other_versions
from obc.runs.status import has_weights
from obc.runs.versions import EVALUATION_CODE, TRAINING_CODE, code_digest

RunKey = tuple[str, int]  # run id and seed
# Files of an archive, by folder and name. Names in `shown` are paths; folder "" is the top level.
Content = dict[str, dict[str, bytes]]
FORMAT = 1
_ABOUT = "archive.json"
_SHOWN = "shown"
_PACKED = ".packed"
# Files of rule `inside`, the only rule that reads weights for figures. They are restored so that
# Snakemake does not draw them again, which would need the weights.
_DRAWN_OF_WEIGHTS = (
    "figures/stages.*",
    "figures/offset_distributions.*",
    "figures/target_offsets*.*",
    "figures/calibration.*",
    "tables/calibration.*",
    "logs/inside.*",
)


class CannotRestore(SuiteError):
    """Stored runs cannot be restored with this plan, code or data; the message says why."""


@dataclass(frozen=True)
class Restored:
    """Result of `restore`.

    Attributes:
        written: run id and seed of the runs that were written.
        there: run id and seed of the runs whose folder already had a training.
        refused: run id, seed and reason of the runs that do not fit this plan, code or data.
    """

    written: list[tuple[str, int]]
    there: list[tuple[str, int]]
    refused: list[tuple[str, int, str]]


# --- storing -----------------------------------------------------------------------------------


def finished_runs(plan: Plan) -> list[tuple[str, int]]:
    """Run id and seed of every evaluated training of the plan's runs, of any seed.

    Starting weights that were trained here come first. Starting weights that come with the suite,
    and imported weights, are left out: they exist as files elsewhere.
    """
    folders = [*RunFolder.all_in(plan.shared), *RunFolder.all_in(plan.results)]
    keys = dict.fromkeys((one.run_id, one.seed) for one in folders)
    initial, others = [], []
    for run_id, seed in keys:
        folder = plan.run_folder(run_id, seed)
        record = read_record(folder.record)
        if run_id not in plan.trainings or record is None or record.get("imported"):
            continue
        if run_id in plan.initial_runs:
            initial.append((run_id, seed))
        elif folder.evaluations():
            others.append((run_id, seed))
    return initial + others


def store(
    plan: Plan, runs: Sequence[tuple[str, int]], path: Path, earlier: Sequence[Path] = ()
) -> None:
    """Write an archive of finished runs; the same files always give the same bytes.

    Args:
        runs: run ids and seeds from `finished_runs`.
        earlier: archives whose drawn files are stored again only if they have changed.

    Raises:
        DetectionsFileError: the detections of an evaluation are missing or damaged.
        CannotRestore: an earlier archive cannot be read.
    """
    drawn = _drawn(map(_read, earlier))
    about = {"format": FORMAT, "evaluation_code": code_digest(EVALUATION_CODE)}
    with atomic_path(path) as temporary, tarfile.open(temporary, "w:xz", preset=9) as archive:
        _add(archive, _ABOUT, json.dumps(about).encode())
        for run_id, seed in runs:
            for name, content in _files_of(plan, run_id, seed):
                _add(archive, f"{RunFolder.of(Path(), run_id, seed)}/{name}", content)
        for file in _drawn_of_weights(plan):
            name, content = str(file.relative_to(plan.results)), file.read_bytes()
            if drawn.get(name) != content:
                _add(archive, f"{_SHOWN}/{name}", content)


def store_examples(plan: Plan, evaluations: Sequence[RowEvaluation], path: Path) -> None:
    """Write an archive of single evaluations for `stored_evaluations`; `restore` cannot read it."""
    with atomic_path(path) as temporary, tarfile.open(temporary, "w:xz", preset=9) as archive:
        for one in evaluations:
            folder = RunFolder.of(Path(), one.run.run_id, one.run.seed)
            for file in (one.run.folder.record, one.metrics):
                _add(archive, f"{folder}/{file.name}", file.read_bytes())
            name, content = _packed(one.detections)
            _add(archive, f"{folder}/{name}", content)


def stored(archives: Iterable[Path]) -> dict[RunKey, dict[str, bytes]]:
    """Files of every archived run, by name; later archives take precedence."""
    newest = _newest({path: _read(path) for path in archives})
    return {key: files for key, (_, files) in newest.items()}


def changed(plan: Plan, run_id: str, seed: int, files: Mapping[str, bytes]) -> bool:
    """Whether a run has a file that is not among `files` of `stored`, or has other content there.

    A further decoding adds files. An evaluation that is repeated, with other code for example,
    changes its metrics or Snakemake's measurement of it. Detections change with these files only,
    so they are not compared.
    """
    compared = (path for path, is_packed in _paths_of(plan, run_id, seed) if not is_packed)
    return any(files.get(path.name) != path.read_bytes() for path in compared)


def _files_of(plan: Plan, run_id: str, seed: int) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of each file of a run that is stored."""
    for path, is_packed in _paths_of(plan, run_id, seed):
        yield _packed(path) if is_packed else (path.name, path.read_bytes())


def _paths_of(plan: Plan, run_id: str, seed: int) -> Iterator[tuple[Path, bool]]:
    """Yield each file of a run that is stored, and whether it is packed: detections are."""
    folder = plan.run_folder(run_id, seed)
    files = [folder.record, folder.config, folder.log, folder.benchmark]
    if run_id in plan.initial_runs:
        files.append(folder.weights)
    yield from ((path, False) for path in files if path.exists())
    for decode in plan.trainings[run_id].decodes:
        if not folder.metrics(decode).exists():
            continue
        for path in (
            folder.metrics(decode),
            folder.evaluation_log(decode),
            folder.evaluation_benchmark(decode),
        ):
            if path.exists():
                yield path, False
        yield folder.detections(decode), True


def _packed(path: Path) -> tuple[str, bytes]:
    try:
        with np.load(path) as file:
            packed = pack(dict(file))
    except (ValueError, KeyError, OSError, EOFError, BadZipFile, zlib.error) as error:
        raise DetectionsFileError(
            f"{path}: not a detections file ({error}); remove it to have it measured again"
        ) from None
    return (path.name, path.read_bytes()) if packed is None else (f"{path.name}{_PACKED}", packed)


def _drawn_of_weights(plan: Plan) -> list[Path]:
    """Return the files drawn from trained heads; none if the images are photographs."""
    table = plan.detail_table
    if table is None or not isinstance(plan.scale.data[table.dataset], ShapesData):
        return []
    return [path for pattern in _DRAWN_OF_WEIGHTS for path in sorted(plan.results.glob(pattern))]


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


# --- restoring ---------------------------------------------------------------------------------


def restore(plan: Plan, archives: Sequence[Path]) -> Restored:
    """Write stored runs into a plan's run folders, so that Snakemake treats them as done.

    Snakemake makes a file again if one of its inputs is newer. Therefore data must be indexed and
    shipped starting weights must be in place before this call, and all restored files get the same
    modification time, that of the call. The record of a run is written last: if a call is
    interrupted, the next one restores the rest.

    Args:
        plan: the plan whose run folders are written.
        archives: oldest first; if two have the same run, the later archive counts.

    Raises:
        CannotRestore: there is no archive, an archive is unreadable or of another format, a run's
            newest archive is of other evaluation code, or data or starting weights are missing.
    """
    if not archives:
        raise CannotRestore("no archive runs-<n>.tar.xz there: `make reference KEEP_RUNS=1` stores")
    contents = {path: _read(path) for path in archives}
    _require_same_format(contents)
    runs = _newest(contents)
    _require_same_evaluation(
        {path: contents[path] for (run_id, _), (path, _) in runs.items() if run_id in plan.runs}
    )
    ordered = sorted(runs, key=lambda key: key[0] not in plan.initial_runs)
    _require_ready(plan, ordered)
    restored = Restored([], [], [])
    now, code = time.time_ns(), code_digest(TRAINING_CODE)
    for run_id, seed in ordered:
        _, files = runs[run_id, seed]
        if run_id not in plan.trainings:
            restored.refused.append((run_id, seed, "the plan has no such run"))
            continue
        folder = plan.run_folder(run_id, seed)
        if folder.record.exists() or folder.work.path.exists():
            restored.there.append((run_id, seed))
            continue
        others = other_versions(plan, run_id, seed, json.loads(files[RECORD]), code)
        if others:
            restored.refused.append((run_id, seed, f"made with other {' and other '.join(others)}"))
            continue
        for name, content in sorted(files.items(), key=lambda file: file[0] == RECORD):
            _write(folder.path / name, content, now)
        restored.written.append((run_id, seed))
    folders = [plan.run_folder(*key) for key in (*restored.written, *restored.there)]
    if any(one.record.exists() and not has_weights(one) for one in folders):
        for name, content in _drawn(contents.values()).items():
            if not (plan.results / name).exists():
                _write(plan.results / name, content, now)
    return restored


def _drawn(contents: Iterable[Content]) -> dict[str, bytes]:
    """Files drawn from weights, by path in the results folder; later archives take precedence."""
    return {name: file for one in contents for name, file in one.get(_SHOWN, {}).items()}


def _write(path: Path, content: bytes, modified: int) -> None:
    """Write a stored file; `modified` is its modification time in nanoseconds."""
    with atomic_path(path.with_name(path.name.removesuffix(_PACKED))) as temporary:
        if path.name.endswith(_PACKED):
            np.savez_compressed(temporary, **unpack(content))
        else:
            temporary.write_bytes(content)
        os.utime(temporary, ns=(modified, modified))


def _require_same_format(contents: Mapping[Path, Content]) -> None:
    for path, content in contents.items():
        found = json.loads(content[""][_ABOUT])["format"]
        if found != FORMAT:
            raise CannotRestore(f"{path}: format {found}; allowed is {FORMAT}")


def _require_same_evaluation(contents: Mapping[Path, Content]) -> None:
    now = code_digest(EVALUATION_CODE)
    for path, content in contents.items():
        found = json.loads(content[""][_ABOUT])["evaluation_code"]
        if found != now:
            raise CannotRestore(
                f"{path}: evaluated by other code ({found}) than the present ({now}); check out "
                "the commit that run.yaml names, or measure anew"
            )


def _require_ready(plan: Plan, runs: Sequence[RunKey]) -> None:
    """Raise CannotRestore if an index is missing, or starting weights that no archive has.

    Snakemake would make them after the restored runs, and then train these runs again.
    """
    missing = []
    for run_id, seed in runs:
        if run_id not in plan.trainings:
            continue
        run, initial = plan.run(run_id, seed), plan.initial_training(run_id, seed)
        missing.append(None if run.index.manifest.exists() else str(run.index.manifest))
        if initial is None or initial.folder.weights.exists():
            continue
        if (initial.run_id, initial.seed) not in runs:
            missing.append(str(initial.folder.weights))
    names = list(dict.fromkeys(filter(None, missing)))
    if names:
        raise CannotRestore(
            f"{', '.join(names)}: not there yet, and Snakemake trains everything again that is "
            "older; first `snakemake --cores 2 --until index start fetch`, with the same --config "
            "or --configfile"
        )


# --- reading an archive ------------------------------------------------------------------------


def _newest(contents: Mapping[Path, Content]) -> dict[RunKey, tuple[Path, dict[str, bytes]]]:
    """Return for each run the last archive that has it, and its files there."""
    return {
        key: (path, files)
        for path, content in contents.items()
        for key, files in _runs_in(content).items()
    }


def _runs_in(content: Content) -> dict[RunKey, dict[str, bytes]]:
    """Return the files of each run in an archive, by run id and seed."""
    folders = {name: files for name, files in content.items() if name not in ("", _SHOWN)}
    runs = {RunFolder(Path(name)): files for name, files in folders.items()}
    return {(run.run_id, run.seed): files for run, files in runs.items()}


def _read(path: Path) -> Content:
    """Read the files of an archive.

    Raises:
        CannotRestore: the file is not an archive of this module, or is damaged.
    """
    found: Content = {}
    try:
        with tarfile.open(path, "r:xz") as archive:
            for entry in archive:
                file = archive.extractfile(entry)
                if file is None or ".." in Path(entry.name).parts or entry.name.startswith("/"):
                    raise CannotRestore(f"{path}: {entry.name}: not a file inside of a folder")
                depth = 1 if entry.name.startswith(f"{_SHOWN}/") else -1
                parts = entry.name.split("/")
                folder, name = "/".join(parts[:depth]), "/".join(parts[depth:])
                found.setdefault(folder, {})[name] = file.read()
    except (tarfile.TarError, EOFError, OSError) as error:
        raise CannotRestore(f"{path}: cannot be read ({error}); get it back from Git") from None
    return found


@dataclass(frozen=True)
class StoredEvaluation:
    """One evaluation in an archive.

    Attributes:
        record: the run's record.
        metrics: the content of the metrics file.
        detections: COCO-format results.
    """

    run_id: str
    seed: int
    decode: str
    record: dict[str, Any]
    metrics: dict[str, Any]
    detections: list[dict[str, Any]]


def stored_evaluations(path: Path) -> list[StoredEvaluation]:
    """Return every evaluation in an archive.

    Raises:
        CannotRestore: the archive is damaged.
    """
    prefix, suffix = RunFolder(Path()).detections("*").name.split("*")
    found = []
    for (run_id, seed), files in _runs_in(_read(path)).items():
        for name in files:
            decode, is_detections, _ = name.removeprefix(prefix).partition(suffix)
            if not name.startswith(prefix) or not is_detections:
                continue
            metrics = files[RunFolder(Path()).metrics(decode).name]
            record = json.loads(files[RECORD])
            parts = (record, json.loads(metrics), _results(name, files[name]))
            found.append(StoredEvaluation(run_id, seed, decode, *parts))
    return found


def _results(name: str, content: bytes) -> list[dict[str, Any]]:
    if name.endswith(_PACKED):
        columns = unpack(content)
    else:
        with np.load(io.BytesIO(content)) as file:
            columns = dict(file)
    names = [*columns]
    lists = (columns[one].tolist() for one in names)
    return [dict(zip(names, values, strict=True)) for values in zip(*lists, strict=True)]


def describe(restored: Restored) -> Iterator[str]:
    """Yield lines that tell a user what was restored."""
    yield (
        f"restored {len(restored.written)} trainings with their evaluations; "
        f"{len(restored.there)} were there already"
    )
    reasons: dict[str, int] = {}
    for *_, why in restored.refused:
        reasons[why] = reasons.get(why, 0) + 1
    for why, count in reasons.items():
        yield f"left out {count}: {why}"

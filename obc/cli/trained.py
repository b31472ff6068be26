"""Commands that apply or export trained runs: boxes in pictures, files for other programs."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_args

from obc.cli.options import Command, logged, read_plan
from obc.config.plan import Plan
from obc.config.reference import ReferenceFolder
from obc.config.run import Decode
from obc.io.typed_yaml import ConfigError


def _detect_arguments(parser: argparse.ArgumentParser) -> None:
    _add_evaluation(parser)
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE",
                        help="image file: JPEG, PNG, ..")  # fmt: skip
    parser.add_argument("--score", type=float, default=0.3, metavar="S",
                        help="smallest score of a drawn box, 0 to 1; detections.json always has "
                        "all boxes; default: 0.3")  # fmt: skip
    parser.add_argument("--out", type=Path, default=Path("detections"), metavar="FOLDER",
                        help="output folder. It gets detections.json and for each IMAGE a drawing, "
                        "<name of IMAGE>.png, or <name of IMAGE>-<position>.png if several have "
                        "the name. Files of these names are replaced; if one of them is an IMAGE, "
                        "the command stops before it detects. default: detections")  # fmt: skip


def detect(options: argparse.Namespace) -> None:
    """Detect in pictures with a trained run; write drawn pictures and COCO JSON."""
    missing = [str(path) for path in options.images if not path.is_file()]
    if missing:
        raise ConfigError(f"no such image: {', '.join(missing)}; IMAGE names files")
    if not 0 <= options.score <= 1:
        raise ConfigError(f"--score {options.score}: allowed is 0 to 1")
    plan, run_id, seed, decode = _chosen(options)
    options.run_id, options.seed = run_id, seed
    with logged(options, options.out / "detect.log") as terminal:
        from obc.training.gpu_lease import lease

        with lease(min(1, plan.gpus_per_run), terminal):  # before MMEngine is imported
            from obc.evaluation.detect_images import DETECTIONS, detect_images

            chosen = (plan, run_id, seed, decode)
            drawn = detect_images(*chosen, options.images, options.out, options.score, terminal)
        for path in drawn:
            print(path, file=terminal)
        print(f"all boxes: {options.out / DETECTIONS}", file=terminal)


def _export_arguments(parser: argparse.ArgumentParser) -> None:
    _add_evaluation(parser, nargs="?")
    parser.add_argument("--format", required=True, choices=EXPORTS,
                        help="coco and test-dev need RUN; metafile: of RUN or of all trained runs; "
                        "ro-crate and reference: of all results, without RUN")  # fmt: skip
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="output folder of coco, test-dev and reference; default: the run's folder (coco, "
        "test-dev), results/reference/<name of the results> (reference); reference replaces a "
        "folder that it made before, and refuses other folders that are not empty",
    )
    parser.add_argument(
        "--made-by",
        nargs="+",
        metavar="COMMAND",
        help="reference only: commands that made the results, each in quotes; default: those in "
        "the folder's run.yaml, as for --purpose and --finding",
    )
    parser.add_argument("--purpose", help="reference only: purpose of the results")
    parser.add_argument("--finding", help="reference only: a sentence with the main finding")
    parser.add_argument(
        "--keep-runs",
        action="store_true",
        help="reference only: also store finished runs, without their weights; `obc import` "
        "restores these runs",
    )
    parser.add_argument("--root", type=Path, default=Path("data/coco-test-dev"), metavar="FOLDER",
                        help="test-dev only: folder with annotations/image_info_test-dev2017.json "
                        "and test2017/; default: data/coco-test-dev, where `obc fetch "
                        "coco_test_info coco_test2017` puts them")  # fmt: skip


def export(options: argparse.Namespace) -> None:
    """Write a run for other programs."""
    if options.run_id is None and options.format in ("coco", "test-dev"):
        raise ConfigError(f"--format {options.format} is of one run; name it: obc export RUN ..")
    EXPORTS[options.format](options)


def _coco(options: argparse.Namespace) -> None:
    from obc.evaluation.coco_export import DETECTIONS, GROUND_TRUTH, export_coco

    plan, run_id, seed, decode = _chosen(options)
    folder = options.out or plan.run_folder(run_id, seed) / f"coco-{decode}"
    export_coco(plan, run_id, seed, decode, folder)
    print(f"{folder / GROUND_TRUTH}\n{folder / DETECTIONS}")


def _test_dev(options: argparse.Namespace) -> None:
    plan, run_id, seed, decode = _chosen(options)
    options.run_id, options.seed = run_id, seed
    folder = plan.run_folder(run_id, seed)
    with logged(options, folder.submission_log(decode)) as terminal:
        from obc.training.gpu_lease import lease

        with lease(min(1, plan.gpus_per_run), terminal):  # before MMEngine is imported
            from obc.evaluation.test_dev import submit

            out = options.out or folder.path
            path = submit(plan, run_id, seed, decode, options.root, out, terminal)
        print(f"for COCO's evaluation server: {path}", file=terminal)


def _metafile(options: argparse.Namespace) -> None:
    from obc.operations.metafile import write_metafile

    if options.run_id is None:
        plan = read_plan(options)
        runs = [run for run_id in plan.runs for run in plan.seeded(run_id)]
        path = plan.results / METAFILE
    else:
        plan, run_id, seed, _ = _chosen(options)
        runs = [plan.run(run_id, seed)]
        path = runs[0].folder / METAFILE
    write_metafile(plan, runs, path)
    print(path)


def _ro_crate(options: argparse.Namespace) -> None:
    from obc.operations.ro_crate import write_crate

    if options.run_id is not None:
        raise ConfigError(f"--format ro-crate describes all results; leave out {options.run_id}")
    print(write_crate(read_plan(options)))


def _reference(options: argparse.Namespace) -> None:
    from obc.operations.reference import Told, write_reference
    from obc.operations.reference_readme import ROOT, has_place_for_readme, write_readme
    from obc.report.shown_images import shows_images

    if options.run_id is not None:
        raise ConfigError(f"--format reference is of all results; leave out {options.run_id}")
    plan = read_plan(options)
    target = ReferenceFolder(options.out or ROOT / plan.results.name)
    commands = tuple(options.made_by) if options.made_by else None
    told = Told(commands, options.purpose, options.finding)
    write_reference(plan, target, told, options.keep_runs, shows_images)
    root = target.path.parent
    written = [target, *([write_readme(root)] if has_place_for_readme(root) else [])]
    print(f"to commit: {_listed(written)}")


EXPORTS = {
    "coco": _coco,
    "test-dev": _test_dev,
    "metafile": _metafile,
    "ro-crate": _ro_crate,
    "reference": _reference,
}
METAFILE = "metafile.yml"


def _add_evaluation(parser: argparse.ArgumentParser, **run: Any) -> None:
    """Add the arguments that name an evaluation; `run`: keyword arguments of argument `RUN`."""
    parser.add_argument("run_id", metavar="RUN", help="run id, or its beginning", **run)
    parser.add_argument("--seed", type=int, help="seed of the run; default: the run's first seed")
    parser.add_argument("--decode", choices=get_args(Decode),
                        help="how the head's logits become offsets; default: the run's first "
                        "decoding")  # fmt: skip


def _chosen(options: argparse.Namespace) -> tuple[Plan, str, int, Decode]:
    """Return the plan, and the run id, seed and decoding that the options name.

    Raises:
        ConfigError: the plan does not have the run, or the run does not have the seed or decoding.
    """
    from obc.operations.why import find_run

    plan = read_plan(options)
    run_id = find_run(plan, options.run_id)
    if run_id not in plan.runs:
        raise ConfigError(f"{run_id}: has starting weights only, which nothing evaluates")
    seeds, decodes = plan.seeds_of(run_id), plan.runs[run_id].resolved.spec.decodes
    seed = seeds[0] if options.seed is None else options.seed
    decode = options.decode or decodes[0]
    if seed not in seeds:
        raise ConfigError(f"--seed {seed}: {run_id} is trained with {_listed(seeds)} only")
    if decode not in decodes:
        raise ConfigError(f"--decode {decode}: {run_id} has {_listed(decodes)} only")
    return plan, run_id, seed, decode


def _listed(names: Iterable[object]) -> str:
    return ", ".join(map(str, names))


COMMANDS = (
    Command(
        "detect", "draw the detections of a trained run in your pictures", "for you",
        _detect_arguments, detect,
        """\
obc detect voc-faster-r50-obc-a3-n20-k2 photo.jpg    writes to the folder `detections`
obc detect results/mini/plan.json voc-faster-r50-l2 *.jpg --score 0.5 --out found""",
    ),
    Command(
        "export", "write runs or results for other programs: COCO JSON, RO-Crate, ..", "for you",
        _export_arguments, export,
        """\
obc export voc-faster-r50-l2 --format coco                    COCO JSON: ground truth, detections
obc export coco-faster-r50-obc-a3-n20-k2 --format test-dev    a zip for COCO's test-dev server
obc export --format metafile    lists every trained run in the format of MMDetection's model zoo
obc export --format ro-crate    describes the results folder as a Research Object Crate
obc export --format reference --made-by "make reproduce SCALE=mini" --purpose "Tables 1-5"
                                copies the small files of the results into a folder to commit""",
    ),
)  # fmt: skip

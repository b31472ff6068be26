"""Commands about data: fetch published data, draw the embedded scenes, index a data set."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from pydantic import ValidationError

from obc.cli.options import Command, read_plan, require_known
from obc.cli.runs import add_configuration, configured_plan
from obc.datasets.settings import ShapesData
from obc.io.typed_yaml import ConfigError, explain


def _fetch_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="*", metavar="NAME",
                        help="entry of config/datasets.yaml, e.g. voc2007; default: all entries "
                        "that the scale needs")  # fmt: skip
    parser.add_argument("--list", action="store_true",
                        help="download nothing; print which files to download by hand, and where "
                        "to put them")  # fmt: skip
    add_configuration(parser)


def fetch(options: argparse.Namespace) -> None:
    """Download, check and unpack what config/datasets.yaml names."""
    from obc.datasets.published.catalogue import read_datasets
    from obc.datasets.published.fetch import fetch, offline_list

    datasets = read_datasets(options.config_folder / "datasets.yaml")
    require_known("published data or weights", options.names, list(datasets))
    entries = [datasets[name] for name in options.names]
    if not entries:
        plan = configured_plan(options)
        entries = list(plan.published.values())
        names = ", ".join(plan.published)
        print(f"scale {plan.scale.name} needs {names or 'nothing that is published'}")
    if options.list:
        for line in offline_list(entries):
            print(line, flush=True)
        return
    for entry in entries:
        print(f"{entry.name}: there, says {fetch(entry, Path(), sys.stderr)}")


def _draw_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folder", type=Path, metavar="FOLDER", help="output folder; replaced if it exists"
    )
    parser.add_argument("--settings", required=True, metavar="JSON",
                        help="settings of the images, as JSON with the keys of data.voc in a "
                        "scale's file")  # fmt: skip
    parser.add_argument("--workers", type=int, default=1, metavar="N",
                        help="processes that draw images; default: 1")  # fmt: skip


def draw(options: argparse.Namespace) -> None:
    """Draw an embedded data set."""
    from obc.datasets.drawn.shapes import generate
    from obc.io.files import write_json

    try:
        data = ShapesData.model_validate_json(options.settings)
    except ValidationError as error:
        raise ConfigError(explain(error, Path("--settings"), ShapesData)) from None
    started = time.monotonic()
    generate(data, options.folder, workers=options.workers)
    seconds = round(time.monotonic() - started, 2)
    # Written last and beside the folder: if this file exists, the data set is complete.
    write_json(
        Path(f"{options.folder}.json"), {"data": data.model_dump(mode="json"), "seconds": seconds}
    )


def _index_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dataset", choices=("voc", "coco", "init"),
                        help="data set of the plan; init: the images that starting weights are "
                        "trained on")  # fmt: skip
    parser.add_argument("--workers", type=int, default=1, metavar="N",
                        help="processes that check images; default: 1")  # fmt: skip


def index(options: argparse.Namespace) -> None:
    """Check a data set, and write its annotations and manifest."""
    from obc.datasets.index import index_dataset

    plan = read_plan(options)
    name = options.dataset
    manifest = index_dataset(
        plan.scale.data[name],
        plan.data_folder(name),
        plan.index_folder(name),
        workers=options.workers,
        image_scale=plan.scale.sizes.image_scale[name],
        apart_from=plan.index_apart(name),
    )
    for split, counts in manifest["splits"].items():
        numbers = ", ".join(f"{count} {what}" for what, count in counts.items() if what != "sha256")
        print(f"{name} {split}: {numbers}")


COMMANDS = (
    Command(
        "fetch", "download, check and unpack published data and weights", "for you",
        _fetch_arguments, fetch,
        """\
obc fetch --scale paper              all data and weights that a scale needs
obc fetch voc2007 voc2012 resnet50   only the named entries
obc fetch --list --scale paper       for a machine without a network: prints URLs, sizes, checksums
                                     and where to put the files; `obc fetch` then checks and
                                     unpacks them
An interrupted download continues with the same call. An existing folder is used in place.""",
        reads_plan=False,
    ),
    Command(
        "draw", "generate a synthetic data set", "for the workflow", _draw_arguments, draw,
        """\
obc draw data/shapes/mine --settings "$(cat settings.json)" --workers 2""",
        reads_plan=False,
    ),
    Command(
        "index", "check a data set and write its annotations and manifest", "for the workflow",
        _index_arguments, index,
        """\
obc index results/smoke/plan.json voc --workers 2""",
    ),
)  # fmt: skip

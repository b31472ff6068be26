"""The `obc` command: one subcommand a step of the DAG, each usable by hand."""

from __future__ import annotations

import argparse
import io
import sys
from pathlib import Path
from typing import get_args

from obc.cli import steps
from obc.config.run import Decode
from obc.io.errors import SuiteError

EXAMPLES = """\
examples:
  obc plan                                   what a plain `snakemake` would do
  obc plan --set scale=mini 'seeds=[0,1]'
  obc plan --set scale=smoke --out results/smoke/plan.json
  obc train results/smoke/plan.json voc-faster-r50-smoothl1-b1-1234abcd --seed 0

`snakemake --cores N` runs all of this in the right order; see README.md.
"""
FETCH = """\
Get what config/datasets.yaml names: VOC, COCO, ImageNet weights. A workflow at scale `paper` calls
this itself. An interrupted call goes on where it stopped; a folder that is there is used in place.

examples:
  obc fetch --scale paper                everything that a scale needs
  obc fetch voc2007 voc2012 resnet50     some of it
  obc fetch --list --scale paper         without a network: what to download elsewhere (URL, size,
                                         checksum) and where to put it; `obc fetch` then checks and
                                         unpacks it, and so does the workflow
"""
TRACE = """\
Print a number of a table with the metrics file that it was read from and what its training was made
with, for each seed. Without a table: read every number of every written table, and every metrics
file behind it, and compare.

examples:
  obc trace results/smoke/plan.json table1 --row "Bin Classification" --metric AP90
  obc trace results/smoke/plan.json table1 --row full --metric AP
  obc trace results/smoke/plan.json
"""


def main(arguments: list[str] | None = None) -> int:
    """Run one subcommand; 0 on success, 1 with a message on any error that a person can mend.

    Ctrl-C is 130, as in a shell; a training that a signal stopped, once saved, exits by itself.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a letter that a terminal lacks stops nothing
            stream.reconfigure(errors="backslashreplace")
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except (SuiteError, OSError) as error:
        print(f"obc {options.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


# --- the parser --------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="obc",
        description="Reproduction of Offset Bin Classification (CVPR 2020): one step at a time.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="STEP")

    plan = commands.add_parser(
        "plan", help="validate config/ and show what would run and cost, or write the plan"
    )
    plan.add_argument("--table", nargs="+", default=[], metavar="NAME",
                      help="only what these need, e.g. 3, table3 or figure5")  # fmt: skip
    plan.add_argument("--gpu", metavar="NAME", help="hours of which device, e.g. h100 or cpu")
    plan.add_argument("--out", type=Path, metavar="FILE", help="write the plan here, print nothing")
    plan.set_defaults(run=steps.do_plan)
    fetch = commands.add_parser(
        "fetch", help="download, check and unpack published data and weights",
        description=FETCH, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    fetch.add_argument("names", nargs="*", metavar="NAME", help="default: what the scale needs")
    fetch.add_argument("--list", action="store_true",
                       help="fetch nothing, print what to put where by hand")  # fmt: skip
    fetch.set_defaults(run=steps.do_fetch)
    for step in (plan, fetch):
        step.add_argument("--scale", metavar="NAME", help="short for --set scale=NAME")
        step.add_argument("--set", action="extend", nargs="*", default=[], metavar="KEY=VALUE",
                          help="as snakemake's --config (keys: docs/configuration.md)")  # fmt: skip
        step.add_argument("--config-folder", type=Path, default=Path("config"), metavar="FOLDER")

    draw = commands.add_parser("draw", help="draw an embedded data set")
    draw.add_argument("folder", type=Path, metavar="FOLDER", help="is made, or replaced")
    draw.add_argument("--settings", required=True, metavar="JSON", help="as data.voc of a scale")
    draw.set_defaults(run=steps.do_draw)
    index = commands.add_parser("index", help="check a data set, write annotations and manifest")
    _add_plan(index)
    index.add_argument("dataset", choices=("voc", "coco", "init"))
    index.set_defaults(run=steps.do_index)
    for step in (draw, index):
        step.add_argument("--workers", type=int, default=1, metavar="N", help="processes")

    train = commands.add_parser(
        "train", help="train one run, or go on with it where it was interrupted"
    )
    evaluate = commands.add_parser("evaluate", help="evaluate one decoding of a trained run")
    submit = commands.add_parser("submit", help="write a submission to COCO's test-dev server")
    for step, run in (
        (train, steps.do_train),
        (evaluate, steps.do_evaluate),
        (submit, steps.do_submit),
    ):
        _add_plan(step)
        step.add_argument("run_id", metavar="RUN", help="a run id; `obc plan` lists them")
        step.add_argument("--seed", type=int, default=0)
        step.set_defaults(run=run)
    train.add_argument("--again", action="store_true", help="also if it is trained already")
    train.add_argument("--wait", type=float, default=0.0, metavar="SECONDS",
                       help="for a process that trains this run, e.g. is stopping")  # fmt: skip
    for step in (evaluate, submit):
        step.add_argument("--decode", required=True, choices=get_args(Decode))
    submit.add_argument("--root", type=Path, default=Path("data/coco-test-dev"), metavar="FOLDER",
                        help="annotations/image_info_test-dev2017.json and test2017/; the default "
                        "is where `obc fetch coco_test_info coco_test2017` puts them")  # fmt: skip

    for name, run, text in (
        ("table", steps.do_table, "write tables (csv, md, tex); every run must be there"),
        ("figure", steps.do_figure, "draw figures (svg, png)"),
    ):
        step = commands.add_parser(name, help=text)
        _add_plan(step)
        step.add_argument("names", nargs="*", metavar="NAME", help="e.g. table1; default: all")
        step.set_defaults(run=run)
        if name == "table":
            step.add_argument("--long", action="store_true", help="write all.csv, the tidy table")

    losses = commands.add_parser("losses", help="draw the losses and their gradients (svg, png)")
    losses.add_argument("folder", type=Path, metavar="FOLDER", help="where losses.svg is to lie")
    losses.set_defaults(run=steps.do_losses)

    claims = commands.add_parser("claims", help="judge what the paper claims by what was measured")
    _add_plan(claims)
    claims.add_argument("--partial", action="store_true",
                        help="also while runs are missing, into the folder `partial`")  # fmt: skip
    claims.add_argument("--workers", type=int, default=1, metavar="N", help="processes")
    claims.set_defaults(run=steps.do_claims)

    partial = commands.add_parser("partial", help="every table with what there is so far")
    _add_plan(partial)
    partial.set_defaults(run=steps.do_partial)

    compared = commands.add_parser("compared", help="rows of a table against each other")
    _add_plan(compared)
    compared.add_argument("table", metavar="TABLE", help="one whose rows say `against`")
    compared.add_argument("--partial", action="store_true",
                          help="with what there is; into results/<scale>/partial")  # fmt: skip
    compared.add_argument("--workers", type=int, default=1, metavar="N", help="processes")
    compared.set_defaults(run=steps.do_compared)

    status = commands.add_parser("status", help="how far every run is, and when all are done")
    _add_plan(status)
    status.add_argument("--watch", action="store_true",
                        help="until all are done; in a log, a line for each change")  # fmt: skip
    status.set_defaults(run=steps.do_status)

    why = commands.add_parser("why", help="why a run is missing, stale or failed; what to do")
    _add_plan(why)
    why.add_argument("run_id", metavar="RUN", help="a run id or its beginning")
    why.add_argument("--seed", type=int, help="default: the first that is not done")
    why.set_defaults(run=steps.do_why)

    doctor = commands.add_parser("doctor", help="check this machine, and the data of a plan")
    doctor.add_argument("plan", type=Path, metavar="PLAN", nargs="?",
                        help="results/<scale>/plan.json; default: only the machine")  # fmt: skip
    doctor.set_defaults(run=steps.do_doctor)

    own = commands.add_parser("import", help="evaluate one's own weights as a run of the plan")
    own.add_argument("checkpoint", type=Path, metavar="CHECKPOINT",
                     help="a state dict, or MMEngine's checkpoint with one")  # fmt: skip
    own.add_argument("--plan", type=Path, required=True, help="results/<scale>/plan.json")
    own.add_argument("--run", dest="run_id", required=True, help="a run id or its beginning")
    own.add_argument("--seed", type=int, default=0)
    own.add_argument("--again", action="store_true", help="replace weights that were trained here")
    own.set_defaults(run=steps.do_import)

    for name, run, text in (
        (
            "curves",
            steps.do_curves,
            "draw precision against recall, and AP against IoU (svg, png, csv)",
        ),
        (
            "diagnosis",
            steps.do_diagnosis,
            "how far found boxes are off, as a table and as a figure",
        ),
    ):
        step = commands.add_parser(name, help=text)
        _add_plan(step)
        step.add_argument("table", nargs="?", default="table1", metavar="TABLE",
                          help="whose rows; default: table1")  # fmt: skip
        step.set_defaults(run=run)
    figure4 = commands.add_parser("figure4", help="draw how bins are made (svg, png, csv)")
    figure4.add_argument("folder", type=Path, metavar="FOLDER", help="where figure4.svg is to lie")
    figure4.set_defaults(run=steps.do_figure4)
    figure6 = commands.add_parser("figure6", help="draw what two rows find in single test images")
    _add_plan(figure6)
    figure6.set_defaults(run=steps.do_figure6)
    training = commands.add_parser("training-curves", help="draw losses against iterations")
    _add_plan(training)
    training.add_argument("table", nargs="?", default="table1", help="whose runs; default: table1")
    training.set_defaults(run=steps.do_training_curves)
    inside = commands.add_parser(
        "inside", help="draw what trained heads think: bin probabilities, stages, calibration"
    )
    _add_plan(inside)
    inside.add_argument("--run", dest="run_id", metavar="RUN",
                        help="a run id or its beginning; default: those of Table 1")  # fmt: skip
    inside.add_argument("--seed", type=int, help="default: the run's first")
    inside.add_argument("--image", type=int, metavar="ID",
                        help="of the validation set; default: many, by rule")  # fmt: skip
    inside.set_defaults(run=steps.do_inside)
    trace = commands.add_parser(
        "trace", help="where a number comes from; without a table: compare every one",
        description=TRACE, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    _add_plan(trace)
    trace.add_argument("table", nargs="?", metavar="TABLE", help="e.g. table1")
    trace.add_argument("--row", metavar="ROW", help="its label, index (from 0) or key")
    trace.add_argument("--metric", metavar="METRIC", help="e.g. AP90")
    trace.set_defaults(run=steps.do_trace)

    provenance = commands.add_parser("provenance", help="write all of it (provenance.json)")
    _add_plan(provenance)
    provenance.set_defaults(run=steps.do_provenance)

    report = commands.add_parser(
        "report", help="one HTML file of what there is so far, and provenance.json"
    )
    _add_plan(report)
    report.add_argument("--captions", type=Path, default=Path("workflow/report"), metavar="FOLDER",
                        help="<name>.rst for each table and figure")  # fmt: skip
    report.set_defaults(run=steps.do_report)
    return parser


def _add_plan(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("plan", type=Path, metavar="PLAN", help="results/<scale>/plan.json")


if __name__ == "__main__":
    sys.exit(main())

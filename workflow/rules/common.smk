import json
import os
import re
import shlex
import sys
from pathlib import Path
from typing import get_args

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger
from snakemake.settings.types import DeploymentMethod

from obc.datasets.index_folder import IndexFolder
from obc.datasets.published.catalogue import of_data, read_datasets
from obc.config.downloads import of_run
from obc.io.errors import SuiteError
from obc.config.run import Decode
from obc.config.run_folder import RunFolder
from obc.training.memory import KEPT_MEMORY
from obc.config.load_plan import load_plan
from obc.runs.versions import (
    DRAWING_CODE,
    EVALUATION_CODE,
    INDEX_CODE,
    PACKAGE,
    TRAINING_CODE,
    code_behind,
    code_digest,
)
from obc.runs.records import is_imported
from obc.report.inside.shown_runs import shown_runs
from obc.datasets.settings import ShapesData
from obc.operations.plan_page import summary
from obc.operations.doctor import name_user_without_passwd_entry
from obc.operations.workflow_display import attach
from obc.operations.slurm_jobs import JobsLeftOver, SlurmSilent, cancel_left_over, job_comment

# `obc` lies beside the Python that runs Snakemake, also when its environment is not activated; in a
# container it is the container's. Snakemake formats the prefix, hence the doubled braces.
PROGRAMS = shlex.quote(str(Path(sys.executable).parent)).replace("{", "{{").replace("}", "}}")
name_user_without_passwd_entry()

for folder in (Path.cwd(), Path(workflow.basedir)):
    if re.search("[{}\n]", str(folder)):
        raise WorkflowError(
            f"the project lies in {str(folder)!r}; Snakemake takes braces and line breaks in a path "
            "for something else, so rename the folder"
        )

try:
    PLAN = load_plan(config)
    DATASETS = read_datasets()
except SuiteError as error:
    raise WorkflowError(str(error)) from None

# None where Snakemake shows itself what it does, e.g. in a dry run and in a job on a cluster.
CAPTIONS = Path(os.path.relpath(Path(str(workflow.current_basedir)).parent / "report"))
DISPLAY = (
    attach(PLAN, logger, workflow.output_settings, CAPTIONS) if workflow.is_main_process else None
)
IN_CONTAINER = DeploymentMethod.APPTAINER in workflow.deployment_settings.deployment_method
shell.prefix(
    f"set -euo pipefail; export PATH={'' if IN_CONTAINER else f'{PROGRAMS}:'}$PATH "
    + " ".join(f"{name}={value}" for name, value in KEPT_MEMORY.items())
    + "; "
    + (DISPLAY.redirection if DISPLAY else "")
)

say = DISPLAY.say if DISPLAY else logger.info
for line in summary(PLAN):
    say(line)


# Jobs read this file and not config/, so that editing config/ changes nothing under their feet. It
# is nobody's input: what matters of it to a job is in its wildcards and params.
onstart:
    PLAN.save(Path(PLAN_FILE))
    cancel_jobs_of_a_killed_snakemake()
    if DISPLAY:
        DISPLAY.start(jobs_to_run(), threads_at_once())


onsuccess:
    if DISPLAY:
        DISPLAY.end()


# Also after Ctrl-C: the page has what there is, and a line says how to go on.
onerror:
    if DISPLAY:
        DISPLAY.write_page()
        DISPLAY.end()


RESULTS = PLAN.results
# Text, as every param: Snakemake does not record a Path, so that it would never trigger.
PLAN_FILE = str(RESULTS / "plan.json")
KEEP_WEIGHTS = PLAN.scale.runtime.keep_weights
RUN = RunFolder.of(Path("{results}"), "{run_id}", "{seed}")
INDEX = IndexFolder(Path("{results}/data/{index}"))

# Weights that `obc import` put there are files of the user: nothing makes them, nothing renews them.
# Looked for once a call, when it makes its DAG. A job reads this file again, but is told what to
# make, so weights that are imported while a call has yet to train their run are trained over.
IMPORTED = [
    f"{run_id}/{run.folder.path.name}/"
    for run_id in PLAN.runs
    for run in PLAN.seeded(run_id)
    if is_imported(run.folder)
]
TRAINABLE = f"(?!{'|'.join(IMPORTED)})" if IMPORTED else ""


def one_of(names):
    """A wildcard's constraint to some names; where there is none, nothing fits."""
    return "|".join(map(re.escape, names)) or "(?!)"


wildcard_constraints:
    # Starting weights lie in a folder that results of several labels share.
    results=one_of(map(str, {RESULTS, PLAN.shared})),
    run_id=one_of(PLAN.trainings),
    seed=r"\d+",
    decode=one_of(get_args(Decode)),
    index=one_of(PLAN.index_folder(name).path.name for name in PLAN.scale.data),


def cancel_jobs_of_a_killed_snakemake():
    """This Snakemake holds the lock on what it will make: SLURM jobs for that are nobody's."""
    if not Path(".snakemake/slurm_logs").exists():
        return  # nothing was ever submitted from this folder
    jobs = {job_comment(job.rule.name, job.wildcards) for job in workflow.dag.needrun_jobs()}
    try:
        cancelled = cancel_left_over(Path.cwd(), jobs)
    except SlurmSilent as error:
        # Perhaps there are none, and a training that is still running holds its run's lock.
        logger.warning(f"no look for SLURM jobs of an earlier call: {error}")
        return
    except JobsLeftOver as error:
        raise WorkflowError(str(error)) from None
    if cancelled:
        say(f"cancelled SLURM jobs of an earlier call: {', '.join(cancelled)}")


def jobs_to_run():
    """Rule, wildcards and threads of what this call runs, by Snakemake's job id."""
    return {
        workflow.dag.jobid(job): (job.rule.name, dict(job.wildcards_dict), job.threads)
        for job in workflow.dag.needrun_jobs()
        if not job.is_norun
    }


def threads_at_once():
    """How many threads run together on this machine; 0 where jobs are submitted to a cluster."""
    if not workflow.local_exec:
        return 0
    if not PLAN.gpus_per_run:
        return workflow.cores
    gpus = workflow.global_resources.get("gpu").value
    return max(1, min(workflow.cores, PLAN.gpus_per_run if gpus is None else gpus))


def shown_by(module):
    """Digest of the module that writes an output, with what it imports to compute and draw it."""
    return code_digest(code_behind(module))


def shapes_settings(folder):
    """What `obc draw` needs; not the plan, because scales and result folders share drawn data."""
    by_folder = {PLAN.data_folder(name).name: data for name, data in PLAN.scale.data.items()}
    return json.dumps(by_folder[folder].drawing)


def image_scale(dataset):
    """What images of a data set are resized to: `obc index` checks that something is left."""
    return "x".join(map(str, PLAN.scale.sizes.image_scale[dataset]))


def dataset_of_index(index):
    return index.split("-")[0]


# A job starts before those that are for a later table; all that is for one table ends before the
# first training of the next. What has no priority is for the whole, or takes a moment.
NEXT_TABLE = 10
TRAINED, EVALUATED, SHOWN, PREPARED, ON_PAGE = range(1, 6)


def urgency(table, step):
    """Priority of a job that is for a table, by its place in the reading order."""
    if table not in PLAN.reading_order:
        return 0
    places = len(PLAN.reading_order) - PLAN.reading_order.index(table)
    return NEXT_TABLE * places + step


def urgency_of_run(run_id, step):
    """Priority of a job of a training, by the first table that needs it."""
    return urgency(PLAN.first_table(run_id), step)


def urgency_of_data(index):
    """Priority of what a data set is made of, by the first table whose trainings read it."""
    name = dataset_of_index(index)
    runs = [run_id for run_id in PLAN.trainings if PLAN.dataset_of(run_id) == name]
    return max((urgency_of_run(run_id, PREPARED) for run_id in runs), default=0)


def urgency_of_drawn(folder):
    """Priority of drawn images, which data sets with the same settings share."""
    names = [name for name in PLAN.scale.data if PLAN.data_folder(name).name == folder]
    return max((urgency_of_data(name) for name in names), default=0)


def urgency_of_fetched(published):
    """Priority of a published data set or of published weights."""
    of_sets = [
        urgency_of_data(name)
        for name, data in PLAN.scale.data.items()
        if published in (one.name for one in of_data(data, DATASETS))
    ]
    of_weights = [
        urgency_of_run(run_id, PREPARED)
        for run_id, run in PLAN.trainings.items()
        if (source := of_run(run.resolved, DATASETS)) and source.name == published
    ]
    return max([*of_sets, *of_weights], default=0)


def manifest_of(wildcards):
    return PLAN.index_folder(PLAN.dataset_of(wildcards.run_id)).manifest


def training_manifest(wildcards):
    """Data that were indexed anew are a reason to train again, unless weights are kept."""
    return ancient(manifest_of(wildcards)) if KEEP_WEIGHTS else manifest_of(wildcards)


def shipped(wildcards, what):
    """The file, or its digest, of the starting weights that stand for a training; "" where none."""
    return str(getattr(PLAN.shipped.get(wildcards.run_id), what, ""))


def initial_weights(wildcards):
    """The trained weights that a run starts from, if its scale has such."""
    path = PLAN.initial_weights(wildcards.run_id, int(wildcards.seed))
    if path is None:
        return []
    return ancient(path) if KEEP_WEIGHTS else path


def drawn(wildcards):
    """The stamp of an embedded data set; a folder of one's own is checked, not made."""
    dataset = dataset_of_index(wildcards.index)
    if isinstance(PLAN.scale.data[dataset], ShapesData):
        return [f"{PLAN.data_folder(dataset)}.json"]
    return []


def fetched(wildcards):
    """The stamps of what a published data set is made of, where it is not drawn or moved."""
    data = PLAN.scale.data[dataset_of_index(wildcards.index)]
    return [published.stamp for published in of_data(data, DATASETS)]


def fetched_weights(wildcards):
    """The stamp of the published weights that a run's network starts from, if it does."""
    published = of_run(PLAN.trainings[wildcards.run_id].resolved, DATASETS)
    if published is None:
        return []
    return ancient(published.stamp) if KEEP_WEIGHTS else published.stamp


def metrics_files(table):
    """The metrics files that a table reads."""
    return [evaluation.metrics for evaluation in PLAN.evaluations(table)]


def evaluation_files(table):
    """Everything that the evaluations of a table left: metrics, detections, and their test set."""
    return [
        PLAN.index_folder(PLAN.tables[table].dataset).val,
        *metrics_files(table),
        *(evaluation.detections for evaluation in PLAN.evaluations(table)),
    ]


def detections_files():
    """What is said of one table's detections; nothing where the plan has no such table."""
    if PLAN.detail_table is None:
        return []
    return [*rules.curves.output, *rules.diagnosis.output]


def claims_evaluations():
    """What claims are judged by: metrics and detections of the rows that they name, test sets."""
    runs = {
        (PLAN.run_of(row).run_id, row.decode) for row in PLAN.claimed_rows.values() if not row.cited
    }
    datasets = sorted({PLAN.tables[table].dataset for table, _ in PLAN.claimed_rows})
    return [
        *(PLAN.index_folder(dataset).val for dataset in datasets),
        *(
            path
            for run_id, decode in sorted(runs)
            for run in PLAN.seeded(run_id)
            for path in (run.folder.metrics(decode), run.folder.detections(decode))
        ),
    ]


def example_evaluations():
    """What Figure 6 is chosen from and drawn of: two evaluations and the test images' index."""
    table = PLAN.tables[PLAN.config.examples.table]
    first = [PLAN.of_row(index, row)[0] for index, row in PLAN.example_rows.items()]
    return [
        PLAN.index_folder(table.dataset).val,
        *(path for evaluation in first for path in (evaluation.metrics, evaluation.detections)),
    ]


def example_files():
    """What the target `figure6` makes; nothing where the plan lacks the table that it is of."""
    names = (
        [f"figure6.{kind}" for kind in ("svg", "png", "pdf", "csv")] if PLAN.example_rows else []
    )
    return [RESULTS / "figures" / name for name in names]


def training_records(table):
    """What says that the trainings behind a table are done; their logs lie beside it."""
    return list(dict.fromkeys(one.run.folder.record for one in PLAN.evaluations(table)))


def training_curve_files():
    """What the target `training_curves` makes; nothing where the plan lacks `detail_table`."""
    names = [f"training_curves.{kind}" for kind in ("svg", "png", "pdf", "csv")]
    return [RESULTS / "figures" / name for name in names] if PLAN.detail_table else []


def claims_files():
    """What the target `claims` makes; nothing where config/claims.yaml has no claim."""
    return [RESULTS / f"claims.{kind}" for kind in ("json", "md")] if PLAN.claims else []


def inside_inputs():
    """The weights that the figures look into, and the data set that they look at."""
    runs = [PLAN.run(*shown) for shown in shown_runs(PLAN).values()]
    return [*(run.folder.weights for run in runs), *{run.index.manifest for run in runs}]


def inside_files():
    """Nothing where the plan has no such runs, as with a COCO folder only."""
    return rules.inside.output if shown_runs(PLAN) else []


def inside_figure(name, title):
    """A figure as the report has it."""
    return report(
        RESULTS / "figures" / f"{name}.svg",
        caption=f"../report/{name}.rst",
        category="Diagnosis" if name == "calibration" else "Figures",
        labels={"figure": title},
    )


def table_files(table):
    """What a named target of the workflow makes."""
    files = [RESULTS / "tables" / f"{table}.{kind}" for kind in ("csv", "md", "tex")]
    if PLAN.tables[table].compared_rows:
        files += [RESULTS / "tables" / f"{table}_compared.{kind}" for kind in ("csv", "md")]
    if table in PLAN.figures:
        files += [RESULTS / "figures" / f"{table}.{kind}" for kind in ("svg", "png", "pdf")]
    return files


def detail_files():
    """Figures of the trainings and detections of `detail_table`'s rows, and of their heads."""
    return [*detections_files(), *example_files(), *training_curve_files(), *inside_files()]


DETAILS = "details"  # what the page has of them, as a part beside its tables


def files_of_part(part):
    """What a part of the page is made of."""
    return detail_files() if part == DETAILS else table_files(part)


def table_of_part(part):
    """The table whose rows a part of the page shows."""
    return PLAN.config.detail_table if part == DETAILS else part


def interim_page(part):
    """What says that the page was written with a table, or with the figures of `detail_table`."""
    return str(RESULTS / "logs" / f"interim-page-{part}.done")


def page_files():
    """What the target `report` makes."""
    return [str(RESULTS / name) for name in ("report.html", "provenance.json")]


def caption(name):
    """What stands beside a table or figure in the reports; one of one's own may have none."""
    path = CAPTIONS / f"{name}.rst"
    return path.read_text(encoding="utf-8") if path.exists() else ""

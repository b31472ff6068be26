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

# Jobs find `obc` beside the Python that runs Snakemake, even if its environment is not activated.
# Jobs in a container use the container's `obc`. Snakemake formats the prefix, hence the doubled
# braces.
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

# DISPLAY is None if Snakemake prints its own output, e.g. in a dry run or in a job on a cluster.
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


# Jobs read the plan file and not config/, so editing config/ does not affect a running workflow. The
# file is not an input of any rule: a job's wildcards and params contain all that it depends on.
onstart:
    PLAN.save(Path(PLAN_FILE))
    cancel_jobs_of_a_killed_snakemake()
    if DISPLAY:
        DISPLAY.start(jobs_to_run(), threads_at_once())


onsuccess:
    if DISPLAY:
        DISPLAY.end()


# Runs after Ctrl-C too: the page shows the results so far, and a line says how to continue.
onerror:
    if DISPLAY:
        DISPLAY.write_page()
        DISPLAY.end()


RESULTS = PLAN.results
# A string, like every param: Snakemake does not record a Path, so a change would trigger no rerun.
PLAN_FILE = str(RESULTS / "plan.json")
KEEP_WEIGHTS = PLAN.scale.runtime.keep_weights
RUN = RunFolder.of(Path("{results}"), "{run_id}", "{seed}")
INDEX = IndexFolder(Path("{results}/data/{index}"))

# Weights that `obc import` wrote belong to the user: no rule makes or replaces them. They are looked
# up once per call, when the DAG is built. A job reads this file again but is told what to make, so
# weights imported later are overwritten if the call has yet to train their run.
IMPORTED = [
    f"{run_id}/{run.folder.path.name}/"
    for run_id in PLAN.runs
    for run in PLAN.seeded(run_id)
    if is_imported(run.folder)
]
TRAINABLE = f"(?!{'|'.join(IMPORTED)})" if IMPORTED else ""


def one_of(names):
    """Constrain a wildcard to the given names; without names, no value matches."""
    return "|".join(map(re.escape, names)) or "(?!)"


wildcard_constraints:
    # Starting weights lie in a folder that results with different labels share.
    results=one_of(map(str, {RESULTS, PLAN.shared})),
    run_id=one_of(PLAN.trainings),
    seed=r"\d+",
    decode=one_of(get_args(Decode)),
    index=one_of(PLAN.index_folder(name).path.name for name in PLAN.scale.data),


def cancel_jobs_of_a_killed_snakemake():
    """Cancel SLURM jobs of a killed Snakemake; this one holds the lock on their output files."""
    if not Path(".snakemake/slurm_logs").exists():
        return  # nothing was ever submitted from this folder
    jobs = {job_comment(job.rule.name, job.wildcards) for job in workflow.dag.needrun_jobs()}
    try:
        cancelled = cancel_left_over(Path.cwd(), jobs)
    except SlurmSilent as error:
        # Not an error: there may be no such jobs, and a running training holds its run's lock.
        logger.warning(f"no look for SLURM jobs of an earlier call: {error}")
        return
    except JobsLeftOver as error:
        raise WorkflowError(str(error)) from None
    if cancelled:
        say(f"cancelled SLURM jobs of an earlier call: {', '.join(cancelled)}")


def jobs_to_run():
    """Rule, wildcards and threads of each job of this call, by Snakemake's job id."""
    return {
        workflow.dag.jobid(job): (job.rule.name, dict(job.wildcards_dict), job.threads)
        for job in workflow.dag.needrun_jobs()
        if not job.is_norun
    }


def threads_at_once():
    """Number of threads that run together on this machine; 0 if jobs are submitted to a cluster."""
    if not workflow.local_exec:
        return 0
    if not PLAN.gpus_per_run:
        return workflow.cores
    gpus = workflow.global_resources.get("gpu").value
    return max(1, min(workflow.cores, PLAN.gpus_per_run if gpus is None else gpus))


def shown_by(module):
    """Digest of the module that writes an output and of the modules that it imports for this."""
    return code_digest(code_behind(module))


def shapes_settings(folder):
    """Settings for `obc draw`; not the plan, because scales and results folders share drawn data."""
    by_folder = {PLAN.data_folder(name).name: data for name, data in PLAN.scale.data.items()}
    return json.dumps(by_folder[folder].drawing)


def image_scale(dataset):
    """Image size that a data set is resized to; `obc index` checks that objects are left then."""
    return "x".join(map(str, PLAN.scale.sizes.image_scale[dataset]))


def dataset_of_index(index):
    return index.split("-")[0]


# Jobs for a table start before jobs for later tables, and a table is finished before the next one
# is trained. Jobs without priority serve all tables or take a moment.
NEXT_TABLE = 10
TRAINED, EVALUATED, SHOWN, PREPARED, ON_PAGE = range(1, 6)


def urgency(table, step):
    """Priority of a job by the place of its table in the reading order."""
    if table not in PLAN.reading_order:
        return 0
    places = len(PLAN.reading_order) - PLAN.reading_order.index(table)
    return NEXT_TABLE * places + step


def urgency_of_run(run_id, step):
    """Priority of a job of a training, by the first table that needs it."""
    return urgency(PLAN.first_table(run_id), step)


def urgency_of_data(index):
    """Priority of a job that makes a data set, by the first table whose trainings read it."""
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
    """Manifest of a run's data: new data are a reason to train again, unless weights are kept."""
    return ancient(manifest_of(wildcards)) if KEEP_WEIGHTS else manifest_of(wildcards)


def shipped(wildcards, what):
    """Path or digest of the shipped starting weights of a training; "" if there are none."""
    return str(getattr(PLAN.shipped.get(wildcards.run_id), what, ""))


def initial_weights(wildcards):
    """The trained weights that a run starts from, if its scale has starting weights."""
    path = PLAN.initial_weights(wildcards.run_id, int(wildcards.seed))
    if path is None:
        return []
    return ancient(path) if KEEP_WEIGHTS else path


def drawn(wildcards):
    """The stamp of a drawn data set; a user's folder is checked, not made."""
    dataset = dataset_of_index(wildcards.index)
    if isinstance(PLAN.scale.data[dataset], ShapesData):
        return [f"{PLAN.data_folder(dataset)}.json"]
    return []


def fetched(wildcards):
    """The stamps of the downloads of a published data set; none if it is drawn or a user's."""
    data = PLAN.scale.data[dataset_of_index(wildcards.index)]
    return [published.stamp for published in of_data(data, DATASETS)]


def apart_from(wildcards):
    """The manifest of the user's images for starting weights; a table's data must not have them."""
    index = PLAN.index_apart(dataset_of_index(wildcards.index))
    return [] if index is None else index.manifest


def fetched_weights(wildcards):
    """The stamp of the published weights that a run's network starts from, if there are any."""
    published = of_run(PLAN.trainings[wildcards.run_id].resolved, DATASETS)
    if published is None:
        return []
    return ancient(published.stamp) if KEEP_WEIGHTS else published.stamp


def metrics_files(table):
    """The metrics files that a table reads."""
    return [evaluation.metrics for evaluation in PLAN.evaluations(table)]


def evaluation_files(table):
    """Files of a table's evaluations: metrics, detections, and the index of their test images."""
    return [
        PLAN.index_folder(PLAN.tables[table].dataset).val,
        *metrics_files(table),
        *(evaluation.detections for evaluation in PLAN.evaluations(table)),
    ]


def detections_files():
    """Output of targets `curves` and `diagnosis`; empty if the plan lacks `detail_table`."""
    if PLAN.detail_table is None:
        return []
    return [*rules.curves.output, *rules.diagnosis.output]


def claims_evaluations():
    """Input of the claims: metrics and detections of the rows that they name, and test sets."""
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
    """Input of Figure 6: two evaluations and the index of the test images."""
    table = PLAN.tables[PLAN.config.examples.table]
    first = [PLAN.of_row(index, row)[0] for index, row in PLAN.example_rows.items()]
    return [
        PLAN.index_folder(table.dataset).val,
        *(path for evaluation in first for path in (evaluation.metrics, evaluation.detections)),
    ]


def example_files():
    """Output of target `figure6`; empty if the plan lacks the table that Figure 6 compares."""
    names = (
        [f"figure6.{kind}" for kind in ("svg", "png", "pdf", "csv")] if PLAN.example_rows else []
    )
    return [RESULTS / "figures" / name for name in names]


def training_records(table):
    """The records of a table's finished trainings; their logs lie in the same folders."""
    return list(dict.fromkeys(one.run.folder.record for one in PLAN.evaluations(table)))


def training_curve_files():
    """Output of target `training_curves`; empty if the plan lacks `detail_table`."""
    names = [f"training_curves.{kind}" for kind in ("svg", "png", "pdf", "csv")]
    return [RESULTS / "figures" / name for name in names] if PLAN.detail_table else []


def claims_files():
    """Output of target `claims`; empty if config/claims.yaml has no claim."""
    return [RESULTS / f"claims.{kind}" for kind in ("json", "md")] if PLAN.claims else []


def inside_inputs():
    """Input of the figures of trained heads: weights, and the data set that they are applied to."""
    runs = [PLAN.run(*shown) for shown in shown_runs(PLAN).values()]
    return [*(run.folder.weights for run in runs), *{run.index.manifest for run in runs}]


def inside_files():
    """Output of target `inside`; empty if the plan lacks these runs, e.g. of a COCO folder."""
    return rules.inside.output if shown_runs(PLAN) else []


def inside_figure(name, title):
    """A figure of trained heads, marked for Snakemake's report."""
    return report(
        RESULTS / "figures" / f"{name}.svg",
        caption=f"../report/{name}.rst",
        category="Diagnosis" if name == "calibration" else "Figures",
        labels={"figure": title},
    )


def table_files(table):
    """Output of a named target of the workflow."""
    files = [RESULTS / "tables" / f"{table}.{kind}" for kind in ("csv", "md", "tex")]
    if PLAN.tables[table].compared_rows:
        files += [RESULTS / "tables" / f"{table}_compared.{kind}" for kind in ("csv", "md")]
    if table in PLAN.figures:
        files += [RESULTS / "figures" / f"{table}.{kind}" for kind in ("svg", "png", "pdf")]
    return files


def detail_files():
    """Figures of the trainings and detections of `detail_table`'s rows, and of their heads."""
    return [*detections_files(), *example_files(), *training_curve_files(), *inside_files()]


DETAILS = "details"  # the page's part with these figures, beside its tables


def files_of_part(part):
    """Input of a part of the page."""
    return detail_files() if part == DETAILS else table_files(part)


def table_of_part(part):
    """The table whose rows a part of the page shows."""
    return PLAN.config.detail_table if part == DETAILS else part


def interim_page(part):
    """Stamp of the page that was written after a table, or after the figures of `detail_table`."""
    return str(RESULTS / "logs" / f"interim-page-{part}.done")


def page_files():
    """Output of target `report`."""
    return [str(RESULTS / name) for name in ("report.html", "provenance.json")]


def caption(name):
    """Caption of a table or figure in the reports; a user's own may have none."""
    path = CAPTIONS / f"{name}.rst"
    return path.read_text(encoding="utf-8") if path.exists() else ""

# Everything the paper measured, as one DAG: data -> train -> evaluate -> tables and figures.
# `snakemake --cores N` runs it; README.md says what else can be asked for.
configfile: "config/config.yaml"


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/acquire.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/runs.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/detections.smk"
include: "workflow/rules/examples.smk"
include: "workflow/rules/inside.smk"


rule all:
    default_target: True
    input:
        [table_files(name) for name in PLAN.paper_tables],
        # Not with the last table: the whole page follows.
        [interim_page(name) for name in PLAN.reading_order if name in PLAN.paper_tables][:-1],
        RESULTS / "tables" / "all.csv",
        claims_files(),
        rules.losses.output,
        detections_files(),
        rules.figure4.output,
        example_files(),
        training_curve_files(),
        inside_files(),
        [interim_page(DETAILS)] if detail_files() else [],
        page_files(),


# Waits for all of the above.
include: "workflow/rules/page.smk"


rule claims:
    input:
        claims_files(),


# The project's own page; Snakemake's is `snakemake --report` (docs/report.md).
rule report:
    input:
        rules.page.output,


for name in PLAN.tables:

    rule:
        name:
            name
        input:
            table_files(name),
            interim_page(name),

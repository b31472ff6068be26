localrules:
    table,
    figure,
    all_csv,
    partial,


rule table:
    input:
        lambda wildcards: metrics_files(wildcards.table),
    output:
        report(
            RESULTS / "tables" / "{table}.csv",
            caption="../report/caption.rst",
            category="Tables",
            labels={"table": "{table}", "format": "csv"},
        ),
        report(
            RESULTS / "tables" / "{table}.md",
            caption="../report/caption.rst",
            category="Tables",
            labels={"table": "{table}", "format": "text"},
        ),
        RESULTS / "tables" / "{table}.tex",
    log:
        RESULTS / "logs" / "table-{table}.log",
    wildcard_constraints:
        table=one_of(PLAN.tables),
    priority: lambda wildcards: urgency(wildcards.table, SHOWN)
    params:
        plan=PLAN_FILE,
        spec=lambda wildcards: PLAN.table_digest(wildcards.table),
        caption=lambda wildcards: caption(wildcards.table),
        code=shown_by("report.tables.paper_tables"),
    shell:
        "obc table {params.plan:q} {wildcards.table} > {log:q} 2>&1"


rule compared:
    input:
        lambda wildcards: evaluation_files(wildcards.table),
    output:
        RESULTS / "tables" / "{table}_compared.csv",
        report(
            RESULTS / "tables" / "{table}_compared.md",
            caption="../report/compared.rst",
            category="Tables",
            labels={"table": "{table}, compared", "format": "text"},
        ),
    log:
        RESULTS / "logs" / "compared-{table}.log",
    benchmark:
        RESULTS / "logs" / "compared-{table}.benchmark.tsv"
    wildcard_constraints:
        table=one_of(PLAN.tables),
    priority: lambda wildcards: urgency(wildcards.table, SHOWN)
    threads: 2
    params:
        plan=PLAN_FILE,
        spec=lambda wildcards: PLAN.table_digest(wildcards.table),
        code=shown_by("report.tables.row_differences"),
    shell:
        "obc table {params.plan:q} {wildcards.table}_compared --workers {threads} 2>&1 | tee {log:q}"


rule all_csv:
    input:
        [path for name in PLAN.paper_tables for path in metrics_files(name)],
    output:
        RESULTS / "tables" / "all.csv",
    log:
        RESULTS / "logs" / "all-csv.log",
    params:
        plan=PLAN_FILE,
        spec=PLAN.content_digest,
        code=shown_by("report.tables.paper_tables"),
    shell:
        "obc table {params.plan:q} all_csv > {log:q} 2>&1"


rule figure:
    input:
        lambda wildcards: metrics_files(wildcards.figure),
    output:
        report(
            RESULTS / "figures" / "{figure}.svg",
            caption="../report/caption.rst",
            category="Figures",
            labels={"figure": "{figure}"},
        ),
        multiext(str(RESULTS / "figures" / "{figure}"), ".png", ".pdf"),
    log:
        RESULTS / "logs" / "figure-{figure}.log",
    wildcard_constraints:
        figure=one_of(PLAN.figures),
    priority: lambda wildcards: urgency(wildcards.figure, SHOWN)
    params:
        plan=PLAN_FILE,
        spec=lambda wildcards: PLAN.table_digest(wildcards.figure),
        caption=lambda wildcards: caption(wildcards.figure),
        code=shown_by("report.figures.grid"),
    shell:
        "obc figure {params.plan:q} {wildcards.figure} > {log:q} 2>&1"


# Mathematics only: needs no run, no data and no plan.
rule losses:
    output:
        report(
            RESULTS / "figures" / "losses.svg",
            caption="../report/losses.rst",
            category="Figures",
            labels={"figure": "losses and their gradients"},
        ),
        multiext(str(RESULTS / "figures" / "losses"), ".png", ".pdf"),
    log:
        RESULTS / "logs" / "losses.log",
    params:
        folder=lambda wildcards: str(RESULTS / "figures"),
        code=shown_by("report.figures.losses"),
    shell:
        "obc figure losses --folder {params.folder:q} > {log:q} 2>&1"


rule claims_report:
    input:
        claims_evaluations(),
    output:
        RESULTS / "claims.json",
        report(
            RESULTS / "claims.md",
            caption="../report/claims.rst",
            category="Claims",
            labels={"claims": "the paper's claims, judged"},
        ),
    log:
        RESULTS / "logs" / "claims.log",
    benchmark:
        RESULTS / "logs" / "claims.benchmark.tsv"
    threads: 2
    params:
        plan=PLAN_FILE,
        spec=PLAN.content_digest,
        code=shown_by("report.tables.claims"),
    shell:
        "obc claims {params.plan:q} --workers {threads} 2>&1 | tee {log:q}"


# Has no output on purpose: it shows the results so far, so it runs in every call.
rule partial:
    log:
        RESULTS / "logs" / "partial.log",
    params:
        plan=PLAN_FILE,
    shell:
        "obc table {params.plan:q} --partial 2>&1 | tee {log:q}"

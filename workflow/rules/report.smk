localrules:
    table,
    figure,
    all_csv,
    partial,


rule table:
    input:
        lambda wildcards: metrics_files(wildcards.table),
    output:
        multiext(str(RESULTS / "tables" / "{table}"), ".csv", ".md", ".tex"),
    log:
        RESULTS / "logs" / "table-{table}.log",
    wildcard_constraints:
        table="|".join(PLAN.tables),
    conda:
        ENVIRONMENT
    params:
        plan=PLAN_FILE,
        spec=lambda wildcards: PLAN.table_digest(wildcards.table),
        code=code_digest(REPORT_CODE),
    shell:
        "obc table {params.plan} {wildcards.table} > {log} 2>&1"


rule all_csv:
    input:
        [path for name in PLAN.tables for path in metrics_files(name)],
    output:
        RESULTS / "tables" / "all.csv",
    log:
        RESULTS / "logs" / "all-csv.log",
    conda:
        ENVIRONMENT
    params:
        plan=PLAN_FILE,
        spec=PLAN.content_digest,
        code=code_digest(REPORT_CODE),
    shell:
        "obc table {params.plan} --long > {log} 2>&1"


rule figure:
    input:
        lambda wildcards: metrics_files(wildcards.figure),
    output:
        multiext(str(RESULTS / "figures" / "{figure}"), ".svg", ".png"),
    log:
        RESULTS / "logs" / "figure-{figure}.log",
    wildcard_constraints:
        figure="|".join(PLAN.figures),
    conda:
        ENVIRONMENT
    params:
        plan=PLAN_FILE,
        spec=lambda wildcards: PLAN.table_digest(wildcards.figure),
        code=code_digest(REPORT_CODE),
    shell:
        "obc figure {params.plan} {wildcards.figure} > {log} 2>&1"


# Mathematics: no run and no data, so no plan either.
rule losses:
    output:
        multiext(str(RESULTS / "figures" / "losses"), ".svg", ".png"),
    log:
        RESULTS / "logs" / "losses.log",
    conda:
        ENVIRONMENT
    params:
        folder=RESULTS / "figures",
        code=code_digest(("bins.py", "report/analytic.py", "report/losses.py", "report/style.py")),
    shell:
        "obc losses {params.folder:q} > {log} 2>&1"


rule claims_report:
    input:
        claims_evaluations(),
    output:
        multiext(str(RESULTS / "claims"), ".json", ".md"),
    log:
        RESULTS / "logs" / "claims.log",
    benchmark:
        RESULTS / "logs" / "claims.benchmark.tsv"
    conda:
        ENVIRONMENT
    threads: 2
    params:
        plan=PLAN_FILE,
        spec=PLAN.content_digest,
        code=code_digest(CLAIMS_CODE),
    shell:
        "obc claims {params.plan} --workers {threads} 2>&1 | tee {log}"


# Has no output on purpose: it shows what there is at this moment, so it runs each time.
rule partial:
    log:
        RESULTS / "logs" / "partial.log",
    conda:
        ENVIRONMENT
    params:
        plan=PLAN_FILE,
    shell:
        "obc partial {params.plan} 2>&1 | tee {log}"

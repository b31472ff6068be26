localrules:
    page,


# Whatever lies in the folder of figures is shown; what is named here is waited for.
rule page:
    input:
        [table_files(name) for name in PLAN.tables],
        claims_files(),
        rules.losses.output,
        captions=sorted(Path(workflow.basedir).glob("workflow/report/*.rst")),
        templates=sorted((PACKAGE / "report" / "templates").iterdir()),
    output:
        page=RESULTS / "report.html",
        provenance=RESULTS / "provenance.json",
    log:
        RESULTS / "logs" / "page.log",
    conda:
        ENVIRONMENT
    params:
        plan=PLAN_FILE,
        spec=PLAN.content_digest,
        captions=Path(workflow.basedir) / "workflow" / "report",
        code=code_digest(REPORT_CODE),
    shell:
        "obc report {params.plan} --captions {params.captions:q} 2>&1 | tee {log}"

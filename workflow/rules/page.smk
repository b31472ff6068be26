localrules:
    page,


# Shows what lies in the folders of figures and tables, so it waits for all that a plain call makes.
rule page:
    input:
        [path for path in rules.all.input if path not in page_files()],
        captions=sorted(Path(workflow.basedir).glob("workflow/report/*.rst")),
        templates=sorted((PACKAGE / "report" / "templates").iterdir()),
    output:
        page_files(),
    log:
        RESULTS / "logs" / "page.log",
    params:
        plan=PLAN_FILE,
        spec=PLAN.content_digest,
        captions=lambda wildcards: str(Path(workflow.basedir) / "workflow" / "report"),
        code=shown_by("report.page"),
    shell:
        "obc report {params.plan:q} --captions {params.captions:q} 2>&1 | tee {log:q}"

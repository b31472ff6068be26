localrules:
    interim_page,
    page,


# Writes the page with the results so far once a table or the figures of `detail_table` are complete.
# Simultaneous jobs take turns (`obc report` waits), and no job leaves an incomplete page.
rule interim_page:
    input:
        lambda wildcards: files_of_part(wildcards.part),
    output:
        touch(interim_page("{part}")),
    log:
        RESULTS / "logs" / "interim-page-{part}.log",
    wildcard_constraints:
        part=one_of([*PLAN.tables, DETAILS]),
    priority: lambda wildcards: urgency(table_of_part(wildcards.part), ON_PAGE)
    params:
        plan=PLAN_FILE,
        captions=lambda wildcards: str(CAPTIONS),
        # `--partial` computes verdicts, which takes most of the time; they change only with tables.
        partial=lambda wildcards: "" if wildcards.part == DETAILS else "--partial",
    shell:
        "obc report {params.plan:q} --captions {params.captions:q} {params.partial} > {log:q} 2>&1"


# Shows all files in the folders of figures and tables, so it waits for everything that `all` makes.
rule page:
    input:
        [path for path in rules.all.input if path not in page_files()],
        captions=sorted(CAPTIONS.glob("*.rst")),
        templates=sorted((PACKAGE / "report" / "templates").iterdir()),
    output:
        update(page_files()),  # not removed at the start: a stopped job keeps the interim page
    log:
        RESULTS / "logs" / "page.log",
    params:
        plan=PLAN_FILE,
        spec=PLAN.content_digest,
        captions=lambda wildcards: str(CAPTIONS),
        code=shown_by("report.page"),
    shell:
        "obc report {params.plan:q} --captions {params.captions:q} 2>&1 | tee {log:q}"

localrules:
    figure4,


# Drawn by the code of the bins alone: needs no run, no data and no plan.
rule figure4:
    output:
        report(
            RESULTS / "figures" / "figure4.svg",
            caption="../report/figure4.rst",
            category="Figures",
            labels={"figure": "Figure 4: bin construction"},
        ),
        multiext(str(RESULTS / "figures" / "figure4"), ".png", ".pdf", ".csv"),
    log:
        RESULTS / "logs" / "figure4.log",
    params:
        folder=lambda wildcards: str(RESULTS / "figures"),
        code=shown_by("report.figures.bin_construction"),
    shell:
        "obc figure figure4 --folder {params.folder:q} > {log:q} 2>&1"


if PLAN.example_rows:

    rule figure6:
        input:
            example_evaluations(),
        output:
            report(
                RESULTS / "figures" / "figure6.svg",
                caption="../report/figure6.rst",
                category="Figures",
                labels={"figure": "Figure 6: detections in single images"},
            ),
            multiext(str(RESULTS / "figures" / "figure6"), ".png", ".pdf", ".csv"),
        log:
            RESULTS / "logs" / "figure6.log",
        priority: urgency(PLAN.config.examples.table, SHOWN)
        localrule: True
        params:
            plan=PLAN_FILE,
            spec=PLAN.table_digest(PLAN.config.examples.table),
            code=shown_by("report.figures.example_images"),
        shell:
            "obc figure {params.plan:q} figure6 > {log:q} 2>&1"


if PLAN.detail_table:

    rule training_curves:
        input:
            training_records(PLAN.config.detail_table),
        output:
            report(
                RESULTS / "figures" / "training_curves.svg",
                caption="../report/training_curves.rst",
                category="Figures",
                labels={"figure": "Training curves"},
            ),
            multiext(str(RESULTS / "figures" / "training_curves"), ".png", ".pdf", ".csv"),
        log:
            RESULTS / "logs" / "training_curves.log",
        priority: urgency(PLAN.config.detail_table, SHOWN)
        localrule: True
        params:
            plan=PLAN_FILE,
            table=PLAN.config.detail_table,
            spec=PLAN.table_digest(PLAN.config.detail_table),
            code=shown_by("report.figures.training_curves"),
        shell:
            "obc figure {params.plan:q} training_curves --table {params.table:q} > {log:q} 2>&1"

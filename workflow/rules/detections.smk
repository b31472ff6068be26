# Curves and diagnosis of the rows of one table, from detections and ground truth alone.
rule curves:
    input:
        lambda wildcards: evaluation_files(PLAN.config.detail_table),
    output:
        report(
            RESULTS / "figures" / "precision_recall.svg",
            caption="../report/precision_recall.rst",
            category="Figures",
            labels={"figure": "Precision against recall"},
        ),
        report(
            RESULTS / "figures" / "ap_by_iou.svg",
            caption="../report/ap_by_iou.rst",
            category="Figures",
            labels={"figure": "AP against the IoU threshold"},
        ),
        multiext(str(RESULTS / "figures" / "precision_recall"), ".png", ".pdf", ".csv"),
        multiext(str(RESULTS / "figures" / "ap_by_iou"), ".png", ".pdf", ".csv"),
    log:
        RESULTS / "logs" / "curves.log",
    benchmark:
        RESULTS / "logs" / "curves.benchmark.tsv"
    priority: urgency(PLAN.config.detail_table, SHOWN)
    params:
        plan=PLAN_FILE,
        table=PLAN.config.detail_table,
        spec=lambda wildcards: PLAN.table_digest(PLAN.config.detail_table),
        code=shown_by("report.figures.curves"),
    shell:
        "obc figure {params.plan:q} curves --table {params.table:q} > {log:q} 2>&1"


rule diagnosis:
    input:
        lambda wildcards: evaluation_files(PLAN.config.detail_table),
    output:
        report(
            RESULTS / "figures" / "diagnosis.svg",
            caption="../report/diagnosis.rst",
            category="Diagnosis",
            labels={"figure": "How far the boxes found are from their objects"},
        ),
        report(
            RESULTS / "tables" / "diagnosis.csv",
            caption="../report/diagnosis_table.rst",
            category="Diagnosis",
            labels={"table": "How far the boxes found are from their objects"},
        ),
        multiext(str(RESULTS / "figures" / "diagnosis"), ".png", ".pdf", ".csv"),
        RESULTS / "tables" / "diagnosis.md",
    log:
        RESULTS / "logs" / "diagnosis.log",
    benchmark:
        RESULTS / "logs" / "diagnosis.benchmark.tsv"
    priority: urgency(PLAN.config.detail_table, SHOWN)
    params:
        plan=PLAN_FILE,
        table=PLAN.config.detail_table,
        spec=lambda wildcards: PLAN.table_digest(PLAN.config.detail_table),
        code=shown_by("report.figures.diagnosis"),
    shell:
        "obc figure {params.plan:q} diagnosis --table {params.table:q} > {log:q} 2>&1"

INSIDE_FIGURES = {
    "stages": "Figure 3 on a real example: stage by stage",
    "offset_distributions": "Learned offset distributions",
    "target_offsets": "Target offsets against the range a",
    "calibration": "Entropy against actual error",
}


rule inside:
    input:
        inside_inputs(),
    output:
        [inside_figure(name, title) for name, title in INSIDE_FIGURES.items()],
        [
            RESULTS / "figures" / f"{name}.{kind}"
            for name in INSIDE_FIGURES
            for kind in ("png", "pdf", "csv")
        ],
        RESULTS / "figures" / "target_offsets_beyond.csv",
        report(
            RESULTS / "tables" / "calibration.csv",
            caption="../report/calibration.rst",
            category="Diagnosis",
            labels={"table": "Entropy against actual error"},
        ),
    log:
        RESULTS / "logs" / "inside.log",
    benchmark:
        RESULTS / "logs" / "inside.benchmark.tsv"
    priority: urgency(PLAN.config.detail_table, SHOWN)
    threads: 1
    resources:
        gpu=min(1, PLAN.gpus_per_run),
    params:
        plan=PLAN_FILE,
        images=PLAN.config.show_images,
        code=shown_by("report.inside.write"),
    shell:
        "obc figure {params.plan:q} inside > {log:q} 2>&1"

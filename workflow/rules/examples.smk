localrules:
    figure4,


# From the bins' own code: no run and no data, so no plan either.
rule figure4:
    output:
        report(
            RESULTS / "figures" / "figure4.svg",
            caption="../report/figure4.rst",
            category="Figures",
            labels={"figure": "Figure 4: bin construction"},
        ),
        RESULTS / "figures" / "figure4.png",
        RESULTS / "figures" / "figure4.csv",
    log:
        RESULTS / "logs" / "figure4.log",
    conda:
        ENVIRONMENT
    params:
        folder=RESULTS / "figures",
        code=code_digest(("bins.py", "report/bin_construction.py", "report/figures.py")),
    shell:
        "obc figure4 {params.folder:q} > {log} 2>&1"

localrules:
    plan,


# Jobs read this file and not config/, so that editing config/ changes nothing under their feet;
# they take it as `ancient`, because a run whose spec changes has another run id anyway.
rule plan:
    output:
        PLAN_FILE,
    log:
        RESULTS / "logs" / "plan.log",
    conda:
        ENVIRONMENT
    params:
        settings=[f"{key}={json.dumps(value)}" for key, value in config.items()],
        content=PLAN.digest,
    shell:
        "obc plan --set {params.settings:q} --out {output} > {log} 2>&1"


rule draw:
    input:
        plan=ancient(PLAN_FILE),
    output:
        "data/shapes/{drawn}.json",
    log:
        "data/shapes/{drawn}.log",
    benchmark:
        "data/shapes/{drawn}.benchmark.tsv"
    wildcard_constraints:
        drawn="(voc|coco)-[0-9a-f]{8}",
    conda:
        ENVIRONMENT
    threads: 2
    params:
        dataset=lambda wildcards: wildcards.drawn.split("-")[0],
        code=code_digest(DATA_CODE),
    shell:
        "obc draw {input.plan} {params.dataset} --workers {threads} 2> {log}"


rule index:
    input:
        drawn,
        plan=ancient(PLAN_FILE),
    output:
        expand(
            RESULTS / "data" / "{{dataset}}" / "{file}.json",
            file=["train", "val", "manifest"],
        ),
    log:
        RESULTS / "logs" / "index-{dataset}.log",
    benchmark:
        RESULTS / "logs" / "index-{dataset}.benchmark.tsv"
    conda:
        ENVIRONMENT
    threads: 2
    params:
        identity=lambda wildcards: PLAN.data_digest(wildcards.dataset),
        code=code_digest(INDEX_CODE),
    shell:
        "obc index {input.plan} {wildcards.dataset} --workers {threads} 2>&1 | tee {log}"

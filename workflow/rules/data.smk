rule draw:
    output:
        "data/shapes/{drawn}.json",
    log:
        "data/shapes/{drawn}.log",
    benchmark:
        "data/shapes/{drawn}.benchmark.tsv"
    wildcard_constraints:
        drawn="(voc|coco)-[0-9a-f]{8}",
    priority: lambda wildcards: urgency_of_drawn(wildcards.drawn)
    threads: 2
    params:
        settings=lambda wildcards: shapes_settings(wildcards.drawn),
        code=code_digest(DRAWING_CODE),
    shell:
        "obc draw data/shapes/{wildcards.drawn} --settings {params.settings:q}"
        " --workers {threads} 2> {log:q}"


rule index:
    input:
        drawn,
        fetched,
        apart_from,
    output:
        INDEX.train,
        INDEX.val,
        INDEX.manifest,
    log:
        "{results}/logs/index-{index}.log",
    benchmark:
        "{results}/logs/index-{index}.benchmark.tsv"
    priority: lambda wildcards: urgency_of_data(wildcards.index)
    threads: 2
    params:
        plan=PLAN_FILE,
        dataset=lambda wildcards: dataset_of_index(wildcards.index),
        root=lambda wildcards: str(PLAN.data_folder(dataset_of_index(wildcards.index))),
        image_scale=lambda wildcards: image_scale(dataset_of_index(wildcards.index)),
        code=code_digest(INDEX_CODE),
    shell:
        "obc index {params.plan:q} {params.dataset} --workers {threads} 2>&1 | tee {log:q}"

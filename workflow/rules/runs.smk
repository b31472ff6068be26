# Writes starting weights that come with the suite, instead of training them.
rule start:
    input:
        lambda wildcards: shipped(wildcards, "path"),
    output:
        weights=RUN.weights,
        run=RUN.record,
    log:
        RUN.log,
    wildcard_constraints:
        run_id=one_of(PLAN.shipped),
    priority: lambda wildcards: urgency_of_run(wildcards.run_id, TRAINED)
    threads: 1
    params:
        plan=PLAN_FILE,
        sha256=lambda wildcards: shipped(wildcards, "sha256"),
    shell:
        "obc train {params.plan:q} {wildcards.run_id} --seed {wildcards.seed}"


rule train:
    input:
        training_manifest,
        initial_weights,
        fetched_weights,
    output:
        weights=RUN.weights,
        run=RUN.record,
        config=RUN.config,
    log:
        RUN.log,
    benchmark:
        str(RUN.benchmark)
    wildcard_constraints:
        run_id=f"{TRAINABLE}(?:{one_of(sorted(set(PLAN.trainings) - set(PLAN.shipped)))})",
    priority: lambda wildcards: urgency_of_run(wildcards.run_id, TRAINED)
    threads: max(1, PLAN.gpus_per_run)  # one per training process; image loaders mostly wait
    resources:
        gpu=PLAN.gpus_per_run,
    params:
        plan=PLAN_FILE,
        code="kept" if KEEP_WEIGHTS else code_digest(TRAINING_CODE),
    # exec: a scheduler signals every process of a job, and a shell in between would die before the
    # training has saved. --wait: the run's previous job may still be saving.
    shell:
        "exec obc train {params.plan:q} {wildcards.run_id} --seed {wildcards.seed} --again --wait 300"


rule evaluate:
    input:
        manifest_of,
        weights=RUN.weights,
        run=RUN.record,
    output:
        metrics=ensure(str(RUN.metrics("{decode}")), non_empty=True),
        detections=RUN.detections("{decode}"),
    log:
        RUN.evaluation_log("{decode}"),
    benchmark:
        str(RUN.evaluation_benchmark("{decode}"))
    priority: lambda wildcards: urgency_of_run(wildcards.run_id, EVALUATED)
    threads: 1
    resources:
        gpu=min(1, PLAN.gpus_per_run),
    params:
        plan=PLAN_FILE,
        code=code_digest(EVALUATION_CODE),
    shell:
        "obc evaluate {params.plan:q} {wildcards.run_id} --seed {wildcards.seed}"
        " --decode {wildcards.decode}"

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
        run_id=f"{TRAINABLE}(?:{one_of(PLAN.trainings)})",
    threads: max(1, PLAN.gpus_per_run)  # one for each process; those that load images mostly wait
    resources:
        gpu=PLAN.gpus_per_run,
    params:
        plan=PLAN_FILE,
        code="kept" if KEEP_WEIGHTS else code_digest(TRAINING_CODE),
    # exec: a scheduler signals every process of a job, and a shell between would die before the
    # training has saved. --wait: the job before this one may still be saving.
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
    priority: 1  # a trained run's numbers before the next training
    threads: 1
    resources:
        gpu=min(1, PLAN.gpus_per_run),
    params:
        plan=PLAN_FILE,
        code=code_digest(EVALUATION_CODE),
    shell:
        "obc evaluate {params.plan:q} {wildcards.run_id} --seed {wildcards.seed}"
        " --decode {wildcards.decode}"

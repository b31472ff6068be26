# Compute nodes often have no internet access; the machine that runs Snakemake has.
localrules:
    fetch,


# Published data and weights; an existing folder is used in place.
rule fetch:
    output:
        ensure("data/fetched/{published}.json", non_empty=True),
    log:
        "data/fetched/{published}.log",
    wildcard_constraints:
        published=one_of(DATASETS),
    priority: lambda wildcards: urgency_of_fetched(wildcards.published)
    shell:
        "obc fetch {wildcards.published} 2>&1 | tee {log:q}"

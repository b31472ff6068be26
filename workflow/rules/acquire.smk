# A compute node often has no way to the internet, where Snakemake itself runs there is one.
localrules:
    fetch,


# Data and weights as published; a folder that is there already is used in place.
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

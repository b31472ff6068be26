# For calls of `snakemake` in the project's folder; the workflow is in workflow/.
include: "workflow/Snakefile"


workflow.default_target = "all"  # Snakemake forgets that of a file that is included

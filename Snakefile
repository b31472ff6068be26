# The workflow is in workflow/; this file is for calls of `snakemake` in the project's folder.
include: "workflow/Snakefile"


workflow.default_target = "all"  # Snakemake forgets that of a file that is included

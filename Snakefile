# The workflow is in workflow/; this line is for calls of `snakemake` in the project's folder.
include: "workflow/Snakefile"

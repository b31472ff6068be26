# The workflow is in workflow/; this line is for calls of `snakemake` in the project's folder.
include: "workflow/Snakefile"


# An included file does not say what is made when nothing is named.
workflow.default_target = "all"

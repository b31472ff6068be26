# The workflow is in workflow/. With this file `snakemake` finds it from the project's folder.
include: "workflow/Snakefile"


workflow.default_target = "all"  # Snakemake ignores the default target of an included file

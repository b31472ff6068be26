"""Tables and drawings of the notebooks: `from obc.notebook import open_results`."""

from obc.notebook.opened import open_results

__all__ = ["open_results"]

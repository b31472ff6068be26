"""What the notebooks show: `from obc.notebook import open_results`."""

from obc.notebook.opened import open_results

__all__ = ["open_results"]

"""The box losses that a row can name under `box:`, one module each; see `registry.BoxLoss`.

Regression and offset bins are the paper's. The other losses are for comparison, except `none`,
which trains starting weights.
"""

from importlib import import_module
from pkgutil import iter_modules

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

"""The box losses that a row can name under `box:`, a module each; see `registry.BoxLoss`.

The paper's own are regression and offset bins; the others are what the suite compares them with.
"""

from importlib import import_module
from pkgutil import iter_modules

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

"""Versions of the code and the packages, and the machine, that made a number."""

from __future__ import annotations

import ast
import hashlib
import os
import platform
import subprocess
import sys
from collections.abc import Iterable
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from obc.config.box_losses.registry import BOX_LOSSES

PACKAGE = Path(__file__).parent.parent
_OWN = __name__.partition(".")[0]
DISTRIBUTION = "offset-bin-classification"
# Modules and packages (dotted, without `obc.`) that decide a result. A package counts with all of
# its modules, including those of its subpackages.
MODEL_CODE = ("bins", "head", "detector", "config.box_losses", "config.protocols")
# Code that decides the weights of a run, given its spec.
TRAINING_CODE = (*MODEL_CODE, "training.exact_resume", "training.mmdet_config")
# Code that decides the metrics of a run, given its weights.
EVALUATION_CODE = (
    *MODEL_CODE,
    "evaluation.evaluate",
    "evaluation.metrics",
    "evaluation.head_cost",
    "evaluation.detections_file",
)
DRAWING_CODE = ("datasets.drawn",)
INDEX_CODE = tuple(
    f"datasets.{path.stem}" for path in sorted((PACKAGE / "datasets").glob("[!_]*.py"))
)
# Packages whose code decides what tables, figures and pages show, given the metrics.
SHOWN_CODE = (
    "bins",
    "head",
    "detector",
    "config.comparable",
    "config.paper_setting",
    "runs.staleness",
    "evaluation",
    "analysis",
    "report",
)
PACKAGES = (
    "torch",
    "onedl-mmdetection",
    "onedl-mmcv",
    "onedl-mmengine",
    "numpy",
    "faster-coco-eval",
)


def code_digest(modules: Iterable[str]) -> str:
    """Return 8 hex digits that change when modules or packages of `obc` behave differently.

    Comments, docstrings and imports within this package do not count, so moving a module does not
    change the digits. `config.box_losses` includes plugin modules that define a box loss.

    Args:
        modules: dotted names without `obc.`, e.g. `bins` or `training.exact_resume`.

    Raises:
        FileNotFoundError: there is no such module.
    """
    digest = hashlib.sha256()
    for path in (path for module in modules for path in (*_files(module), *_own_files(module))):
        code, _ = _read(path.read_text(encoding="utf-8"))
        digest.update(code.encode())
    return digest.hexdigest()[:8]


def code_behind(module: str) -> tuple[str, ...]:
    """A module and the modules that it imports, directly or through others, in order of name.

    Args:
        module: dotted name without `obc.`; only imports of modules in SHOWN_CODE are followed.
    """
    followed = tuple(f"{package}." for package in SHOWN_CODE)
    found: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        waiting += [one for one in _imports(name) if f"{one}.".startswith(followed)]
    return tuple(sorted(found))


def _imports(module: str) -> list[str]:
    """Modules of this package that a module imports, also inside functions."""
    names = (name for path in _files(module) for name in _read(path.read_text(encoding="utf-8"))[1])
    return [name for name in dict.fromkeys(names) if _path(name).with_suffix(".py").is_file()]


def _files(module: str) -> list[Path]:
    """The file of a module, or all files of a package in order of their paths."""
    path = _path(module)
    return sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]


def _own_files(module: str) -> list[Path]:
    """Files of plugins that define box losses; none unless `module` is `config.box_losses`."""
    if module != "config.box_losses":
        return []
    modules = {model.__module__ for model in BOX_LOSSES.values()}
    outside = sorted(name for name in modules if not _is_of_this_package(name))
    files = (getattr(sys.modules.get(name), "__file__", None) for name in outside)
    return [Path(file) for file in files if file is not None]


def _path(module: str) -> Path:
    return PACKAGE.joinpath(*module.split("."))


# Cached by text, because parsing takes most of the time: a call of the workflow computes digests
# for a dozen outputs, which share most of their modules.
@cache
def _read(text: str) -> tuple[str, tuple[str, ...]]:
    """Return the code of a module that counts in `code_digest`, and its imports of this package.

    The imports are names of modules, and of objects in modules, without `obc.`.
    """
    reader = _Reader()
    code = ast.dump(reader.visit(ast.parse(text)))
    own = f"{_OWN}."
    return code, tuple(name.removeprefix(own) for name in reader.names if name.startswith(own))


class _Reader(ast.NodeTransformer):
    """Removes docstrings and imports of this package from a syntax tree; collects all imports."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def generic_visit(self, node: ast.AST) -> ast.AST:
        if isinstance(node, ast.expr):  # most nodes; they contain no statements
            return node
        if getattr(node, "type_params", None) == []:  # Python 3.11 has no such field
            del node.type_params  # type: ignore[attr-defined]
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(
            node
        ):
            node.body = node.body[1:]
        return super().generic_visit(node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.ImportFrom | None:
        module = node.module or ""
        self.names += [module, *(f"{module}.{each.name}" for each in node.names)]
        return None if _is_of_this_package(module) else node

    def visit_Import(self, node: ast.Import) -> ast.Import | None:
        self.names += [each.name for each in node.names]
        node.names = [each for each in node.names if not _is_of_this_package(each.name)]
        return node if node.names else None


def _is_of_this_package(module: str) -> bool:
    return module.partition(".")[0] == _OWN


def code_version() -> dict[str, Any]:
    """Git commit (None outside a checkout), whether the tree was clean, digest of training code."""
    return {
        "commit": _git("rev-parse", "HEAD"),
        "clean": _git("status", "--porcelain", "--untracked-files=no") == "",
        "training_code": code_digest(TRAINING_CODE),
    }


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=PACKAGE, capture_output=True, encoding="utf-8", check=False
        )
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def package_versions() -> dict[str, str]:
    """Versions of the packages that a number can depend on."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def hardware() -> dict[str, Any]:
    """Processor, cores, threads that torch uses, and the GPU if there is one.

    Processors with the same name can have different vector instructions, and torch then rounds
    differently.
    """
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "machine": platform.machine(),
        "processor": _processor(),
        "vector_instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": gpu,
    }


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor()

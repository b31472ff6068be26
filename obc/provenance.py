"""What a number was made with: the code's version, the packages, the machine."""

from __future__ import annotations

import ast
import hashlib
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parent
MODEL_CODE = (
    "bins.py",
    "coder.py",
    "delta_head.py",
    "deltas.py",
    "head.py",
    "roi_head.py",
    "peers.py",
    "roi_align.py",
    "detector.py",
    "protocols.py",
)
# What decides the weights of a run, given its spec; what decides the metrics, given its weights.
TRAINING_CODE = (*MODEL_CODE, "precision.py", "train_order.py")
EVALUATION_CODE = (
    *MODEL_CODE,
    "precision.py",
    "evaluate.py",
    "head_cost.py",
    "metrics.py",
    "detections.py",
)
REPORT_CODE = tuple(f"report/{path.name}" for path in sorted((PACKAGE / "report").glob("*.py")))
MATCHING_CODE = ("detections.py", "matching.py", "metrics.py")
CLAIMS_CODE = (*REPORT_CODE, *MATCHING_CODE, "bootstrap.py", "claims.py")
DATA_CODE = ("datasets/shapes.py", "datasets/scenes.py", "datasets/outlines.py")
INDEX_CODE = (
    "datasets/voc.py",
    "datasets/coco.py",
    "datasets/coco_structure.py",
    "datasets/numbering.py",
    "datasets/shared_images.py",
    "datasets/trained_on.py",
    "datasets/images.py",
    "datasets/identity.py",
    "datasets/manifest.py",
)
PACKAGES = (
    "torch",
    "onedl-mmdetection",
    "onedl-mmcv",
    "onedl-mmengine",
    "numpy",
    "faster-coco-eval",
)


def code_digest(modules: tuple[str, ...]) -> str:
    """8 hex digits of what modules of this package *do*.

    Comments, docstrings and imports within this package do not count: moving a module changes
    nothing that it does.
    """
    digest = hashlib.sha256()
    for module in modules:
        tree = ast.parse((PACKAGE / module).read_text(), module)
        digest.update(ast.dump(_Code().visit(_without_docstrings(tree))).encode())
    return digest.hexdigest()[:8]


class _Code(ast.NodeTransformer):
    """A tree without the imports of this package."""

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.ImportFrom | None:
        return None if _is_of_this_package(node.module or "") else node

    def visit_Import(self, node: ast.Import) -> ast.Import | None:
        node.names = [each for each in node.names if not _is_of_this_package(each.name)]
        return node if node.names else None


def _is_of_this_package(module: str) -> bool:
    return module.partition(".")[0] == __name__.partition(".")[0]


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(
            node
        ):
            node.body = node.body[1:]
    return tree


def code_version() -> dict[str, Any]:
    """Git commit (None outside a checkout), whether the tree was clean, digest of training code."""
    return {
        "commit": _git("rev-parse", "HEAD"),
        "clean": _git("status", "--porcelain", "--untracked-files=no") == "",
        "training_code": code_digest(TRAINING_CODE),
    }


def file_sha256(path: Path) -> str:
    """64 hex digits of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=PACKAGE, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def package_versions() -> dict[str, str]:
    """Versions of the packages that a number can depend on."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def hardware() -> dict[str, Any]:
    """Processor, cores, threads that torch uses, and the GPU if there is one."""
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": gpu,
    }


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor()

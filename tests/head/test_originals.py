"""The head on OpenMMLab's original MMDetection and MMEngine, in a virtual environment of its own.

Everything else in it is this environment's by links, the fork's build of MMCV included: OpenMMLab's
newest MMCV does not compile with today's torch.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from conftest import ENVIRONMENT, PATIENCE, PROJECT

ORIGINALS = ("mmdet==3.3.0", "mmengine==0.10.7")
REPLACED = ("mmdet", "mmengine", "onedl_mmdetection", "onedl_mmengine", "obc", "offset_bin",
            "__editable__")  # fmt: skip
TESTS = ("bins", "head/test_box_deltas.py", "head/test_coders.py", "head/test_obc_head.py",
         "head/test_roi_head.py")  # fmt: skip


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a virtual environment with the originals."""
    folder = tmp_path_factory.mktemp("originals")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    installed = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:",
         "--target", packages, *ORIGINALS],
        capture_output=True, text=True, check=False, timeout=PATIENCE,
    )  # fmt: skip
    if installed.returncode:
        pytest.skip(f"pip cannot get {' '.join(ORIGINALS)}: {installed.stderr.strip()[-300:]}")
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if not path.name.startswith(REPLACED) and not (packages / path.name).exists():
            (packages / path.name).symlink_to(path)
    # MMDetection 3.3.0 refuses MMCV from 2.2.0 on, which did not exist when it was released.
    start = packages / "mmdet/__init__.py"
    text = start.read_text(encoding="utf-8")
    assert "mmcv_maximum_version = '2.2.0'" in text
    start.write_text(text.replace("'2.2.0'", "'2.4.0'"), encoding="utf-8")
    return folder / "bin/python"


def run(python: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [python, *words],
        cwd=PROJECT, env={**ENVIRONMENT, "PYTHONPATH": str(PROJECT)},
        capture_output=True, text=True, check=False, timeout=PATIENCE,
    )  # fmt: skip


@pytest.mark.slow
def test_the_head_s_tests_pass_on_the_originals(python: Path) -> None:
    code = "import mmdet, mmengine, obc; print(mmdet.__version__, mmengine.__version__)"
    found = run(python, "-c", code)
    assert found.stdout.split() == ["3.3.0", "0.10.7"], found.stderr
    options = ("-p", "no:cacheprovider", "-o", "addopts=-q")
    tests = [os.fspath(PROJECT / "tests" / name) for name in TESTS]
    done = run(python, "-m", "pytest", *options, *tests)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert " passed" in done.stdout and " skipped" not in done.stdout

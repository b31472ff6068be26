"""pyproject.toml, requirements.lock and environment.yml describe one environment.

Of it the package alone needs a small part, and works where only that is installed.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterable
from email.parser import Parser
from functools import cache
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

import pytest
import yaml
from conftest import ENVIRONMENT, PATIENCE
from conftest import PROJECT as FOLDER
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
LOCK = {
    canonicalize_name(name): version
    for name, version in (
        line.split("==")
        for line in Path("requirements.lock").read_text(encoding="utf-8").splitlines()
        if "==" in line
    )
}


EXTRAS = {
    name: [Requirement(line) for line in lines]
    for name, lines in PROJECT["optional-dependencies"].items()
}
# Of the tested environment; torchvision, which timm needs, brings another build of torch from PyPI,
# trackers are for those who ask for one, and the site is built in an environment of its own.
LOCKED_EXTRAS = EXTRAS.keys() - {"pretrained", "photos", "tracking", "docs"}


def direct_requirements() -> list[Requirement]:
    """All that pyproject.toml names itself, but for extras that name others."""
    lines = [Requirement(line) for line in PROJECT["dependencies"]]
    lines += [requirement for name in sorted(LOCKED_EXTRAS) for requirement in EXTRAS[name]]
    return [requirement for requirement in lines if requirement.name != PROJECT["name"]]


def conda_pins() -> dict[str, str]:
    dependencies = yaml.safe_load(Path("environment.yml").read_text(encoding="utf-8"))[
        "dependencies"
    ]
    (pip,) = (entry["pip"] for entry in dependencies if isinstance(entry, dict))
    pins = dict(line.split("==") for line in pip)
    pins |= dict(line.split("=") for line in dependencies if isinstance(line, str) and "=" in line)
    return {canonicalize_name(name): version for name, version in pins.items()}


def test_the_lock_satisfies_every_direct_requirement() -> None:
    for requirement in direct_requirements():
        version = LOCK[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{requirement} but locked {version}"


def test_the_lock_pins_every_line_exactly() -> None:
    lines = Path("requirements.lock").read_text(encoding="utf-8").splitlines()
    assert all("==" in line for line in lines if line and not line.startswith("#"))


def test_conda_users_get_the_locked_versions() -> None:
    pins = conda_pins()
    assert pins.pop("python") == "3.11"
    (pretrained,) = PROJECT["optional-dependencies"]["pretrained"]
    assert pretrained == f"torchvision=={pins.pop('torchvision')}"
    assert {name: LOCK[name] for name in pins} == pins


def test_conda_users_get_every_direct_requirement_but_mmcv() -> None:
    # MMCV is compiled after the environment exists; environment.yml's head says how.
    names = {canonicalize_name(requirement.name) for requirement in direct_requirements()}
    dependencies = yaml.safe_load(Path("environment.yml").read_text(encoding="utf-8"))[
        "dependencies"
    ]
    listed = set(conda_pins()) | {entry for entry in dependencies if isinstance(entry, str)}
    assert names - listed == {"onedl-mmcv"}
    assert f"onedl-mmcv=={LOCK['onedl-mmcv']}" in Path("environment.yml").read_text(
        encoding="utf-8"
    )


def test_a_package_of_several_extras_is_pinned_to_one_version() -> None:
    pins: dict[str, set[str]] = {}
    for requirement in (one for lines in EXTRAS.values() for one in lines):
        if "==" in str(requirement.specifier):
            pins.setdefault(requirement.name, set()).add(str(requirement.specifier))
    assert not [name for name, versions in pins.items() if len(versions) > 1]


def test_the_site_is_built_with_exact_versions() -> None:
    assert all(str(one.specifier).startswith("==") for one in EXTRAS["docs"])


def test_the_makefile_pins_nothing_that_the_lock_pins() -> None:
    text = Path("Makefile").read_text(encoding="utf-8")
    assert not [name for name, version in LOCK.items() if f"{name}=={version}" in text]


def test_the_lock_is_made_of_every_extra_that_is_tested() -> None:
    assert (
        set(re.findall(r"--extra (\w+)", Path("Makefile").read_text(encoding="utf-8")))
        == LOCKED_EXTRAS
    )


def test_an_extra_has_what_it_needs_by_itself() -> None:
    own = PROJECT["name"]
    assert [line.extras for line in EXTRAS["notebooks"] if line.name == own] == [{"suite"}]
    assert [line.extras for line in EXTRAS["dev"] if line.name == own] == [{"suite", "notebooks"}]


# --- the package -------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_wheel_has_every_module_and_template_and_asks_for_torch_only(
    tmp_path: Path,
) -> None:
    source = tmp_path / "source"  # building writes beside what it builds
    source.mkdir()
    shutil.copytree(FOLDER / "obc", source / "obc", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(FOLDER / name, source)
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
         "--wheel-dir", tmp_path, source],
        check=True, timeout=PATIENCE,
    )  # fmt: skip
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if name.startswith("obc/")}
        (metadata,) = [name for name in archive.namelist() if name.endswith("/METADATA")]
        fields = Parser().parsestr(archive.read(metadata).decode())
    asked = fields.get_all("Requires-Dist")
    files = (source / "obc").rglob("*")
    assert names == {str(path.relative_to(source)) for path in files if path.is_file()}
    assert {"obc/report/templates/report.css", "obc/report/templates/report.html.jinja"} <= names
    always = {Requirement(line).name for line in asked if "extra ==" not in line}
    assert always == {"torch"}
    assert (fields["Name"], fields["License-Expression"]) == (PROJECT["name"], "Apache-2.0")
    assert fields.get_all("Project-URL") is None and "obc/py.typed" in names


WITHOUT = """
import sys

class NotInstalled:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, NotInstalled())
"""


def without(blocked: Iterable[str], code: str) -> subprocess.CompletedProcess[str]:
    """Run code where packages of these import names are not installed."""
    setup = WITHOUT.replace("{blocked}", repr(set(blocked)))
    return subprocess.run(
        [sys.executable, "-c", setup + code],
        cwd=FOLDER, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=PATIENCE,
    )  # fmt: skip


@cache
def needed_by_the_head() -> frozenset[str]:
    """Distributions that `pip install '.[onedl]'` would bring, and what they bring."""
    found: set[str] = set()
    waiting = [*map(Requirement, PROJECT["dependencies"]), *EXTRAS["onedl"]]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if applies and name not in found:
            found.add(name)
            try:
                waiting += map(Requirement, requires(name) or [])
            except PackageNotFoundError:  # CUDA's, beside a torch for the CPU
                continue
    return frozenset(found)


def not_needed_by_the_head() -> set[str]:
    """Import names of everything else that is installed here."""
    needed = needed_by_the_head() | {"obc", PROJECT["name"]}
    return {
        module
        for module, distributions in packages_distributions().items()
        if not needed & set(map(canonicalize_name, distributions))
    }


def test_what_the_head_does_without_is_most_of_what_is_installed() -> None:
    left_out = {"snakemake", "pandas", "pydantic", "nbclient", "tabulate", "pytest", "requests"}
    assert left_out <= not_needed_by_the_head()
    assert {
        "torch",
        "mmdet",
        "mmcv",
        "mmengine",
        "numpy",
        "cv2",
    } & not_needed_by_the_head() == set()


@pytest.mark.slow
def test_with_the_head_s_packages_alone_a_config_is_built_and_trains() -> None:
    done = without(
        not_needed_by_the_head(),
        """
import torch
from mmdet.registry import MODELS
from mmdet.utils import register_all_modules
from mmengine.config import Config

model = Config.fromfile("examples/faster-rcnn_r50_fpn_obc_1x_coco.py").model
register_all_modules()
roi_head = MODELS.build(model.roi_head)
features = [torch.rand(1, 256, size, size) for size in (64, 32, 16, 8)]
boxes = torch.tensor([[0.0, 0.0, 20.0, 20.0], [5.0, 5.0, 9.0, 9.0]])
logits = roi_head._bbox_forward(features, torch.cat([torch.zeros(2, 1), boxes], 1))["bbox_pred"]
head = roi_head.bbox_head
loss = head.box_loss(logits, torch.full((2, 4), 0.5), torch.ones(2, 4), 2, None)
loss.backward()
print(logits.shape, head.bbox_coder.decode(boxes, logits).shape, loss.item() > 0)
""",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "torch.Size([2, 176]) torch.Size([2, 4]) True"


@pytest.mark.parametrize("package", ["mmdet", "mmengine", "mmcv"])
@pytest.mark.parametrize("code", ["from obc import OBCHead", "import obc.head.coders"])
def test_without_mmdetection_the_head_says_what_to_install(package: str, code: str) -> None:
    done = without([package], code)
    assert done.returncode == 1
    (last,) = done.stderr.splitlines()[-1:]
    assert f"the heads of obc need MMDetection with MMEngine and MMCV; {package} is not" in last
    assert "pip install 'offset-bin-classification[onedl]'" in last and "docs/head.md" in last


BINS = "from obc import OffsetBins; print(OffsetBins(max_offset=3.0, num_bins=20).num_bins)"


@pytest.mark.parametrize(
    ("missing", "before"),
    [
        (["mmdet", "mmengine", "mmcv"], ""),
        (["mmdet", "mmcv"], "import mmengine.registry"),
        (["mmdet"], "import mmengine.registry"),
    ],
)
def test_without_mmdetection_the_bins_work(missing: list[str], before: str) -> None:
    done = without(missing, f"{before}\n{BINS}")
    assert (done.stdout, done.returncode) == ("20\n", 0), done.stderr


def test_with_mmengine_alone_the_head_says_what_to_install() -> None:
    done = without(["mmdet"], f"import mmengine.registry\n{BINS}\nfrom obc import OBCHead")
    assert (done.stdout, done.returncode) == ("20\n", 1)
    assert "the heads of obc need MMDetection" in done.stderr.splitlines()[-1]


def test_with_mmengine_imported_the_heads_are_registered_at_once() -> None:
    code = "import mmengine.registry, obc; print('obc.head.roi_head' in sys.modules)"
    done = without([], code)
    assert done.stdout.splitlines()[-1:] == ["True"], done.stderr


@pytest.mark.parametrize(
    ("package", "arguments"),
    [("pydantic", ["plan"]), ("pandas", ["figure", "losses", "--folder", "drawn"])],
    ids=["when it starts", "in a step"],
)
def test_without_the_suite_the_command_says_what_to_install(
    package: str, arguments: list[str]
) -> None:
    done = without(
        [package],
        f"from obc.__main__ import main; sys.argv[1:] = {arguments}; sys.exit(main())",
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"obc: {package} is not installed."), done.stderr
    assert "pip install '.[suite]'" in done.stderr
    assert "Traceback" not in done.stderr


# --- licence and citation ----------------------------------------------------------------------


def test_the_citation_is_of_this_release_and_its_licence() -> None:
    citation = yaml.safe_load(Path("CITATION.cff").read_text(encoding="utf-8"))
    assert (citation["version"], citation["license"]) == (PROJECT["version"], PROJECT["license"])
    assert [one["name"] for one in citation["authors"]] == [
        one["name"] for one in PROJECT["authors"]
    ]
    paper = citation["preferred-citation"]
    bibtex = Path("README.md").read_text(encoding="utf-8").split("```bibtex")[1].split("```")[0]
    names = " and ".join(f"{one['family-names']}, {one['given-names']}" for one in paper["authors"])
    assert all(text in bibtex for text in (names, paper["title"], str(paper["year"])))


def test_the_licence_is_apache_s_in_full() -> None:
    text = Path("LICENSE").read_text(encoding="utf-8")
    assert "Apache License\n" in text and "END OF TERMS AND CONDITIONS" in text
    assert all(f"\n   {number}. " in text for number in range(1, 10))

"""pyproject.toml, requirements.lock and environment.yml describe one environment."""

from __future__ import annotations

import tomllib
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = tomllib.loads(Path("pyproject.toml").read_text())["project"]
LOCK = {
    canonicalize_name(name): version
    for name, version in (
        line.split("==")
        for line in Path("requirements.lock").read_text().splitlines()
        if "==" in line
    )
}


def direct_requirements() -> list[Requirement]:
    extras = PROJECT["optional-dependencies"]
    lines = PROJECT["dependencies"] + extras["dev"] + extras["build"]
    return [Requirement(line) for line in lines]


def conda_pins() -> dict[str, str]:
    dependencies = yaml.safe_load(Path("environment.yml").read_text())["dependencies"]
    (pip,) = (entry["pip"] for entry in dependencies if isinstance(entry, dict))
    pins = dict(line.split("==") for line in pip)
    pins |= dict(line.split("=") for line in dependencies if isinstance(line, str) and "=" in line)
    return {canonicalize_name(name): version for name, version in pins.items()}


def test_the_lock_satisfies_every_direct_requirement() -> None:
    for requirement in direct_requirements():
        version = LOCK[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{requirement} but locked {version}"


def test_the_lock_pins_every_line_exactly() -> None:
    lines = Path("requirements.lock").read_text().splitlines()
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
    dependencies = yaml.safe_load(Path("environment.yml").read_text())["dependencies"]
    listed = set(conda_pins()) | {entry for entry in dependencies if isinstance(entry, str)}
    assert names - listed == {"onedl-mmcv"}
    assert f"onedl-mmcv=={LOCK['onedl-mmcv']}" in Path("environment.yml").read_text()


def test_the_makefile_pins_nothing_that_the_lock_pins() -> None:
    text = Path("Makefile").read_text()
    assert not [name for name, version in LOCK.items() if f"{name}=={version}" in text]


def test_an_installed_package_has_the_templates_of_the_report() -> None:
    packages = tomllib.loads(Path("pyproject.toml").read_text())["tool"]["setuptools"]
    (pattern,) = packages["package-data"]["obc.report"]
    found = {path.name for path in Path("obc/report").glob(pattern)}
    assert found == {"report.css", "report.html.jinja"}

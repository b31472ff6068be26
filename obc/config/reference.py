"""A folder of committed results: its file names, and `run.yaml`, which records its origin."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import yaml
from pydantic import Field

from obc.io.files import write_text
from obc.io.folder import Folder
from obc.io.typed_yaml import Strict, read_yaml, validate

_SCHEMA = "# yaml-language-server: $schema=../../../config/schemas/{}.json\n"


class ReferenceFolder(Folder):
    """`results/reference/<name>`: the small files of a results folder that are committed."""

    @property
    def card(self) -> Path:
        """The origin of the results; see `ReferenceCard`."""
        return self.path / "run.yaml"

    @property
    def choices(self) -> Path:
        """The options of the call, for `snakemake --configfile`."""
        return self.path / "config.yaml"

    @property
    def runs(self) -> Path:
        """Records and metrics of every training, see `obc.runs.runs_file`."""
        return self.path / "runs.jsonl"

    @property
    def page(self) -> Path:
        """The page of the results; not every folder has one."""
        return self.path / "report.html"

    @property
    def examples(self) -> Path:
        """Two evaluations to compare image by image, an archive of `obc.operations.stored_runs`."""
        return self.path / "examples.tar.xz"

    @property
    def head(self) -> Path:
        """Views into a trained head, see `obc.evaluation.stored_views`."""
        return self.path / "head.npz"

    def archive(self, number: int) -> Path:
        """An archive of run folders that no earlier one has; see `obc.operations.stored_runs`.

        Args:
            number: number of the archive, from 1.
        """
        return self.path / f"runs-{number}.tar.xz"

    def archives(self) -> list[Path]:
        """All existing archives, oldest first."""
        found = self.path.glob(self.archive(0).name.replace("0", "*"))
        return sorted(found, key=lambda path: int(path.name.split("-")[1].split(".")[0]))


class ReferenceCard(Strict):
    """`run.yaml` of a folder of committed results. `obc export --format reference` writes it."""

    purpose: str = Field(description="purpose of the results")
    finding: str | None = Field(
        None, description="finding of the results, as a sentence; null: none"
    )
    commands: tuple[str, ...] = Field(
        min_length=1,
        description="commands that made the results, in order, as typed in the project's folder",
    )
    commits: tuple[str, ...] = Field(
        description="Git commits of the code that trained, in order of time"
    )
    uncommitted_changes: bool = Field(
        False, description="whether a training ran from a working tree with uncommitted changes"
    )
    first_day: date = Field(description="day on which the first training started, in UTC")
    last_day: date = Field(description="day on which the last training started, in UTC")
    machines: tuple[str, ...] = Field(description="processor, cores and GPU of each machine")
    packages: dict[str, tuple[str, ...]] = Field(description="versions of each package")
    trainings: int = Field(
        ge=0,
        description="number of trainings: one for each run and seed, starting weights included",
    )
    evaluations: int = Field(
        ge=0, description="number of evaluations: one for each decoding of each training"
    )
    device_minutes: float = Field(
        ge=0,
        description="sum over all trainings and timed evaluations: minutes, times the cores or "
        "GPUs used",
    )
    notes: tuple[str, ...] = Field(
        (), description="other facts that a reader must know, each as a sentence"
    )


def read_card(folder: ReferenceFolder) -> ReferenceCard:
    """Read the card of a folder of committed results.

    Raises:
        ConfigError: the card is missing, or a key is wrong.
    """
    return validate(ReferenceCard, read_yaml(folder.card), folder.card)


def write_card(folder: ReferenceFolder, card: ReferenceCard) -> None:
    """Write the card, which `read_card` reads back."""
    write_text(folder.card, _SCHEMA.format("reference") + _yaml(card.model_dump(mode="json")))


def write_choices(folder: ReferenceFolder, choices: dict[str, object]) -> None:
    """Write the options of the call in the form of config/config.yaml."""
    write_text(folder.choices, _SCHEMA.format("config") + _yaml(choices))


def reference_folders(root: Path) -> list[ReferenceFolder]:
    """The folders in `results/reference` that have a card, sorted by name."""
    return [ReferenceFolder(path.parent) for path in sorted(root.glob("*/run.yaml"))]


def _yaml(content: dict[str, object]) -> str:
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100)

"""Starting weights that come with the suite: which training each file stands for, and its card."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from obc.io.typed_yaml import ConfigError, Strict, read_yaml, validate

CARDS = "cards.yaml"


class Card(Strict):
    """Where one file of starting weights comes from."""

    file: str = Field(description="beside the cards, in safetensors format, half precision")
    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="of the file")
    backbone: str = Field(description="what it starts at, e.g. r50")
    data: str = Field(description="images that it was trained on, and their licence")
    command: str = Field(description="what trained it")
    commit: str = Field(description="of the suite that trained it")
    trained_sha256: str = Field(
        pattern="^[0-9a-f]{64}$", description="of the weights before they were rounded"
    )
    minutes: float = Field(
        gt=0, description="of the training loop, on a core that other jobs used too"
    )
    licence: str = Field(description="of the file")


class ShippedWeights(Card):
    """A card, and where its file lies."""

    path: Path

    @property
    def remedy(self) -> str:
        """What to do where the file is missing or another one."""
        return (
            f"get it back (`git checkout {self.path}`), or train the starting weights: "
            "--config starting_weights=train"
        )


class Cards(Strict):
    """The file of cards: one for each training, by its run id."""

    cards: dict[str, Card]


def read_cards(folder: Path) -> dict[str, ShippedWeights]:
    """The starting weights in a folder by the run id of the training that they stand for.

    Raises:
        ConfigError: the cards are wrong, or one names a file that is not there.
    """
    path = folder / CARDS
    if not path.exists():
        return {}
    found = {
        run_id: ShippedWeights(**card.model_dump(), path=folder / card.file)
        for run_id, card in validate(Cards, read_yaml(path), path).cards.items()
    }
    for run_id, shipped in found.items():
        if not shipped.path.exists():
            raise ConfigError(f"{path}: {run_id}: {shipped.path} is not there; {shipped.remedy}")
    return found

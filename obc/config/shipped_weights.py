"""Starting weights that come with the suite: the training that each file replaces, and its card."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from obc.io.typed_yaml import ConfigError, Strict, read_yaml, validate

CARDS = "cards.yaml"


class Card(Strict):
    """The origin of one file of starting weights."""

    file: str = Field(
        description="name of the file, beside the cards; safetensors format, half precision"
    )
    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="sha256 of the file")
    backbone: str = Field(description="backbone that starts from the weights, e.g. r50")
    data: str = Field(description="images that the weights were trained on, and their licence")
    command: str = Field(description="command that trained the weights")
    commit: str = Field(description="commit of the suite that trained the weights")
    trained_sha256: str = Field(
        pattern="^[0-9a-f]{64}$",
        description="sha256 of the weights before rounding to half precision",
    )
    minutes: float = Field(
        gt=0, description="minutes of the training loop, on a core that other jobs used too"
    )
    licence: str = Field(description="licence of the file")


class ShippedWeights(Card):
    """A card with the path of its file."""

    path: Path

    @property
    def remedy(self) -> str:
        """Advice for a file that is missing or does not match its card."""
        return (
            f"get it back (`git checkout {self.path}`), or train the starting weights: "
            "--config starting_weights=train"
        )


class Cards(Strict):
    """The file of cards: one card for each training, by its run id."""

    cards: dict[str, Card]


def read_cards(folder: Path) -> dict[str, ShippedWeights]:
    """Read the starting weights in a folder, by the run id of the training that they replace.

    Raises:
        ConfigError: the cards are wrong, or a card names a file that does not exist.
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

"""The folder that `obc index` writes of a data set; only this module names and reads its files.

train.json, val.json   COCO detection files whose `file_name`s are relative to the image folder
manifest.json          image folder, classes, counts, checksums; written last
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from obc.io.errors import SuiteError
from obc.io.files import read_record, require_record
from obc.io.folder import Folder


class NotIndexed(SuiteError):
    """A training or an evaluation was started before its data set was indexed."""


def read_annotations(path: Path) -> dict[str, Any]:
    """The content of a COCO detection file."""
    return json.loads(path.read_text(encoding="utf-8"))


@dataclass(frozen=True)
class DataFiles:
    """The paths of an indexed data set (image folder, COCO-format files) and its class names."""

    root: Path
    train: Path
    val: Path
    classes: tuple[str, ...]

    def ground_truth(self) -> dict[str, Any]:
        """The content of `val`."""
        return read_annotations(self.val)


class IndexFolder(Folder):
    """The index of a data set; see the module's docstring."""

    @property
    def manifest(self) -> Path:
        """The manifest. It is written last: if it exists, the other files do."""
        return self.path / "manifest.json"

    @property
    def train(self) -> Path:
        """The training images with their objects."""
        return self.split("train")

    @property
    def val(self) -> Path:
        """The images that runs are evaluated on, with their objects."""
        return self.split("val")

    def split(self, name: str) -> Path:
        """The images of a split, `train` or `val`, with their objects."""
        return self.path / f"{name}.json"

    def read_manifest(self) -> dict[str, Any]:
        """Read the manifest: what `obc index` found in the data set.

        Raises:
            NotIndexed: the folder has no manifest.
            DamagedRecord: the manifest is damaged.
        """
        if not self.manifest.exists():
            raise NotIndexed(f"{self.manifest}: not there; run `obc index` on this data set first")
        return require_record(self.manifest)

    def find_manifest(self) -> dict[str, Any] | None:
        """The manifest; None where it is missing or damaged."""
        return read_record(self.manifest)

    def files(self) -> DataFiles:
        """The paths and classes of the indexed data set.

        Raises:
            NotIndexed, DamagedRecord: as `read_manifest`.
        """
        manifest = self.read_manifest()
        return DataFiles(
            root=Path(manifest["root"]).absolute(),
            train=self.train.absolute(),
            val=self.val.absolute(),
            classes=tuple(manifest["classes"]),
        )

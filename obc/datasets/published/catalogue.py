"""The published data sets and weights of config/datasets.yaml, and the checks of their files."""

from __future__ import annotations

import hashlib
from pathlib import Path, PurePosixPath
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, PositiveInt, model_validator

from obc.datasets.settings import CocoData, ShapesData, VocData
from obc.io.typed_yaml import ConfigError, Strict, read_yaml, validate

DATASETS = Path("config/datasets.yaml")
Url = Annotated[str, Field(pattern=r"^https?://\S+$")]
Checksum = Annotated[str, Field(pattern=r"^(md5:[0-9a-f]{32}|sha256:[0-9a-f]{8,64})$")]


class RemoteFile(Strict):
    """One published file."""

    urls: tuple[Url, ...] = Field(min_length=1, description="the same file, mirrors last")
    bytes: PositiveInt | None = Field(None, description="null: not known for certain")
    checksum: Checksum | None = Field(
        None, description="md5, or sha256 or its beginning; null: none is published, `why` says so"
    )
    why: str | None = Field(None, description="what is known of the checksum where it is null")

    @model_validator(mode="after")
    def _names_and_reasons(self) -> RemoteFile:
        if self.checksum is None and self.why is None:
            raise ValueError(f"{self.name} has no checksum; `why` must say why there is none")
        if len({_file_name(url) for url in self.urls}) > 1:
            raise ValueError(f"urls {list(self.urls)}: must end in the same file name")
        return self

    @property
    def name(self) -> str:
        """The file's name, from its URLs."""
        return _file_name(self.urls[0])

    def mismatch(self, path: Path) -> str | None:
        """Describe how a file differs from the published size or checksum; None if it does not."""
        size = path.stat().st_size
        if self.bytes is not None and size != self.bytes:
            return f"has {size} bytes, published are {self.bytes}"
        if self.checksum is None:
            return None
        algorithm, _, expected = self.checksum.partition(":")
        with path.open("rb") as file:
            found = hashlib.file_digest(file, algorithm).hexdigest()
        if not found.startswith(expected):
            return f"has {algorithm} {found}, published is {expected}"
        return None


class Published(Strict):
    """A folder of a data set, or a weights file, which `obc fetch` downloads as a unit."""

    name: str = Field(description="its key")
    title: str = Field(description="for people")
    licence: str = Field(description="for people")
    target: Path = Field(description="from the project's folder")
    files: tuple[RemoteFile, ...] = Field(min_length=1, description="what is downloaded")
    folder: PurePosixPath | None = Field(
        None, description="what of the archives becomes the target; null: the file is the target"
    )
    shows: tuple[PurePosixPath, ...] = Field(
        (), description="files in the target that tell it is there"
    )
    unpacked_bytes: PositiveInt | None = Field(
        None, description="about; null: as the archives, which images hardly shrink in"
    )
    checkpoint: str | None = Field(None, description="what a scale's `pretrained` calls it")

    @model_validator(mode="after")
    def _a_folder_or_a_file(self) -> Published:
        if self.folder is not None and not self.shows:
            raise ValueError(f"{self.name} is unpacked; `shows` must name files that tell it is")
        if self.folder is None and [file.name for file in self.files] != [self.target.name]:
            raise ValueError(
                f"{self.name} is not unpacked (no `folder`), so its target {self.target} must be "
                f"its one file {self.files[0].name}"
            )
        return self

    @property
    def download_bytes(self) -> int:
        """Bytes of all its files whose size is known."""
        return sum(file.bytes or 0 for file in self.files)

    @property
    def stamp(self) -> Path:
        """The file that records that the entry is complete; relative to the project's folder."""
        return Path("data/fetched") / f"{self.name}.json"

    def missing(self, root: Path) -> list[Path]:
        """Expected files that are missing or empty in the project's folder `root`."""
        target = root / self.target
        wanted = [target / path for path in self.shows] or [target]
        return [path for path in wanted if not path.is_file() or path.stat().st_size == 0]


def _file_name(url: str) -> str:
    return PurePosixPath(urlsplit(url).path).name


def read_datasets(path: Path = DATASETS) -> dict[str, Published]:
    """Return the entries of a datasets file by name; ConfigError when anything in it is wrong."""
    entries = read_yaml(path)
    for name, entry in entries.items():
        if not isinstance(entry, dict) or "name" in entry:
            raise ConfigError(f"{path}: {name}: must be a mapping of keys, `name` not among them")
    return {
        name: validate(Published, {"name": name, **entry}, path) for name, entry in entries.items()
    }


def of_data(
    data: ShapesData | VocData | CocoData, datasets: dict[str, Published]
) -> list[Published]:
    """The entries of `datasets` that make up a data set; none for a folder that no entry fills."""
    if isinstance(data, ShapesData):
        return []
    if isinstance(data, VocData):
        folders = {name.rpartition("/")[0] for name in (*data.train, *data.val)} - {""}
    else:
        folders = {"annotations", data.train, data.val}
    targets = {data.root / folder for folder in folders}
    return [one for one in datasets.values() if one.target in targets]

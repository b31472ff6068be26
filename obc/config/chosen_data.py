"""The scale and the data that the options of one call select."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from obc.config.paper_setting import scaled_lr
from obc.config.scale import Scale
from obc.config.user_choices import SuiteConfig
from obc.datasets.hashes import FileHashes
from obc.datasets.identity import fingerprint, location, place, text_digest
from obc.datasets.settings import (
    CocoData,
    Data,
    DatasetName,
    Difficult,
    ShapesData,
    VocData,
    data_identity,
)
from obc.io.typed_yaml import ConfigError, read_yaml, validate


@dataclass(frozen=True)
class ChosenData:
    """A scale with the user's data in place of its own, where the user gave some.

    Attributes:
        scale: the scale with the data sets, and their image sizes, that this call uses.
        own: names of the tables' data sets that are the user's, see `_is_own`. `init` is never
            among them: no table is about it.
        identities: settings and fingerprint of each data set, which run ids hash.
        locations: digest of the folder of each data set that is not drawn, and for the user's data
            of the images' names and contents; when it changes, the data set is indexed again.
        results: the results folder of this call. It differs for own data, changes and other
            protocols, so that their tables do not replace those of the scale.
        notes: sentences about the user's data to print under every table.
    """

    scale: Scale
    own: tuple[DatasetName, ...]
    identities: dict[DatasetName, dict[str, Any]]
    locations: dict[DatasetName, str]
    results: Path
    notes: tuple[str, ...]


def choose_data(config: SuiteConfig, scales: Path) -> ChosenData:
    """Read the chosen scale and replace its data sets by the user's.

    Raises:
        ConfigError: the scale does not exist or is wrong, or a split is given without a folder.
        DatasetError: a user's folder is not in VOC or COCO layout.
    """
    scale = _read_scale(config, scales)
    # `difficult` applies to the scale's data too and does not make them the user's own.
    published = {name: _with_difficult(d, config.difficult) for name, d in scale.data.items()}
    data = {name: _with_choices(name, d, config, scale) for name, d in published.items()}
    data |= _initial_data(data, config, scale)
    folders = {
        name: d
        for name, d in data.items()
        if not isinstance(d, ShapesData) and _is_own(d, published[name])
    }
    own = tuple(name for name in folders if name != "init")
    if config.allow_shared_images and not own:
        raise ConfigError(
            "allow_shared_images: true without a folder of your own; allowed with voc_root or "
            "coco_root only"
        )
    image_scale = {**scale.sizes.image_scale}
    if scale.own_data.image_scale is not None:
        image_scale |= dict.fromkeys(folders, scale.own_data.image_scale)
    sizes = scale.sizes.model_copy(update={"image_scale": image_scale})
    naming = [folders[name] for name in own or folders]
    results = Path(config.results) / _results_name(config, scales, naming)
    hashes = FileHashes(results / "data" / "file-hashes.json")
    return ChosenData(
        scale=scale.model_copy(update={"data": data, "sizes": sizes}),
        own=own,
        identities={name: _identity(d, name in folders, hashes) for name, d in data.items()},
        locations={
            name: _location(d, name in folders, hashes)
            for name, d in data.items()
            if not isinstance(d, ShapesData)
        },
        results=results,
        notes=tuple(_note(name, d, scale.name) for name, d in folders.items()),
    )


def _read_scale(config: SuiteConfig, scales: Path) -> Scale:
    path = scales / f"{config.scale}.yaml"
    if not path.exists():
        known = ", ".join(sorted(file.stem for file in scales.glob("*.yaml")))
        raise ConfigError(f"scale: {config.scale!r} is not one; allowed: {known} ({scales})")
    raw = read_yaml(path)
    for key, value in config.change.items():
        _change(raw, key, value, path)
    if "name" in raw:
        raise ConfigError(f"{path}: name: a scale is called as its file; drop the key")
    if config.protocol is not None:
        raw["protocol"] = config.protocol
    scale = validate(Scale, {"name": config.scale, **raw}, path)
    return _with_scaled_lr(scale) if config.scale_lr else scale


def _with_scaled_lr(scale: Scale) -> Scale:
    if not scale.papers_setting:
        raise ConfigError(
            f"scale_lr: scale {scale.name} has a learning rate of its own; allowed at a scale with "
            "papers_setting: true, as paper; elsewhere give one, e.g. label=mine "
            "'change={\"schedule.lr\":0.08}'"
        )
    schedule = scale.schedule.model_copy(update={"lr": scaled_lr(scale.schedule)})
    return scale.model_copy(update={"schedule": schedule})


def _change(raw: dict[str, Any], key: str, value: Any, path: Path) -> None:
    """Set a dotted key of a scale file; its sections must exist, the key may be new."""
    *sections, last = key.split(".")
    for section in sections:
        if not isinstance(raw.get(section), dict):
            raise ConfigError(
                f"change: {key}: {path} has no section {section!r} there; "
                f"it has: {', '.join(map(str, raw))}"
            )
        raw = raw[section]
    raw[last] = value


def _with_difficult(data: Data, difficult: Difficult | None) -> Data:
    in_voc_layout = isinstance(data, VocData) or getattr(data, "layout", None) == "voc"
    if difficult is None or not in_voc_layout:
        return data
    return data.model_copy(update={"difficult": difficult})


def _with_choices(name: DatasetName, default: Data, config: SuiteConfig, scale: Scale) -> Data:
    """The scale's data set, or the user's folder that replaces it."""
    chosen = {
        key.removeprefix(f"{name}_"): value
        for key, value in config.model_dump(exclude_none=True).items()
        if key.startswith(f"{name}_") and key != f"{name}_init"
    }
    if not chosen:
        return default
    if isinstance(default, ShapesData):
        if "root" not in chosen:
            raise ConfigError(
                f"{name}_{next(iter(chosen))} is given without {name}_root; "
                f"scale {scale.name} draws its own {name} data, so name a folder or drop the key"
            )
        base: dict[str, Any] = {
            "kind": name,
            "max_train_images": scale.own_data.train_images,
            "max_val_images": scale.own_data.val_images,
            **({"difficult": default.difficult} if name == "voc" else {}),
        }
    else:
        base = default.model_dump()
        if set(chosen) != {"root"}:
            base |= {"expected_train_images": None, "expected_val_images": None}
    model: type[VocData | CocoData] = VocData if name == "voc" else CocoData
    folder = validate(model, {**base, **chosen}, Path(f"{name}_root and its options"))
    if not _is_own(folder, default):
        return folder
    return folder.model_copy(
        update={
            "difficult": config.difficult or folder.difficult,
            "allow_shared_images": config.allow_shared_images,
        }
    )


def _initial_data(
    data: dict[DatasetName, Data], config: SuiteConfig, scale: Scale
) -> dict[DatasetName, Data]:
    """Data of the shared starting weights, where the user names splits for them; else empty."""
    asked: dict[DatasetName, tuple[str, ...] | str | None] = {
        "voc": config.voc_init,
        "coco": config.coco_init,
    }
    for name, splits in asked.items():
        if splits is None:
            continue
        folder = data.get(name)
        if scale.initialisation is None or folder is None or isinstance(folder, ShapesData):
            raise ConfigError(
                f"{name}_init: allowed at a scale with an initialisation and with {name} data in a "
                f"folder, e.g. scale photos with {name}_root; this is scale {scale.name}"
            )
        changes = {"train": splits, "max_train_images": None, "expected_train_images": None}
        return {"init": folder.model_copy(update=changes)}
    return {}


def _is_own(data: VocData | CocoData, published: Data) -> bool:
    """Whether a data set is the user's, so that only its content identifies it.

    It is the scale's published data set if it has the same settings and either lies in the same
    folder or has published counts: these are checked, so the folder may be anywhere.
    """
    if isinstance(published, ShapesData):
        return True
    if data_identity(data, None) != data_identity(published, None):
        return True
    return not data.has_published_counts and place(data.root) != place(published.root)


def _identity(data: Data, own: bool, hashes: FileHashes) -> dict[str, Any]:
    """The identity of a data set, which run ids hash; only a user's own folder is read for it."""
    if isinstance(data, ShapesData) or not own:
        return data_identity(data, None)
    return data_identity(data, fingerprint(data, data.root, hashes))


def _location(data: VocData | CocoData, own: bool, hashes: FileHashes) -> str:
    """Digest of a data set's location; images count only in a user's folder.

    Published images may not be downloaded yet.
    """
    return location(data, data.root, hashes) if own else text_digest([place(data.root)])[:16]


def _results_name(config: SuiteConfig, scales: Path, own: list[VocData | CocoData]) -> str:
    protocol = read_yaml(scales / f"{config.scale}.yaml")["protocol"]
    other = None if config.protocol == protocol else config.protocol
    folders = "-".join(_plain(data.root.resolve().name.lower()) for data in own)
    return "-".join(filter(None, (config.scale, other, config.label or folders)))


def _plain(name: str) -> str:
    """A folder's name without characters that are special to a shell or to Snakemake."""
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "own"


def _note(name: DatasetName, data: VocData | CocoData, scale: str) -> str:
    shared = (
        "; images may be in both training and validation (allow_shared_images), so AP may be too "
        "high"
    )
    return (
        f"{name}: own data from {data.root}, at most {data.max_train_images or 'all'} training and "
        f"{data.max_val_images or 'all'} validation images at scale {scale}"
        f"{shared if data.allow_shared_images else ''}"
    )

"""The options of one call (config.yaml), and the scale and data that they select."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, field_validator, model_validator

from obc.config.paper_setting import scaled_lr
from obc.config.plugins import import_plugins
from obc.config.protocols import Protocol
from obc.config.scale import Scale, Seed, check_seeds
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
from obc.io.typed_yaml import ConfigError, Strict, read_yaml, validate

Tracking = Literal["tensorboard", "wandb", "mlflow"]
# Keys whose list may be given as a single value.
ONE_OR_LIST = ("plugins", "voc_train", "voc_val", "voc_init", "voc_classes")


class Examples(Strict):
    """The two rows of a table that Figure 6 compares on single images, by their keys."""

    table: str = Field("table1", description="table of the two rows")
    baseline: str = Field("regression", description="key of the row on the left")
    method: str = Field("full", description="key of the row on the right")
    images: int = Field(
        4,
        ge=1,
        le=20,
        description="number of images of each kind (both rows find every object, or at least one "
        "row misses an object); gains and losses are shown in the ratio in which they occur",
    )
    min_score: float = Field(
        0.3, ge=0, lt=1, description="detections with a lower score are ignored"
    )


class DetailRows(Strict):
    """The rows of `detail_table` whose heads are inspected, by their keys."""

    one_stage: str = Field("bins", description="key of a row with one stage of bins")
    two_stages: str = Field("full", description="key of a row with two stages of bins")


class SuiteConfig(Strict):
    """config/config.yaml and `--config key=value`: the options of one call."""

    scale: str = Field(
        "quick", description="name of a scale: a file in config/scales, without .yaml"
    )
    seeds: tuple[Seed, ...] | dict[str, tuple[Seed, ...]] | None = Field(
        None,
        description="seeds of the trainings; every run is trained once for each seed; a list, "
        "e.g. [0,1,2], or lists by table, e.g. {default: [0], table1: [0,1,2]}; a run that "
        "several tables need gets the seeds of all; null: the scale's",
    )
    starting_weights: Literal["shipped", "train"] = Field(
        "shipped",
        description="shipped: use the starting weights that come with the suite "
        "(config/starting_weights) where they fit the scale, instead of training them; train: "
        "train all starting weights",
    )
    results: str = Field(
        "results", description="folder for all results; each scale has its own folder in it"
    )
    label: str | None = Field(
        None,
        pattern=r"^[\w-][\w.-]*$",
        description="name for results of your own data or of a changed scale, which go to "
        "results/<scale>-<label>; null: the name of your data's folder, if any",
    )
    protocol: Protocol | None = Field(
        None,
        description="training protocol, see docs/protocols.md; with another protocol than the "
        "scale's, results go to results/<scale>-<protocol>; null: the scale's",
    )
    scale_lr: bool = Field(
        False,
        description="multiply lr by batch_size / 4 (4 is the paper's batch size); only at a "
        "scale with papers_setting",
    )
    change: dict[str, Any] = Field(
        {},
        description="new values for keys of the scale, by dotted key, for an experiment; needs a "
        "label",
    )
    gpus_per_run: int | None = Field(
        None,
        ge=0,
        description="GPUs that train one run together, each on its share of every batch; 0: the "
        "CPU; null: the scale's runtime.gpus; never part of a run id",
    )
    tracking: Tracking | None = Field(
        None,
        description="tracker that also gets the losses of every training: TensorBoard, Weights & "
        "Biases or MLflow, see docs/running.md; null: none; never part of a run id",
    )
    plugins: tuple[str, ...] = Field(
        (),
        description="modules of yours, in the project's folder or on Python's path, to import "
        "before tables are read, see docs/extending.md; a name or a list; never part of a run id",
    )
    show_images: bool = Field(
        True,
        description="true: draw test images in figures and on the page; false: draw only their "
        "boxes, on grey, so that you can share results of images that you may not share",
    )
    examples: Examples = Field(Examples(), description="rows and images of Figure 6, see below")
    detail_table: str = Field(
        "table1",
        description="table whose rows are drawn as training, precision-recall and AP curves and "
        "diagnosed",
    )
    detail_rows: DetailRows = Field(
        DetailRows(),
        description="rows of detail_table for the figures of a head's output, see below",
    )
    difficult: Difficult | None = Field(
        None,
        description="use of objects that VOC marks difficult; gt: like other objects; "
        "train_without: not trained on, but required in the evaluation; ignore: not trained on "
        "and not required, and finding one is no mistake; null: the scale's",
    )
    voc_root: Path | None = Field(
        None,
        description="path of a VOC year folder (JPEGImages, Annotations, ImageSets) or a "
        "VOCdevkit; it counts as your own data, except at a scale with published counts (paper) "
        "if you name no splits and no classes; null: the scale's data",
    )
    voc_train: tuple[str, ...] | None = Field(
        None,
        description="training splits, in a devkit e.g. VOC2007/trainval; a name or a list; null: "
        "the scale's, or train where the scale generates its VOC data",
    )
    voc_val: tuple[str, ...] | None = Field(
        None, description="validation splits, as voc_train; null: the scale's, or val"
    )
    voc_classes: tuple[str, ...] | None = Field(
        None, description="class names of your own folder; null: the scale's, or VOC's 20"
    )
    voc_init: tuple[str, ...] | None = Field(
        None,
        description="splits of the VOC data that the shared starting weights are trained on, at "
        "a scale with an `initialisation`; images that are also training or validation images of "
        "a table, by content, are refused; null: the scale's data.init, which is not compared "
        "with your images",
    )
    coco_root: Path | None = Field(
        None,
        description="path of a folder with annotations/instances_<split>.json and <split>/; it "
        "counts as your own data, except at a scale with published counts (paper) if you name no "
        "splits; null: the scale's data",
    )
    coco_train: str | None = Field(
        None, description="training split; null: the scale's, or train2017"
    )
    coco_val: str | None = Field(
        None, description="validation split; null: the scale's, or val2017"
    )
    coco_init: str | None = Field(
        None, description="split of the COCO data for the starting weights; otherwise as voc_init"
    )
    allow_shared_images: bool = Field(
        False,
        description="allow images that are in both training and validation of your own folder; "
        "AP is then too high, and a note under every table says so",
    )

    @field_validator(*ONE_OR_LIST, mode="before")
    @classmethod
    def _one_stands_for_a_list(cls, value: Any) -> Any:
        return [value] if isinstance(value, str | int) else value

    @field_validator("seeds", mode="before")
    @classmethod
    def _no_number_of_seeds(cls, value: Any) -> Any:
        """Refuse a lone number: it could be a seed or, as in `make SEEDS=3`, a number of seeds."""
        if isinstance(value, int):
            several = ",".join(map(str, range(value))) if 0 < value <= 9 else "0,1,2"
            count = len(several.split(","))
            raise ValueError(
                f"seeds={value} could be one seed or a number of seeds: write seeds=[{value}] for "
                f"the training with seed {value}, seeds=[{several}] for {count} "
                f"training{'s' if count > 1 else ''} of every run"
            )
        return value

    @field_validator("plugins")
    @classmethod
    def _imported(cls, plugins: tuple[str, ...]) -> tuple[str, ...]:
        """Import plugins here, because a stored plan is read and validated without `load_plan`."""
        import_plugins(plugins)
        return plugins

    @field_validator("change")
    @classmethod
    def _from_the_command_line(cls, change: dict[str, Any]) -> dict[str, Any]:
        """Parse texts: Snakemake passes every value of its command line as text, even `null`."""
        return {key: _from_text(key, value) for key, value in change.items()}

    @field_validator("results")
    @classmethod
    def _of_plain_names(cls, results: str) -> str:
        """Refuse special characters: Snakemake patterns and cluster commands contain the folder."""
        wrong = sorted(set(re.findall(r"[^\w./+@,=%-]", results)))
        if wrong or results.startswith("-") or not results:
            raise ValueError(
                f"results is {results!r}; allowed: letters, digits and . / + @ , = % _ - , with no "
                f"- at the start{f'; it has {wrong}' if wrong else ''}"
            )
        return results

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: Any) -> Any:
        if seeds is not None:
            check_seeds(seeds if isinstance(seeds, dict) else {"default": seeds})
        return seeds

    @model_validator(mode="after")
    def _one_source_of_starting_weights(self) -> SuiteConfig:
        if self.voc_init is not None and self.coco_init is not None:
            raise ValueError("voc_init and coco_init are both given; allowed is one of them")
        return self

    @model_validator(mode="after")
    def _changes_have_a_label(self) -> SuiteConfig:
        if self.change and self.label is None:
            raise ValueError(
                f"change of {', '.join(self.change)} without a label; results of a changed scale "
                "need a folder of their own, e.g. label=pilot"
            )
        return self


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
    hashes = results / "data" / "file-hashes.json"
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


def _from_text(key: str, value: Any) -> Any:
    """Parse a text, or the texts in a list or mapping, as YAML; `key` is for messages."""
    if isinstance(value, str):
        try:
            return yaml.safe_load(value)
        except (yaml.YAMLError, ValueError) as error:  # ValueError: a date such as 2020-13-01
            reason = getattr(error, "problem", None) or error
            raise ValueError(
                f"{key}: {value!r} is not valid YAML ({reason}); allowed: a number, a text, true, "
                "false, null, or a list or mapping of these, e.g. [1, 2]"
            ) from None
    if isinstance(value, list):
        return [_from_text(key, part) for part in value]
    if isinstance(value, dict):
        return {name: _from_text(f"{key}.{name}", part) for name, part in value.items()}
    return value


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


def _identity(data: Data, own: bool, hashes: Path) -> dict[str, Any]:
    """The identity of a data set, which run ids hash; only a user's own folder is read for it."""
    if isinstance(data, ShapesData) or not own:
        return data_identity(data, None)
    return data_identity(data, fingerprint(data, data.root, hashes))


def _location(data: VocData | CocoData, own: bool, hashes: Path) -> str:
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

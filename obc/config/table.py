"""Models of tables and figures, and the reader of their files in config/experiments.

In a file, `common` holds the keys that all rows share. The keys of a row's spec are on the same
level as its label. A `grid` expands to one row for each combination of its values.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from obc.config.box_losses.registry import BOX_LOSSES, BoxLoss, Decode
from obc.config.run import RunSpec
from obc.datasets.settings import DatasetName
from obc.io.typed_yaml import ConfigError, Strict, read_yaml, validate

METRICS = ("AP", "AP50", "AP60", "AP70", "AP75", "AP80", "AP90", "AP_S", "AP_M", "AP_L")
Metric = Literal["AP", "AP50", "AP60", "AP70", "AP75", "AP80", "AP90", "AP_S", "AP_M", "AP_L"]
Percent = Annotated[float, Field(ge=0, le=100)]


class Row(Strict):
    """A line of a table: the paper's label and numbers, and the spec (or a citation)."""

    label: str = Field(description="label, as the paper prints it")
    key: str | None = Field(
        None, pattern=r"^[a-z]\w*$", description="name of the row in claims.yaml and `against`"
    )
    against: str | None = Field(
        None, description="key of the row to compare this row with, in <table>_compared.md"
    )
    columns: dict[str, str] = Field(
        {}, description="texts of further label columns, by heading, e.g. Backbone"
    )
    block: str = Field(
        "", description="name of a block of rows; the best number of each block is bold"
    )
    cited: bool = Field(
        False, description="true: the numbers are from the literature, and the row is never trained"
    )
    run: RunSpec | None = Field(None, description="settings of the training")
    decode: Decode | None = Field(
        None,
        description="decoding: how the head's logits become offsets; left out: expectation for "
        "bins, regression otherwise",
    )
    paper: tuple[Percent | None, ...] | None = Field(
        None, description="published numbers, one for each metric; null: not published"
    )

    @model_validator(mode="after")
    def _spec_or_citation(self) -> Row:
        if self.cited == (self.run is not None):
            raise ValueError("a row is either cited: true or has a spec (detector, backbone, box)")
        if self.cited and self.paper is None:
            raise ValueError("a cited row needs its published numbers in paper:")
        if self.run is not None and self.decode not in self.run.decodes:
            raise ValueError(
                f"decode {self.decode!r} does not fit box loss {self.run.box.loss!r}, "
                f"allowed: {', '.join(self.run.decodes)}"
            )
        return self


class Plot(Strict):
    """The drawing of a figure: one line per series value, one point per x value."""

    x: str = Field(description="dotted key of the spec for the horizontal axis")
    x_label: str = Field(description="label of the horizontal axis")
    x_symbol: str | None = Field(
        None, description="short name of the horizontal axis in lists of points; null: x_label"
    )
    series: str = Field(description="dotted key of the spec; each of its values is a line")
    series_label: str = Field(description="name of the series in the legend")
    colors: dict[str, Annotated[str, Field(pattern="^#[0-9a-fA-F]{6}$")]] = Field(
        description="colour of each line as #rrggbb, by series value"
    )

    def value(self, run: RunSpec, axis: Literal["x", "series"]) -> float:
        """The number at the dotted key of an axis; ValueError when there is none."""
        key: str = getattr(self, axis)
        found: Any = run
        for name in key.split("."):
            found = getattr(found, name, None)
        if isinstance(found, bool) or not isinstance(found, int | float):
            raise ValueError(f"plot.{axis}: {key} is {found!r} in a row, allowed: a number")
        return found

    def line(self, run: RunSpec) -> str:
        """The series value of a row as `colors` and the legend name it."""
        return f"{self.value(run, 'series'):g}"


class Resembles(Strict):
    """Search for the paper's row that each row resembles, by differences to a reference row."""

    table: str = Field(description="name of a table of the paper")
    less: str = Field(
        description="key of the reference row in that table; its other rows are compared with it"
    )
    ours: str = Field(description="key of the row in this table that corresponds to `less`")


class TableSpec(Strict):
    """A table of the paper: one file in config/experiments."""

    kind: Literal["table"] = "table"
    name: str = Field(pattern=r"^[A-Za-z]\w*$", description="name of the file; also the target")
    title: str = Field(description="title in the caption")
    section: str = Field("", description="section of the paper; left out with `beyond`")
    dataset: DatasetName = Field(description="data set of all rows")
    beyond: bool = Field(
        False,
        description="true: the table is not one of the paper's; it is made only by its name, not "
        "by `all`, and adds no seeds to runs that it shares with the paper's tables",
    )
    resembles: Resembles | None = Field(
        None,
        description="for each row with the detector and box loss of `ours`, name the nearest row "
        "of a table of the paper in <table>_compared.md; nearest by differences in the metrics "
        "of both tables",
    )
    metrics: tuple[Metric, ...] = Field(min_length=1, description="metrics, one column for each")
    rows: tuple[Row, ...] = Field(min_length=1, description="rows of the table, see below")

    @model_validator(mode="after")
    def _keys_differ(self) -> TableSpec:
        keys = [row.key for row in self.rows if row.key is not None]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        if twice:
            raise ValueError(f"key {', '.join(twice)} names two rows; each row needs its own")
        return self

    @model_validator(mode="after")
    def _the_paper_s_have_a_section(self) -> TableSpec:
        if self.beyond == bool(self.section):
            raise ValueError(
                "a table has either a section of the paper or beyond: true, which is made only "
                "when it is named"
            )
        return self

    @model_validator(mode="after")
    def _compared_with_rows_that_are_there(self) -> TableSpec:
        trained = [key for key, row in self.keyed_rows.items() if not row.cited]
        for row in self.compared_rows:
            if row.against not in trained or row.against == row.key or row.key is None:
                raise ValueError(
                    f"row {row.label!r}: against is {row.against!r}, allowed: the key of another "
                    f"row that is trained ({', '.join(trained)}), and a key of its own"
                )
        return self

    @model_validator(mode="after")
    def _resembles_by_a_trained_row(self) -> TableSpec:
        key = None if self.resembles is None else self.resembles.ours
        if key is not None and (key not in self.keyed_rows or self.keyed_rows[key].cited):
            known = ", ".join(name for name, row in self.keyed_rows.items() if not row.cited)
            raise ValueError(f"resembles.ours is {key!r}, allowed: the key of a row ({known})")
        return self

    @model_validator(mode="after")
    def _one_number_per_metric(self) -> TableSpec:
        if len(set(self.metrics)) != len(self.metrics):
            raise ValueError(f"metrics {', '.join(self.metrics)}: one is named twice")
        for row in self.rows:
            if row.paper is not None and len(row.paper) != len(self.metrics):
                raise ValueError(
                    f"row {row.label!r}: paper has {len(row.paper)} numbers, "
                    f"allowed: one per metric = {len(self.metrics)} ({', '.join(self.metrics)})"
                )
            if row.run is not None and row.run.dataset != self.dataset:
                raise ValueError(f"row {row.label!r} is on {row.run.dataset}, not {self.dataset}")
        return self

    @property
    def keyed_rows(self) -> dict[str, Row]:
        """The rows with a key, which claims can name."""
        return {row.key: row for row in self.rows if row.key is not None}

    @property
    def compared_rows(self) -> tuple[Row, ...]:
        """The rows that name another row to be compared with (`against`)."""
        return tuple(row for row in self.rows if row.against is not None)

    def published(self, row: Row, metric: str) -> float | None:
        """The paper's number of a cell, in percent; None where the paper prints none."""
        return None if row.paper is None else row.paper[self.metrics.index(metric)]


class FigureSpec(TableSpec):
    """A figure of the paper that is a grid of runs; its rows are also written as a table."""

    kind: Literal["figure"] = "figure"  # type: ignore[assignment]
    plot: Plot = Field(description="axes, lines and colours of the drawing")

    @model_validator(mode="after")
    def _every_row_can_be_drawn(self) -> FigureSpec:
        for row in self.rows:
            if row.run is None:
                continue
            self.plot.value(row.run, "x")
            series = self.plot.line(row.run)
            if series not in self.plot.colors:
                raise ValueError(
                    f"plot.colors has no colour for {self.plot.series} = {series}, "
                    f"it has: {', '.join(self.plot.colors)}"
                )
        return self


# Rules of the workflow; a table of the same name would be a second rule with that name.
RESERVED_NAMES = {
    "all", "partial", "plan", "fetch", "draw", "index", "train", "evaluate", "table", "figure",
    "claims", "claims_report", "compared", "losses", "figure4", "figure6", "training_curves",
    "curves", "diagnosis", "inside", "page", "report",
}  # fmt: skip


def read_table(path: Path) -> FigureSpec | TableSpec:
    """Read one table or figure: merge `common` into each row, expand each row's `grid`.

    Raises:
        ConfigError: anything in the file is wrong.
    """
    raw = read_yaml(path)
    if "name" in raw or path.stem in RESERVED_NAMES | {"all_csv"}:
        raise ConfigError(
            f"{path}: a table is called as its file; drop a key `name`, and call the file "
            f"neither {', '.join(sorted(RESERVED_NAMES))} nor all_csv"
        )
    common, rows = raw.pop("common", {}), raw.get("rows")
    if not isinstance(common, dict):
        raise ConfigError(f"{path}: common: must be a mapping of keys that all rows share")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ConfigError(f"{path}: rows: must be a list of rows (label, box, decode, paper)")
    raw["rows"] = [model for row in rows for model in _row_models(row, common, raw, path)]
    model = FigureSpec if raw.get("kind") == "figure" else TableSpec
    return validate(model, {"name": path.stem, **raw}, path)


def _row_models(
    row: dict[str, Any], common: dict[str, Any], table: dict[str, Any], path: Path
) -> list[dict[str, Any]]:
    """Input of the row model, for each combination of a row's grid."""
    if row.get("cited"):
        return [row]  # `common` is about trainings; a cited row has none
    return [_row(point, table.get("dataset")) for point in _crossed(_merged(common, row), path)]


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Deep merge; a box with another loss replaces the common box instead of mixing with it."""
    merged = {**base}
    for key, value in over.items():
        old = merged.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            replaces = "loss" in value and value["loss"] != old.get("loss", value["loss"])
            value = value if replaces else _merged(old, value)
        merged[key] = value
    return merged


def _crossed(row: dict[str, Any], path: Path) -> list[dict[str, Any]]:
    """The row once for each combination of its `grid` (dotted key: list of values)."""
    grid = row.pop("grid", None)
    if grid is None:
        return [row]
    if not isinstance(grid, dict) or not all(
        isinstance(key, str) and isinstance(values, list) and values for key, values in grid.items()
    ):
        raise ConfigError(f"{path}: grid: must map dotted keys (box.num_bins) to non-empty lists")
    return [
        _point(row, dict(zip(grid, values, strict=True)), path)
        for values in itertools.product(*grid.values())
    ]


def _point(row: dict[str, Any], values: dict[str, Any], path: Path) -> dict[str, Any]:
    """The row with one value per dotted key; label and key may have `{last part of the key}`."""
    point = row
    for key, value in values.items():
        nested: Any = value
        for part in reversed(key.split(".")):
            nested = {part: nested}
        point = _merged(point, nested)
    names = {key.rsplit(".", 1)[-1]: value for key, value in values.items()}
    texts = {name: str(point[name]) for name in ("label", "key") if name in point}
    try:
        return {**point, **{name: text.format(**names) for name, text in texts.items()}}
    except (KeyError, IndexError, ValueError) as error:
        raise ConfigError(
            f"{path}: {' and '.join(f'{name} {text!r}' for name, text in texts.items())}: "
            f"no grid key {error}, allowed: {', '.join(names)}"
        ) from None


def _row(raw: dict[str, Any], dataset: Any) -> dict[str, Any]:
    """Separate a flat YAML row into what the row model and the run spec each take."""
    row = {key: value for key, value in raw.items() if key in Row.model_fields and key != "run"}
    run = {"dataset": dataset, **{key: value for key, value in raw.items() if key not in row}}
    box = run.get("box")
    model = BOX_LOSSES.get(str(box.get("loss"))) if isinstance(box, dict) else None
    row.setdefault("decode", (model or BoxLoss).default_decode)
    return {**row, "run": run}


def row_label(row: Row) -> str:
    """A row's label with its further columns, e.g. `Bin Classification (Expectation ✓)`."""
    columns = [f"{name} {value}" for name, value in row.columns.items() if value]
    return f"{row.label} ({', '.join(columns)})" if columns else row.label

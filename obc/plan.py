"""From the files in config/ to a plan: which runs, at which scale, for which tables.

`load_plan` reads and validates everything before any job starts; whatever is wrong becomes one
`ConfigError` that names the file, the key and what is allowed. The workflow freezes the plan into
`results/<scale>/plan.json` when it starts, and every job reads that, so that editing a YAML file
while the DAG runs changes nothing under its feet.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from obc.atomic import write_text
from obc.claims import Claims, read_claims
from obc.config import SuiteConfig, choose_data
from obc.datasets.published import Published, needed, read_datasets
from obc.drift import deviations
from obc.experiment import (
    FigureSpec,
    ResolvedRun,
    Row,
    RunSpec,
    TableSpec,
    digest,
    resolve,
    resolve_initial,
)
from obc.scale import DatasetName, Difficult, Scale, ShapesData, Strict
from obc.spec_errors import ConfigError, explain
from obc.table_file import read_table, validate

# Shared weights stand in for ImageNet's, of which there is one set too.
INITIAL_SEED = 0


class PlannedRun(Strict):
    """A distinct training of the plan and the decodings that its tables ask for."""

    run_id: str
    resolved: ResolvedRun
    decodes: tuple[str, ...]
    tables: tuple[str, ...]


class Plan(Strict):
    """Everything that a call of the suite will do, resolved; see `load_plan`."""

    config: SuiteConfig
    scale: Scale
    identities: dict[DatasetName, dict[str, Any]]
    locations: dict[DatasetName, str] = Field(
        {}, description="where each data set that is not drawn lies; see obc.datasets.identity"
    )
    results: Path
    tables: dict[str, FigureSpec | TableSpec]
    runs: dict[str, PlannedRun]
    initial_runs: dict[str, PlannedRun]
    claims: Claims | None = None
    published: dict[str, Published] = Field(
        {}, description="what config/datasets.yaml has of what the runs need"
    )
    notes: tuple[str, ...] = ()

    def run_of(self, row: Row) -> PlannedRun:
        """The planned training of a row that is not cited."""
        return self.runs[self.row_run_ids[row.run]]

    @cached_property
    def row_run_ids(self) -> dict[RunSpec | None, str]:
        """Run id by spec: one scale and one data set a plan, so the spec decides."""
        return {run.resolved.spec: run_id for run_id, run in self.runs.items()}

    @property
    def trainings(self) -> dict[str, PlannedRun]:
        """Every training: those behind rows, and those whose weights they start from."""
        return {**self.initial_runs, **self.runs}

    @property
    def paper_tables(self) -> tuple[str, ...]:
        """Names of the tables and figures that are the paper's: what `all` makes."""
        return tuple(name for name, table in self.tables.items() if not table.beyond)

    @property
    def paper_runs(self) -> dict[str, PlannedRun]:
        """The runs that tables of the paper need."""
        return {run_id: run for run_id, run in self.runs.items() if not self.is_beyond(run_id)}

    def is_beyond(self, run_id: str) -> bool:
        """Whether no table of the paper needs a run."""
        tables = self.trainings[run_id].tables
        return bool(tables) and all(self.tables[table].beyond for table in tables)

    def seeds_of(self, run_id: str) -> tuple[int, ...]:
        """The seeds that a run is trained with: those of every table of the paper that it is in.

        Those of tables beyond the paper count where no other has the run, so that none of them
        changes how much `all` trains.
        """
        if run_id in self.initial_runs:
            return (INITIAL_SEED,)
        tables = self.runs[run_id].tables
        if not self.is_beyond(run_id):
            tables = tuple(table for table in tables if not self.tables[table].beyond)
        return tuple(sorted({seed for table in tables for seed in self.seeds_of_table(table)}))

    def seeds_of_table(self, table: str) -> tuple[int, ...]:
        """The seeds that a table asks for; its runs have more where they are in others too."""
        chosen = self.config.seeds or self.scale.seeds
        by_table = chosen if isinstance(chosen, dict) else {"default": chosen}
        return by_table.get(table, by_table["default"])

    def dataset_of(self, run_id: str) -> DatasetName:
        """The data set that a run is trained and evaluated on."""
        return self.trainings[run_id].resolved.spec.dataset

    def difficult(self, dataset: DatasetName) -> Difficult:
        """How objects marked difficult are read in a data set; published COCO marks none."""
        return self.scale.data[dataset].difficult or "gt"

    def initial_weights(self, run_id: str) -> Path | None:
        """What backbone, neck and RPN of a run start from; None: the network's `pretrained`."""
        initial = self.trainings[run_id].resolved.initial_run
        return self.run_folder(initial, INITIAL_SEED) / "final.pth" if initial else None

    def run_folder(self, run_id: str, seed: int) -> Path:
        """Where a run's files lie: results/<scale>/runs/<run id>/seed<k>."""
        results = self.shared if run_id in self.initial_runs else self.results
        return results / "runs" / run_id / f"seed{seed}"

    @property
    def gpus_per_run(self) -> int:
        """GPUs that train one run together; 0: the CPU."""
        chosen = self.config.gpus_per_run
        return self.scale.runtime.gpus if chosen is None else chosen

    @property
    def shared(self) -> Path:
        """Where starting weights lie: results/<scale>, whatever the label or one's own data."""
        return Path(self.config.results) / self.scale.name

    def data_folder(self, name: DatasetName) -> Path:
        """Where the images of a data set lie; the embedded ones are cached by their settings."""
        data = self.scale.data[name]
        if not isinstance(data, ShapesData):
            return data.root
        return Path("data/shapes") / f"{data.layout}-{digest(data.drawing)}"

    def index_folder(self, name: DatasetName) -> Path:
        """Where `obc index` puts annotations and manifest: one folder per identity and location."""
        results = self.shared if name == "init" else self.results
        found: Any = self.identities[name]
        if name in self.locations:
            found = [found, self.locations[name]]
        return results / "data" / f"{name}-{digest(found)}"

    @property
    def figures(self) -> tuple[str, ...]:
        """Names of the tables that are figures."""
        return tuple(name for name, table in self.tables.items() if isinstance(table, FigureSpec))

    def deviations(self, table: TableSpec) -> tuple[str, ...]:
        """How a table's trainings leave the paper's setting, as its notes have it.

        Only at scale `paper`: the other scales are nothing like it and say so everywhere.
        """
        if self.scale.name != "paper":
            return ()
        backbones = {row.run.backbone: None for row in table.rows if row.run is not None}
        found = deviations(
            self.scale, table.dataset, tuple(backbones), self.gpus_per_run, self.config.scale_lr
        )
        return tuple(map(str, found))

    @property
    def claimed_rows(self) -> dict[tuple[str, int], Row]:
        """Every row that a claim names, by its table and its index there."""
        return {
            (topic.table, index): row
            for topic in (self.claims.topics if self.claims else ())
            for index, row in enumerate(self.tables[topic.table].rows)
            if any(row.key in claim.row_keys for claim in topic.claims)
        }

    @property
    def example_rows(self) -> dict[int, Row]:
        """The two rows that Figure 6 compares, the baseline first, by their index in its table.

        Empty where the plan lacks the table, or the table such rows: then there is no Figure 6.
        """
        chosen = self.config.examples
        rows = self.tables[chosen.table].rows if chosen.table in self.tables else ()
        trained = {row.key: (at, row) for at, row in enumerate(rows) if not row.cited}
        keys = (chosen.baseline, chosen.method)
        return dict(trained[key] for key in keys) if trained.keys() >= set(keys) else {}

    @property
    def summary(self) -> tuple[str, ...]:
        """What a user should know before anything runs: how much, where to, what is left out."""
        runs = self.paper_runs
        counts = [len(self.seeds_of(run_id)) for run_id in runs] or [0]
        seeds = " to ".join(map(str, sorted({min(counts), max(counts)})))
        shared = f" after {len(self.initial_runs)} of shared weights" if self.initial_runs else ""
        return (
            f"scale {self.scale.name}: {sum(counts)} trainings ({len(runs)} runs with {seeds} "
            f"seed{'' if seeds == '1' else 's'} each){shared}, results in {self.results}/",
            *self._beyond_summary(),
            *self.notes,
            *dict.fromkeys(
                deviation
                for name in self.paper_tables
                for deviation in self.deviations(self.tables[name])
            ),
        )

    def _beyond_summary(self) -> tuple[str, ...]:
        """What is there for the asking, and how much more it trains."""
        beyond = {
            name: sum(
                len(self.seeds_of(run_id))
                for run_id, run in self.runs.items()
                if name in run.tables and self.is_beyond(run_id)
            )
            for name, table in self.tables.items()
            if table.beyond
        }
        if not beyond:
            return ()
        tables = ", ".join(f"{name} ({more} trainings more)" for name, more in beyond.items())
        return (f"beyond the paper, made only when named: {tables}",)

    @cached_property
    def content_digest(self) -> str:
        """8 hex digits that change when anything of the plan does that a number can depend on."""
        return digest(self.model_dump(mode="json", exclude={"published", "locations"}))

    def table_digest(self, name: str) -> str:
        """8 hex digits of a table's spec and of what its caption says beside it."""
        table = self.tables[name]
        said = [model.model_dump(mode="json") for model in (table, self.config, self.scale)]
        return digest([*said, self.deviations(table)])

    def save(self, path: Path) -> None:
        """Write the plan as JSON, atomically."""
        write_text(path, self.model_dump_json(indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> Plan:
        """Read a plan written by `save`; ConfigError when it is missing or of other code."""
        try:
            return cls.model_validate_json(path.read_text())
        except OSError as error:
            raise ConfigError(
                f"{path}: no plan to read ({error.strerror}); `obc plan --out FILE` writes one"
            ) from None
        except ValidationError as error:
            raise ConfigError(explain(error, path, cls)) from None


def load_plan(raw_config: dict[str, Any], config_folder: Path = Path("config")) -> Plan:
    """Read, validate and resolve the whole suite for one call.

    Args:
        raw_config: the merged content of config.yaml and the command line.
        config_folder: holds scales/*.yaml, experiments/*.yaml and, if claims are to be judged,
            claims.yaml, and, if anything is to be fetched, datasets.yaml.

    Raises:
        ConfigError: any file or key is wrong; the message says which and what is allowed.
        DatasetError: a folder of one's own is not in VOC or COCO layout.
    """
    config = validate(SuiteConfig, raw_config, config_folder / "config.yaml")
    chosen = choose_data(config, config_folder / "scales")
    tables = _tables(config_folder / "experiments")
    _check_seeds_name_tables(config, chosen.scale, tables)
    _check_examples_name_rows(config, tables)
    _check_batches_split(config, chosen.scale)
    claims_path = config_folder / "claims.yaml"
    claims = read_claims(claims_path, tables) if claims_path.exists() else None
    notes = chosen.notes
    if chosen.own:
        left_out = sorted(name for name, table in tables.items() if table.dataset not in chosen.own)
        tables = {name: table for name, table in tables.items() if table.dataset in chosen.own}
        if left_out:
            notes += (
                f"left out, with the claims about them, because no folder of one's own was given: "
                f"{', '.join(left_out)}",
            )
    if config.change:
        changes = ", ".join(f"{key} = {value}" for key, value in config.change.items())
        notes += (f"not scale {chosen.scale.name} as it comes, but with {changes}",)
    runs, initial_runs = _runs(tables, chosen.scale, chosen.identities)
    datasets_path = config_folder / "datasets.yaml"
    datasets = read_datasets(datasets_path) if datasets_path.exists() else {}
    resolved = [run.resolved for run in (*initial_runs.values(), *runs.values())]
    return Plan(
        config=config,
        scale=chosen.scale,
        identities=chosen.identities,
        locations=chosen.locations,
        results=chosen.results,
        tables=tables,
        runs=runs,
        initial_runs=initial_runs,
        claims=claims and claims.about(tables),
        published={one.name: one for one in needed(resolved, chosen.scale.data, datasets)},
        notes=notes,
    )


def _tables(folder: Path) -> dict[str, FigureSpec | TableSpec]:
    paths = sorted(folder.glob("*.yaml"))
    if not paths:
        raise ConfigError(f"{folder}: no experiment files (*.yaml) there")
    tables = [read_table(path) for path in paths]
    # The paper's first, so that they come first wherever tables and runs are listed.
    return {table.name: table for table in sorted(tables, key=lambda table: table.beyond)}


def _check_seeds_name_tables(
    config: SuiteConfig, scale: Scale, tables: dict[str, FigureSpec | TableSpec]
) -> None:
    for place, seeds in (("seeds", config.seeds), (f"scale {scale.name}: seeds", scale.seeds)):
        named = seeds if isinstance(seeds, dict) else {}
        unknown = sorted(set(named) - {"default"} - set(tables))
        if unknown:
            raise ConfigError(
                f"{place}: {', '.join(unknown)} is no table in config/experiments; "
                f"allowed: default, {', '.join(tables)}"
            )


def _check_examples_name_rows(
    config: SuiteConfig, tables: dict[str, FigureSpec | TableSpec]
) -> None:
    """Rows that were asked for; without the default's there is only no Figure 6."""
    if "examples" not in config.model_fields_set:
        return
    examples = config.examples
    if examples.table not in tables:
        raise ConfigError(
            f"examples: {examples.table!r} is no table in config/experiments; "
            f"allowed: {', '.join(tables)}"
        )
    rows = {key for key, row in tables[examples.table].keyed_rows.items() if not row.cited}
    unknown = sorted({examples.baseline, examples.method} - rows)
    if unknown:
        raise ConfigError(
            f"examples: {', '.join(unknown)} is the key of no row of {examples.table} that is "
            f"trained; allowed: {', '.join(sorted(rows)) or 'none, since no row has a key'}"
        )


def _check_batches_split(config: SuiteConfig, scale: Scale) -> None:
    """The processes of a run share its batch, so that the run is the same however many they are."""
    asked = config.gpus_per_run
    count, place = (scale.runtime.gpus, f"scale {scale.name}: runtime.gpus")
    if asked is not None:
        count, place = asked, "gpus_per_run"
    for name in ("schedule", "initialisation"):
        schedule = getattr(scale, name)
        if schedule is not None and count and schedule.batch_size % count:
            size = schedule.batch_size
            allowed = ", ".join(str(n) for n in range(size + 1) if not n or size % n == 0)
            raise ConfigError(
                f"{place}: {count} GPUs cannot share {name}.batch_size {size} of scale "
                f"{scale.name} equally; allowed: {allowed}"
            )


def _runs(
    tables: dict[str, FigureSpec | TableSpec],
    scale: Scale,
    identities: dict[DatasetName, dict[str, Any]],
) -> tuple[dict[str, PlannedRun], dict[str, PlannedRun]]:
    """Every distinct training, rows with the same spec sharing one, and what those start from."""
    wanted: dict[RunSpec, tuple[list[str], list[str]]] = {}
    for name, table in tables.items():
        for row in table.rows:
            if row.run is not None and row.decode is not None:
                decodes, users = wanted.setdefault(row.run, ([], []))
                decodes += [row.decode] if row.decode not in decodes else []
                users += [name] if name not in users else []
    runs: dict[str, PlannedRun] = {}
    initial_runs: dict[str, PlannedRun] = {}
    for spec, (decodes, users) in wanted.items():
        try:
            initial_run = None
            if scale.initialisation is not None:
                initial = resolve_initial(spec, scale, identities["init"])
                initial_run = initial.run_id
                initial_runs[initial_run] = PlannedRun(
                    run_id=initial_run, resolved=initial, decodes=(), tables=()
                )
            resolved = resolve(spec, scale, identities[spec.dataset], initial_run)
        except KeyError as error:
            raise ConfigError(
                f"scale {scale.name}: {users[0]} needs {spec.detector} with {spec.backbone} on "
                f"{spec.dataset}, and the scale says nothing of {error}"
            ) from None
        runs[resolved.run_id] = PlannedRun(
            run_id=resolved.run_id,
            resolved=resolved,
            decodes=tuple(sorted(decodes)),
            tables=tuple(users),
        )
    return runs, initial_runs


__all__ = ["ConfigError", "Plan", "PlannedRun", "load_plan", "read_table"]

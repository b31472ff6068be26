"""The plan of a call: its runs, scale and tables, resolved from the files in config/.

`load_plan` reads and validates everything before any job starts. A mistake raises a `ConfigError`
that names the file, the key and what is allowed. The workflow writes the plan to
`results/<scale>/plan.json` when it starts, and every job reads that file. Editing a YAML file while
the DAG runs therefore does not affect its jobs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from obc.config.box_losses.registry import Decode
from obc.config.claims import Claims
from obc.config.run import ResolvedRun, RunSpec, digest
from obc.config.run_folder import RunFolder
from obc.config.scale import Scale
from obc.config.shipped_weights import ShippedWeights
from obc.config.table import FigureSpec, Row, TableSpec
from obc.config.user_choices import SuiteConfig
from obc.datasets.index_folder import IndexFolder
from obc.datasets.published.catalogue import Published
from obc.datasets.settings import DatasetName, Difficult, ShapesData
from obc.io.files import write_text
from obc.io.typed_yaml import ConfigError, Strict, explain

# Seed of shared starting weights: like the ImageNet weights that they replace, there is one set.
INITIAL_SEED = 0


class PlannedRun(Strict):
    """A distinct training of the plan and the decodings that its tables need."""

    run_id: str
    resolved: ResolvedRun
    decodes: tuple[str, ...]
    tables: tuple[str, ...]


@dataclass(frozen=True)
class Run:
    """One training of a plan: a planned run with one seed, and its files.

    Attributes:
        resolved: everything besides the seed that decides the weights.
        folder: folder of the run.
        index: index of the data set that the run is trained and evaluated on.
        starts_from: the weights that backbone, neck and RPN start from; None: the network's
            `pretrained`.
    """

    run_id: str
    seed: int
    resolved: ResolvedRun
    folder: RunFolder
    index: IndexFolder
    starts_from: Path | None

    def __str__(self) -> str:
        """The name of the training in messages."""
        return f"{self.run_id} seed {self.seed}"


@dataclass(frozen=True)
class RowEvaluation:
    """One evaluation that a table reads: a row that is not cited, with one seed.

    Attributes:
        index: position of the row in its table, from 0.
    """

    index: int
    row: Row
    run: Run

    @property
    def decode(self) -> Decode:
        """The row's decoding."""
        return self.row.decode  # type: ignore[return-value]  # only cited rows have None

    @property
    def identity(self) -> dict[str, str | int]:
        """The keys that identify the evaluation, named as in tables and metrics files."""
        return {"run_id": self.run.run_id, "decode": self.decode, "seed": self.run.seed}

    @property
    def metrics(self) -> Path:
        """The file with its metrics."""
        return self.run.folder.metrics(self.decode)

    @property
    def detections(self) -> Path:
        """The file with its detections."""
        return self.run.folder.detections(self.decode)


class Plan(Strict):
    """Everything that a call of the suite will do, resolved; see `load_plan`."""

    config: SuiteConfig  # first: it imports the plugins that tables and runs need
    scale: Scale
    identities: dict[DatasetName, dict[str, Any]]
    locations: dict[DatasetName, str] = Field(
        {},
        description="digest of the location of each data set that is not drawn; see "
        "obc.datasets.identity",
    )
    results: Path
    tables: dict[str, FigureSpec | TableSpec]
    runs: dict[str, PlannedRun]
    initial_runs: dict[str, PlannedRun]
    claims: Claims | None = None
    published: dict[str, Published] = Field(
        {}, description="entries of config/datasets.yaml that the runs need"
    )
    shipped: dict[str, ShippedWeights] = Field(
        {},
        description="starting weights that come with the suite, by the run id of the training "
        "they replace",
    )
    notes: tuple[str, ...] = ()

    def run_of(self, row: Row) -> PlannedRun:
        """The planned training of a row that is not cited."""
        return self.runs[self.row_run_ids[row.run]]

    @cached_property
    def row_run_ids(self) -> dict[RunSpec | None, str]:
        """Run id by spec. A plan has one scale and one data set per name, so the spec suffices."""
        return {run.resolved.spec: run_id for run_id, run in self.runs.items()}

    @property
    def trainings(self) -> dict[str, PlannedRun]:
        """All trainings: the runs of table rows, and the trainings of their starting weights."""
        return {**self.initial_runs, **self.runs}

    @property
    def paper_tables(self) -> tuple[str, ...]:
        """Names of the paper's tables and figures, which `all` makes."""
        return tuple(name for name, table in self.tables.items() if not table.beyond)

    @cached_property
    def reading_order(self) -> tuple[str, ...]:
        """Names of the tables in reading order, in which `all` also trains them.

        The paper's tables come first, by section; within a section, tables come before figures.
        """

        def place(name: str) -> tuple[bool, str, bool]:
            table = self.tables[name]
            return table.beyond, table.section, isinstance(table, FigureSpec)

        return tuple(sorted(self.tables, key=place))

    def first_table(self, run_id: str) -> str | None:
        """The first table in reading order that needs a training; None: no table does."""
        needing = self.tables_needing(run_id)
        return next((name for name in self.reading_order if name in needing), None)

    def tables_needing(self, run_id: str) -> set[str]:
        """The tables that read a training, or a run that starts from its weights."""
        return {
            table
            for user, run in self.runs.items()
            if run_id in (user, run.resolved.initial_run)
            for table in run.tables
        }

    def decodes_of(self, run_id: str, tables: Iterable[str]) -> tuple[str, ...]:
        """The decodings of a run that the given tables need."""
        planned = self.trainings[run_id]
        needed = {
            row.decode
            for name in set(planned.tables).intersection(tables)
            for row in self.tables[name].rows
            if row.run == planned.resolved.spec
        }
        return tuple(decode for decode in planned.decodes if decode in needed)

    @property
    def paper_runs(self) -> dict[str, PlannedRun]:
        """The runs that tables of the paper need."""
        return {run_id: run for run_id, run in self.runs.items() if not self.is_beyond(run_id)}

    def is_beyond(self, run_id: str) -> bool:
        """Whether no table of the paper needs a run."""
        tables = self.trainings[run_id].tables
        return bool(tables) and all(self.tables[table].beyond for table in tables)

    def seeds_of(self, run_id: str) -> tuple[int, ...]:
        """The seeds that a run is trained with: all seeds of the paper's tables that need the run.

        Tables beyond the paper count only for a run that no table of the paper needs, so that they
        do not change what `all` trains.
        """
        if run_id in self.initial_runs:
            return self._initial_seeds(run_id)
        tables = self.runs[run_id].tables
        if not self.is_beyond(run_id):
            tables = tuple(table for table in tables if not self.tables[table].beyond)
        return tuple(sorted({seed for table in tables for seed in self.seeds_of_table(table)}))

    def _initial_seeds(self, initial_run: str) -> tuple[int, ...]:
        """The seeds that starting weights are trained with: those that their runs need."""
        users = [run for run, one in self.runs.items() if one.resolved.initial_run == initial_run]
        of_paper = [run_id for run_id in users if not self.is_beyond(run_id)]
        needed = {
            self.initial_seed(run_id, seed)
            for run_id in of_paper or users
            for seed in self.seeds_of(run_id)
        }
        return tuple(sorted(needed))

    def initial_seed(self, run_id: str, seed: int) -> int:
        """The seed of the starting weights of a training."""
        per_seed = self.trainings[run_id].resolved.starting_weights_per_seed
        return seed if per_seed else INITIAL_SEED

    def seeds_of_table(self, table: str) -> tuple[int, ...]:
        """The seeds of a table; its runs may have more seeds, from other tables that need them."""
        chosen = self.config.seeds or self.scale.seeds
        by_table = chosen if isinstance(chosen, dict) else {"default": chosen}
        return by_table.get(table, by_table["default"])

    def dataset_of(self, run_id: str) -> DatasetName:
        """The data set that a run is trained and evaluated on."""
        return self.trainings[run_id].resolved.spec.dataset

    def difficult(self, dataset: DatasetName) -> Difficult:
        """The treatment of objects marked difficult; `gt` if not set (published COCO has none)."""
        return self.scale.data[dataset].difficult or "gt"

    def is_own(self, dataset: DatasetName) -> bool:
        """Whether a data set is a folder of the user, which its fingerprint identifies."""
        return "fingerprint" in self.identities.get(dataset, {})

    def index_apart(self, dataset: DatasetName) -> IndexFolder | None:
        """Index of the user's images for starting weights, which a table's data must not contain.

        None for these images themselves, for drawn data and where the user chose no such images.
        """
        drawn = isinstance(self.scale.data[dataset], ShapesData)
        if dataset == "init" or drawn or not self.is_own("init"):
            return None
        return self.index_folder("init")

    def run(self, run_id: str, seed: int) -> Run:
        """A training of the plan, starting weights included."""
        return Run(
            run_id,
            seed,
            resolved=self.trainings[run_id].resolved,
            folder=self.run_folder(run_id, seed),
            index=self.index_folder(self.dataset_of(run_id)),
            starts_from=self.initial_weights(run_id, seed),
        )

    def seeded(self, run_id: str) -> tuple[Run, ...]:
        """The trainings of a run, one for each seed."""
        return tuple(self.run(run_id, seed) for seed in self.seeds_of(run_id))

    def evaluations(self, table: str) -> tuple[RowEvaluation, ...]:
        """Every evaluation that a table reads, row by row; cited rows have none."""
        return tuple(
            evaluation
            for index, row in enumerate(self.tables[table].rows)
            if not row.cited
            for evaluation in self.of_row(index, row)
        )

    def of_row(self, index: int, row: Row) -> tuple[RowEvaluation, ...]:
        """The evaluations of a row that is not cited, one for each seed."""
        runs = self.seeded(self.run_of(row).run_id)
        return tuple(RowEvaluation(index, row, run) for run in runs)

    def initial_training(self, run_id: str, seed: int) -> Run | None:
        """The training whose weights a training starts from; None: `pretrained` weights."""
        initial = self.trainings[run_id].resolved.initial_run
        return self.run(initial, self.initial_seed(run_id, seed)) if initial else None

    def initial_weights(self, run_id: str, seed: int) -> Path | None:
        """The file that backbone, neck and RPN start from; None: `pretrained` weights."""
        initial = self.initial_training(run_id, seed)
        return initial.folder.weights if initial else None

    def run_folder(self, run_id: str, seed: int) -> RunFolder:
        """The folder with a run's files."""
        results = self.shared if run_id in self.initial_runs else self.results
        return RunFolder.of(results, run_id, seed)

    @property
    def gpus_per_run(self) -> int:
        """GPUs that train one run together; 0: the CPU."""
        chosen = self.config.gpus_per_run
        return self.scale.runtime.gpus if chosen is None else chosen

    @property
    def shared(self) -> Path:
        """The folder of starting weights: results/<scale>, independent of label and own data."""
        return Path(self.config.results) / self.scale.name

    def data_folder(self, name: DatasetName) -> Path:
        """The folder with a data set's images; drawn data sets are cached by their settings."""
        data = self.scale.data[name]
        if not isinstance(data, ShapesData):
            return data.root
        return Path("data/shapes") / f"{data.layout}-{digest(data.drawing)}"

    def index_folder(self, name: DatasetName) -> IndexFolder:
        """The folder that `obc index` writes: one for each identity and location."""
        results = self.shared if name == "init" else self.results
        found: Any = self.identities[name]
        if name in self.locations:
            found = [found, self.locations[name]]
        return IndexFolder(results / "data" / f"{name}-{digest(found)}")

    @property
    def figures(self) -> tuple[str, ...]:
        """Names of the tables that are figures."""
        return tuple(name for name, table in self.tables.items() if isinstance(table, FigureSpec))

    @property
    def claimed_rows(self) -> dict[tuple[str, int], Row]:
        """Every row that a claim names, by its table and its position there."""
        return {
            (topic.table, index): row
            for topic in (self.claims.topics if self.claims else ())
            for index, row in enumerate(self.tables[topic.table].rows)
            if any(row.key in claim.row_keys for claim in topic.claims)
        }

    @property
    def detail_table(self) -> TableSpec | None:
        """The table whose rows are shown in detail; None where the plan lacks it."""
        return self.tables.get(self.config.detail_table)

    @property
    def example_rows(self) -> dict[int, Row]:
        """The two rows that Figure 6 compares, the baseline first, by their index in its table.

        Empty where the plan lacks the table, or the table a row: Figure 6 is left out then.
        """
        chosen = self.config.examples
        rows = self.tables[chosen.table].rows if chosen.table in self.tables else ()
        trained = {row.key: (at, row) for at, row in enumerate(rows) if not row.cited}
        keys = (chosen.baseline, chosen.method)
        return dict(trained[key] for key in keys) if trained.keys() >= set(keys) else {}

    @cached_property
    def content_digest(self) -> str:
        """8 hex digits of a hash of the parts of the plan that a number can depend on."""
        return digest(self.model_dump(mode="json", exclude={"published", "locations", "shipped"}))

    def table_digest(self, name: str) -> str:
        """8 hex digits of a hash of a table's spec, and of the config and scale for its caption."""
        models = (self.tables[name], self.config, self.scale)
        return digest([model.model_dump(mode="json") for model in models])

    def save(self, path: Path) -> None:
        """Write the plan as JSON, atomically."""
        write_text(path, self.model_dump_json(indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> Plan:
        """Read a plan written by `save`; ConfigError if it is missing or written by other code."""
        try:
            return cls.model_validate_json(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(
                f"{path}: no plan to read ({error.strerror}); `obc plan --out FILE` writes one"
            ) from None
        except ValidationError as error:
            raise ConfigError(explain(error, path, cls)) from None

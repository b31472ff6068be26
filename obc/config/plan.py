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

from obc.config.claims import Claims
from obc.config.paper_setting import deviations
from obc.config.run import ResolvedRun, RunSpec, digest
from obc.config.scale import Scale
from obc.config.table import FigureSpec, Row, TableSpec
from obc.config.user_choices import SuiteConfig
from obc.datasets.published.catalogue import Published
from obc.datasets.settings import DatasetName, Difficult, ShapesData
from obc.io.files import write_text
from obc.io.typed_yaml import ConfigError, Strict, explain

# Of shared starting weights: they stand in for ImageNet's, of which there is one set too.
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
            return self._initial_seeds(run_id)
        tables = self.runs[run_id].tables
        if not self.is_beyond(run_id):
            tables = tuple(table for table in tables if not self.tables[table].beyond)
        return tuple(sorted({seed for table in tables for seed in self.seeds_of_table(table)}))

    def _initial_seeds(self, initial_run: str) -> tuple[int, ...]:
        """The seeds that starting weights are trained with: what the runs of `seeds_of` need."""
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

    def initial_weights(self, run_id: str, seed: int) -> Path | None:
        """What backbone, neck and RPN of a training start from; None: `pretrained` weights."""
        initial = self.trainings[run_id].resolved.initial_run
        if initial is None:
            return None
        return self.run_folder(initial, self.initial_seed(run_id, seed)) / "final.pth"

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
        starts = sum(len(self.seeds_of(run_id)) for run_id in self.initial_runs)
        shared = f" after {starts} of shared weights" if starts else ""
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
            return cls.model_validate_json(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(
                f"{path}: no plan to read ({error.strerror}); `obc plan --out FILE` writes one"
            ) from None
        except ValidationError as error:
            raise ConfigError(explain(error, path, cls)) from None

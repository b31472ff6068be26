"""Read config/ and check it as a whole: from YAML files to a `Plan`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from obc.config.box_losses.offset_bin import OffsetBin
from obc.config.chosen_data import choose_data
from obc.config.claims import read_claims
from obc.config.downloads import needed
from obc.config.plan import Plan, PlannedRun
from obc.config.run import RunSpec, resolve, resolve_initial
from obc.config.scale import Scale
from obc.config.shipped_weights import ShippedWeights, read_cards
from obc.config.table import FigureSpec, TableSpec, read_table
from obc.config.user_choices import SuiteConfig
from obc.datasets.published.catalogue import read_datasets
from obc.datasets.settings import DatasetName
from obc.io.typed_yaml import ConfigError, validate


def load_plan(raw_config: dict[str, Any], config_folder: Path = Path("config")) -> Plan:
    """Read, validate and resolve the whole suite for one call.

    Args:
        raw_config: the merged content of config.yaml and the command line.
        config_folder: folder with scales/*.yaml and experiments/*.yaml. claims.yaml is needed only
            to judge claims, datasets.yaml only to fetch data or weights.

    Raises:
        ConfigError: any file or key is wrong; the message says which and what is allowed.
        DatasetError: a user's folder is not in VOC or COCO layout.
    """
    config = validate(SuiteConfig, raw_config, config_folder / "config.yaml")
    chosen = choose_data(config, config_folder / "scales")
    tables = _tables(config_folder / "experiments")
    _check_seeds_name_tables(config, chosen.scale, tables)
    _check_examples_name_rows(config, tables)
    _check_detail_names_rows(config, tables)
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
        shipped=_shipped(config, chosen.scale, initial_runs, config_folder),
        published={one.name: one for one in needed(resolved, chosen.scale.data, datasets)},
        notes=notes,
    )


def _shipped(
    config: SuiteConfig, scale: Scale, initial_runs: dict[str, PlannedRun], config_folder: Path
) -> dict[str, ShippedWeights]:
    """Shipped starting weights of exactly the plan's settings, by run id.

    Empty where they are to be trained, or differ by seed: only one set is shipped.
    """
    if config.starting_weights == "train" or scale.starting_weights_per_seed:
        return {}
    found = read_cards(config_folder / "starting_weights")
    return {run_id: found[run_id] for run_id in initial_runs if run_id in found}


def _tables(folder: Path) -> dict[str, FigureSpec | TableSpec]:
    paths = sorted(folder.glob("*.yaml"))
    if not paths:
        raise ConfigError(f"{folder}: no experiment files (*.yaml) there")
    tables = [read_table(path) for path in paths]
    # The paper's tables come first wherever tables and runs are listed.
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
    """Check rows that the user named; without the default rows, Figure 6 is left out."""
    if "examples" not in config.model_fields_set:
        return
    examples = config.examples
    _require_table("examples", examples.table, tables)
    rows = {key for key, row in tables[examples.table].keyed_rows.items() if not row.cited}
    unknown = sorted({examples.baseline, examples.method} - rows)
    if unknown:
        raise ConfigError(
            f"examples: {', '.join(unknown)} is the key of no row of {examples.table} that is "
            f"trained; allowed: {', '.join(sorted(rows)) or 'none, since no row has a key'}"
        )


def _check_detail_names_rows(
    config: SuiteConfig, tables: dict[str, FigureSpec | TableSpec]
) -> None:
    """Check a table and rows that the user named; without the defaults, figures are left out."""
    if config.model_fields_set & {"detail_table", "detail_rows"}:
        _require_table("detail_table", config.detail_table, tables)
    if "detail_rows" not in config.model_fields_set:
        return
    rows = tables[config.detail_table].keyed_rows
    for name, key in config.detail_rows.model_dump().items():
        allowed = [
            row_key
            for row_key, row in rows.items()
            if row.run is not None
            and isinstance(row.run.box, OffsetBin)
            and (row.run.box.num_stages == 1) == (name == "one_stage")
        ]
        if key not in allowed:
            raise ConfigError(
                f"detail_rows: {name}: {key!r} is the key of no row of bins with such stages in "
                f"{config.detail_table}; allowed: {', '.join(allowed) or 'none'}"
            )


def _require_table(place: str, name: str, tables: dict[str, FigureSpec | TableSpec]) -> None:
    if name not in tables:
        raise ConfigError(
            f"{place}: {name!r} is no table in config/experiments; allowed: {', '.join(tables)}"
        )


def _check_batches_split(config: SuiteConfig, scale: Scale) -> None:
    """Check that the GPUs of a run can share its batch, whose size does not depend on them."""
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
    """Distinct trainings (rows with the same spec share one), and those of starting weights."""
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

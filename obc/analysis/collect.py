"""Collect the runs' metrics: one line per table row, seed and metric.

Every measured number of every table is read here, from the metrics file of an evaluation. A
missing number has a status that gives the reason.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import pandas as pd
from pydantic import BaseModel, Field, ValidationError

from obc.config.plan import Plan, RowEvaluation
from obc.config.run_folder import RunFolder
from obc.config.table import Row, TableSpec
from obc.io.errors import SuiteError
from obc.io.files import require_record
from obc.io.typed_yaml import ConfigError
from obc.runs.status import RunStatus, run_status, shown_tables

COLUMNS = (
    "table", "row", "label", "run_id", "decode", "seed", "metric", "value", "paper", "status",
)  # fmt: skip
Status = Literal["ok", "cited", "undefined", "not evaluated"] | RunStatus
DONE: tuple[Status, ...] = ("ok", "cited", "undefined")
Percent = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]


class MetricsFileError(SuiteError):
    """A metrics file cannot be read or is not the expected one; the message names the file."""


class IncompleteError(SuiteError):
    """Cells of a table have no number; the message names the run folders and logs."""


class MetricsFile(BaseModel):
    """The fields of a metrics file that tables read; metrics in percent, null if undefined.

    The model is strict: a number written as text is an error.
    """

    model_config = {"strict": True}

    scale: str
    run_id: str
    seed: int
    decode: str
    difficult: str
    weights_sha256: str
    metrics: dict[str, Percent | None]


def collect(plan: Plan, tables: Iterable[str] | None = None) -> pd.DataFrame:
    """Collect all measurements for some tables of a plan.

    Args:
        tables: names of tables and figures; None: those of `obc.runs.status.shown_tables`.

    Returns:
        Columns `table, row, label, run_id, decode, seed, metric, value, paper, status`. `row` is
        the index within its table from 0; `value` and `paper` are in percent. `value` is NaN
        unless `status` is `ok`. The other statuses are `cited` (from the literature; without
        run_id, decode and seed), `undefined` (the data have no objects of the metric), `not
        evaluated` (trained, no metrics file), `not run`, `running`, `interrupted` and `failed`.

    Raises:
        ConfigError: a name is not a table of the plan.
        MetricsFileError: a metrics file is damaged or belongs to another evaluation.
    """
    names = shown_tables(plan) if tables is None else _known(plan, tables)
    lines = [
        line
        for name in names
        for index, row in enumerate(plan.tables[name].rows)
        for line in _row_lines(plan, plan.tables[name], index, row)
    ]
    types = {"seed": "Int64", "value": "float64", "paper": "float64"}
    return pd.DataFrame(lines, columns=list(COLUMNS)).astype(types)


def require_complete(plan: Plan, frame: pd.DataFrame) -> None:
    """Raise IncompleteError, with run folders and logs, if `frame` lacks numbers."""
    missing = frame[~frame["status"].isin(DONE)]
    if missing.empty:
        return
    lines = [
        _missing_line(plan.run_folder(run_id, seed), decode, status, ", ".join(part.unique()))
        for (run_id, seed, decode, status), part in missing.groupby(
            ["run_id", "seed", "decode", "status"], sort=False
        )["table"]
    ]
    raise IncompleteError(
        f"{len(lines)} evaluation(s) without a number:\n" + "\n".join(lines) + "\n"
        "target `partial` builds the tables with what there is"
    )


def summarise(frame: pd.DataFrame) -> pd.DataFrame:
    """Average each cell over its seeds.

    Returns:
        Index `(table, row, metric)`; columns `mean`, `sd` (n - 1; NaN for one seed), `measured`
        and `planned` (numbers of seeds), `statuses` (tuple of the distinct statuses), `status`
        (the statuses as text, e.g. `ok` or `ok, failed`) and `paper`.
    """
    cells = frame.groupby(["table", "row", "metric"], sort=False)
    summary = cells.agg(
        mean=("value", "mean"),
        sd=("value", "std"),
        measured=("value", "count"),
        planned=("seed", "count"),
        statuses=("status", lambda states: tuple(dict.fromkeys(states))),
        paper=("paper", "first"),
    )
    return summary.assign(status=summary["statuses"].map(", ".join))


def read_metrics(path: Path, asked: dict[str, Any]) -> MetricsFile:
    """Read one metrics file and check that it is the expected one.

    Args:
        asked: the expected values of the fields scale, run_id, seed, decode, difficult and
            weights_sha256.

    Raises:
        MetricsFileError: not JSON, a value outside [0, 100], or a field that differs from `asked`.
    """
    try:
        found = MetricsFile.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise MetricsFileError(f"{path}: not JSON ({error}); {_REMEDY}") from None
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors()
        )
        raise MetricsFileError(f"{path}: {problems}; {_REMEDY}") from None
    for key, value in asked.items():
        if getattr(found, key) != value:
            raise MetricsFileError(
                f"{path}: {key} is {getattr(found, key)!r}, asked for {value!r}; {_REMEDY}"
            )
    return found


_REMEDY = "remove the file to have it measured again"


def _known(plan: Plan, names: Iterable[str]) -> list[str]:
    names = list(names)
    for name in names:
        if name not in plan.tables:
            known = ", ".join(plan.tables)
            raise ConfigError(f"{name!r} is no table of this plan; allowed: {known}")
    return names


def _row_lines(plan: Plan, table: TableSpec, index: int, row: Row) -> Iterator[dict[str, Any]]:
    paper = row.paper or (None,) * len(table.metrics)
    base = {"table": table.name, "row": index, "label": row.label}
    for evaluation in (None,) if row.cited else plan.of_row(index, row):
        source, values, missing = {}, {}, "cited"
        if evaluation is not None:
            source = evaluation.identity
            values, missing = _values(plan, table, evaluation)
        for metric, published in zip(table.metrics, paper, strict=True):
            value = values.get(metric)
            status = "ok" if value is not None else missing
            number = {"metric": metric, "value": value, "paper": published, "status": status}
            yield {**base, **source, **number}


def _values(
    plan: Plan, table: TableSpec, evaluation: RowEvaluation
) -> tuple[dict[str, float | None], Status]:
    """The values of one evaluation, and the status of the metrics without a value."""
    folder, path = evaluation.run.folder, evaluation.metrics
    status = run_status(folder)
    if status != "trained" or not path.exists():
        return {}, "not evaluated" if status == "trained" else status
    asked = {
        **evaluation.identity,
        "scale": plan.scale.name,
        "difficult": plan.difficult(table.dataset),
        "weights_sha256": require_record(folder.record)["weights_sha256"],
    }
    metrics = read_metrics(path, asked).metrics
    absent = [metric for metric in table.metrics if metric not in metrics]
    if absent:
        raise MetricsFileError(f"{path}: has no {', '.join(absent)}; {_REMEDY}")
    return metrics, "undefined"


def _missing_line(folder: RunFolder, decode: str, status: str, tables: str) -> str:
    """The entry of one evaluation in the error message, with error and log if there are any."""
    place = f"  {status}: {folder} ({decode}; for {tables})"
    if status == "failed":
        failure = json.loads(folder.work.failed.read_text(encoding="utf-8"))
        return f"{place}\n    {failure['error']}\n    log: {failure['log']}"
    return f"{place}\n    log: {folder.log}" if status == "not evaluated" else place

"""Map a function over many items in processes, with progress lines."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
_SECONDS_BETWEEN_LINES = 5.0
_CHUNK = 32


def parallel_map(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int, label: str
) -> list[Result]:
    """Return `[function(item) for item in items]`, computed by `workers` processes.

    Progress lines (standard error, every five seconds) start with `label`. With one worker, or too
    few items to divide, everything runs in this process.
    """
    if workers <= 1 or len(items) <= _CHUNK:
        return list(_with_progress(map(function, items), len(items), label))
    with ProcessPoolExecutor(workers) as pool:
        results = pool.map(function, items, chunksize=_CHUNK)
        return list(_with_progress(results, len(items), label))


def _with_progress(results: Iterable[Result], total: int, label: str) -> Iterator[Result]:
    start = last = time.monotonic()
    for done, result in enumerate(results, 1):
        now = time.monotonic()
        if now - last >= _SECONDS_BETWEEN_LINES:
            last = now
            remaining = (now - start) * (total - done) / done
            print(f"{label}: {done}/{total}, {remaining:.0f} s left", file=sys.stderr, flush=True)
        yield result

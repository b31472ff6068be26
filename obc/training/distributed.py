"""One training on several processes of one machine: one process per GPU, or on the CPU for tests.

torch's elastic launcher (torchrun) starts the processes (ranks); if one fails, it ends the others.
Every rank runs the same function. Only rank 0 writes the run's files, prints to its log and reports
progress; the other ranks print to `work/rank<k>.log`.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import Any, TextIO

import torch
from torch import distributed
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from obc.config.plan import Plan
from obc.config.run_folder import WorkFolder
from obc.io.errors import SuiteError
from obc.io.files import read_record
from obc.training.sessions import note_failure

STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


class RankFailed(SuiteError):
    """One of the processes of a training failed; the message names it, its error and its log.

    Attributes:
        rank: of the failed process.
    """

    def __init__(self, rank: int, message: str) -> None:
        super().__init__(message)
        self.rank = rank


def train_together(
    plan: Plan, run_id: str, seed: int, processes: int, terminal: TextIO, lock: TextIO
) -> None:
    """Train a run on several processes, each on its share of every batch; see `obc.training.train`.

    Args:
        plan: see there, also for `run_id`, `seed` and `terminal`.
        processes: number of processes, which share each batch.
        lock: of the claimed run. Rank 0 holds it too, because it outlives this process for a moment
            if this process is killed.

    Raises:
        RankFailed: a process failed, and the others were ended.
        SystemExit: 128 + signal, when a signal asked the training to stop.
    """
    folder = plan.run_folder(run_id, seed)
    before = read_record(folder.record)
    arguments = (plan, run_id, seed, InheritedStream(terminal), InheritedStream(lock))
    try:
        launch(_train, arguments, processes, folder.work)
    except SystemExit:
        if read_record(folder.record) in (None, before):
            raise  # otherwise rank 0 had already written its results when the signal came
    except RankFailed as error:
        if error.rank > 0:  # rank 0 notes its own errors; from others it sees a lost connection
            note_failure(folder, error)
        raise


def _train(plan: Plan, run_id: str, seed: int, terminal: TextIO, lock: TextIO) -> None:
    from obc.training.train import follow, train

    if distributed.get_rank() == 0:
        os.register_at_fork(after_in_child=lock.close)  # see obc/runs/status.py
        train(plan, run_id, seed, terminal)
    else:
        lock.close()
        follow(plan, run_id, seed)


def launch(
    function: Callable[..., object], arguments: tuple[Any, ...], processes: int, work: WorkFolder
) -> None:
    """Run a function in several processes that form torch's process group, and wait for them.

    A stop signal to this process reaches all ranks. Rank 0 handles it as a single process would.
    The other ranks continue until rank 0 has ended, because it cannot finish its step without them.
    Ranks that still run 30 seconds later (torch's limit) are killed. If this process is killed, the
    system sends all ranks SIGINT.

    Args:
        function: at module level, so that a new process can import it.
        arguments: of the function; they are pickled.
        processes: number of ranks.
        work: folder for the logs of all ranks but the first.

    Raises:
        RankFailed: a rank raised an error or was killed.
        SystemExit: 128 + signal, when a signal asked this process or a rank to stop.
    """
    # Rank 0 appends to this process's output.
    sys.stdout.flush()
    sys.stderr.flush()
    with tempfile.TemporaryDirectory(prefix="obc-ranks-") as errors, _kept_signal_handlers():
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=processes,
            run_id=uuid.uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            local_addr="localhost",
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(log_dir=errors),
        )
        try:
            elastic_launch(config, _rank)(function, arguments, work)
        except SignalException as stop:
            raise SystemExit(128 + stop.sigval) from None
        except ChildFailedError as failed:
            rank, failure = failed.get_first_failure()
            if failure.exitcode - 128 in STOPS:
                raise SystemExit(failure.exitcode) from None
            place = "this log" if rank == 0 else f"log: {work.rank_log(rank)}"
            raise RankFailed(
                rank,
                f"rank {rank} of {processes}: {_said(failure)} ({place}); the others were ended",
            ) from None


class InheritedStream:
    """A stream of this process that a rank can write to: it is unpickled there as an open file."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened, (DupFd(self.stream.fileno()),)


def _reopened(descriptor: Any) -> TextIO:
    return os.fdopen(descriptor.detach(), "w", 1, sys.stderr.encoding, errors="backslashreplace")


def _rank(function: Callable[..., object], arguments: tuple[Any, ...], work: WorkFolder) -> None:
    """The main function of each process: join the process group, run the function."""
    rank = int(os.environ["RANK"])
    if rank > 0:
        _print_to(work.rank_log(rank))
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        # SIGINT is Ctrl-C, or means that the launcher was killed. Until the function handles it,
        # SIGINT must end this process, even if a shell set it to be ignored, and also while torch
        # waits for other ranks: Python's own handler would run only after that wait.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    on_gpus = torch.cuda.is_available()
    if on_gpus:
        torch.cuda.set_device(rank)
    distributed.init_process_group("nccl" if on_gpus else "gloo")
    try:
        function(*arguments)
    except KeyboardInterrupt:
        raise SystemExit(128 + signal.SIGINT) from None
    distributed.destroy_process_group()


def _print_to(log: Path) -> None:
    """Redirect the output of this process to a file."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())


def _said(failure: ProcessFailure) -> str:
    """The error that ended a rank, in one line."""
    message = failure.message
    return message if isinstance(message, str) else message["message"]


@contextmanager
def _kept_signal_handlers() -> Iterator[None]:
    """Restore the signal handlers that the launcher replaces."""
    before = {stop: signal.getsignal(stop) for stop in STOPS}
    try:
        yield
    finally:
        for stop, handler in before.items():
            signal.signal(stop, handler)

"""Signals that ask a training to stop: SIGTERM from a scheduler, Ctrl-C from a person.

Before the training loop begins, a signal ends the training at once. During the loop, the training
stops when the current iteration is finished and saved. After the loop a signal does not interrupt
the writing of results, which takes a moment.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import torch
from mmengine.dist import all_reduce, get_world_size
from mmengine.registry import FUNCTIONS
from torch import distributed
from torch.distributed import ProcessGroup

from obc.io.errors import SuiteError

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
# A scheduler signals every process of a job, and some processes pass the signal on. A second signal
# within this time, in seconds, counts as the same request.
SAME_REQUEST = 1.0


class Interrupted(SystemExit):
    """A signal stopped the training; the exit status is 128 + its number, as in shells."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.signal = signal.Signals(number)


class StopRequest:
    """Receives stop signals and stores the first one.

    Attributes:
        number: of the signal; 0 for none.
        deferred: only store a signal, instead of raising Interrupted at once.
    """

    def __init__(self) -> None:
        self.number = 0
        self.deferred = False
        self._since = 0.0

    def receive(self, number: int, frame: FrameType | None = None) -> None:
        """The signal handler. A second request ends the process at once."""
        if self.number:
            if time.monotonic() - self._since > SAME_REQUEST:
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)
            return
        self.number, self._since = number, time.monotonic()
        if not self.deferred:
            raise Interrupted(number)


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Receive stop signals inside the block; signals that are ignored (`nohup`) stay ignored.

    Raises:
        Interrupted: a signal came. It also replaces an error that is raised after the signal,
            because libraries turn exceptions into errors of their own. A SuiteError is not
            replaced: it says that saving failed and how to fix that.
    """
    request = StopRequest()
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    heard = [number for number in STOP_SIGNALS if before[number] is not signal.SIG_IGN]
    try:
        for number in heard:
            signal.signal(number, request.receive)
        yield request
    except SuiteError:
        raise
    except Exception as error:
        if request.number:
            raise Interrupted(request.number) from error
        raise
    finally:
        for number in heard:
            signal.signal(number, before[number])


def agreed(number: int, group: ProcessGroup | None) -> int:
    """The stop signal that any process of this training received, the same in all processes.

    Processes that stopped at different iterations would wait for each other for ever.

    Args:
        number: of the signal that this process received; 0 for none.
        group: of all processes, see `group_on_cpu`.
    """
    if group is None:
        return number
    numbers = torch.tensor([number])
    all_reduce(numbers, op="max", group=group)
    return int(numbers)


def group_on_cpu() -> ProcessGroup | None:
    """Process group on the CPU, for `agreed`; None if only one process trains.

    The group that sums gradients on GPUs is unsuitable: reading its result waits for the GPU, which
    would then be idle in every iteration. On the CPU two processes agree in a third of a
    millisecond.
    """
    return distributed.new_group(backend="gloo") if get_world_size() > 1 else None


@FUNCTIONS.register_module()
def ignore_stop_signals(worker_id: int) -> None:
    """Keep a data loader process alive, so that the current iteration can be finished.

    A scheduler or a terminal signals this process too. It ends with the training process.
    """
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)

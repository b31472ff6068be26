"""Signals that ask a training to stop: SIGTERM of a scheduler, Ctrl-C of a person.

Before the training loop begins, a signal ends the training at once. In the loop it is noted, and
obeyed when the iteration is finished and saved. After the loop there is nothing left to interrupt
but the writing of results, which takes a moment and is finished.
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
# A scheduler signals every process of a job, and some of them pass it on: within this time, in
# seconds, a second signal is the first one again.
SAME_REQUEST = 1.0


class Interrupted(SystemExit):
    """A signal stopped the training; the exit status is the shell's, 128 + the signal's number."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.signal = signal.Signals(number)


class StopRequest:
    """Whether a signal came, and what is to be done about it.

    Attributes:
        number: of the signal; 0 for none.
        deferred: note a signal, instead of raising Interrupted wherever the program is.
    """

    def __init__(self) -> None:
        self.number = 0
        self.deferred = False
        self._since = 0.0

    def receive(self, number: int, frame: FrameType | None = None) -> None:
        """The signal handler. A second request ends the process without further ado."""
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
        Interrupted: also in place of an error that came after a signal, such as those that
            libraries make of any exception which is raised inside them. A SuiteError stays: it says
            that saving failed, and how to mend that.
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
    """The stop signal that any process of this training received; all get the same answer.

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
    """A group for questions among the processes of this training; None where one trains alone.

    The group that sums gradients on GPUs would not do: to read its answer is to wait for the GPU,
    which would run dry in every iteration. On the CPU two processes agree in a third of a
    millisecond.
    """
    return distributed.new_group(backend="gloo") if get_world_size() > 1 else None


@FUNCTIONS.register_module()
def ignore_stop_signals(worker_id: int) -> None:
    """Let a process that loads images live on for the iteration that is being finished.

    A scheduler or a terminal signals it too. It ends with the training process.
    """
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)

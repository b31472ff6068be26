"""Programs whose imports are paid once: each call is a child of a process that has them.

Commands of `obc` and Snakemake spend seconds on imports and less on what they do. A call behaves as
a new process does: its own environment, folder, arguments, output and exit status.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from typing import NoReturn


class Imported:
    """A process that has imported some modules, started at the first call; it ends with the tests.

    Args:
        modules: what the programs import.
        environment: of the programs, as it is when one of them runs.
        patience: seconds after which a program is killed.
    """

    def __init__(self, modules: Sequence[str], environment: dict[str, str], patience: int) -> None:
        self._command = [sys.executable, __file__, str(patience), *modules]
        self._environment = environment
        self._process: subprocess.Popen[str] | None = None

    def run(
        self, program: str, folder: Path, *arguments: object
    ) -> subprocess.CompletedProcess[str]:
        """Run a program in a folder; its output and exit status (negative: of the signal).

        Args:
            program: a module whose `main()` reads `sys.argv` and returns the exit status.
        """
        words = [str(argument) for argument in arguments]
        with tempfile.TemporaryDirectory() as files:
            stdout, stderr = Path(files, "stdout"), Path(files, "stderr")
            request = [program, self._environment, str(folder), str(stdout), str(stderr), *words]
            status = int(self._answer(json.dumps(request)))
            return subprocess.CompletedProcess(
                words, status, stdout.read_text("utf-8"), stderr.read_text("utf-8")
            )

    def _answer(self, request: str) -> str:
        if self._process is None:
            self._process = subprocess.Popen(
                self._command, env=self._environment, text=True, encoding="utf-8",
                stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            )  # fmt: skip
        print(request, file=self._process.stdin, flush=True)
        return self._process.stdout.readline()


def serve(patience: int, *modules: str) -> None:
    """Answer each request with the exit status of a child that ran it, until there are no more."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # some packages print while they are imported
    for module in modules:
        import_module(module)
    gc.freeze()  # or each child copies the pages that a collection writes to
    for request in iter(sys.stdin.readline, ""):
        words = (patience, *json.loads(request))
        child = get_context("fork").Process(target=run, args=words)
        child.start()
        child.join()
        print(child.exitcode, file=answers, flush=True)


def run(
    patience: int,
    program: str,
    environment: dict[str, str],
    folder: str,
    stdout: str,
    stderr: str,
    *arguments: str,
) -> NoReturn:
    """Take the place of a new process: its time, environment, folder, arguments and output."""
    signal.alarm(patience)
    os.environ.clear()
    os.environ.update(environment)
    main = import_module(program).main
    os.chdir(folder)
    sys.argv[1:] = arguments
    sys.path[0] = folder
    for number, path in ((1, stdout), (2, stderr)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    sys.exit(main())


if __name__ == "__main__":
    serve(int(sys.argv[1]), *sys.argv[2:])

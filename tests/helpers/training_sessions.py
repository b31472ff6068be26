"""Trains one run in many sessions and kills them: a program whose argument is a script, in JSON.

It forks a child for each session, so that a session costs what it trains and no imports. The
script: {"plan", "run", "folder", "trainings": {name: [[signal, pattern, delay], ...]}}. Sessions of
`obc train` are started until one ends by itself; session i gets signal i `delay` seconds after a
new file matches `pattern` in the run's folder. The pattern `call <name>` is the moment when
obc.training.train calls that function. A finished run is moved to `<folder>/<name>`; if it finished
before all its signals were sent, the training starts anew, as `<name>-2` and so on. Prints, for
each training, its sessions: exit status (negative: died of that signal), and what
`work/interrupted.json` says if it is there.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from itertools import count
from pathlib import Path

import obc.training.train
from obc.cli import main as command_line
from obc.config.plan import Plan


def session(script: dict, interruption: list | None, run_folder: Path) -> dict:
    seen = snapshot(run_folder, interruption[1]) if interruption else set()
    child = os.fork()
    if child == 0:
        if interruption and interruption[1].startswith("call "):
            kill_at_call(interruption[1].removeprefix("call "), interruption[0])
        train(script)
    if interruption:
        name, pattern, delay = interruption
        ended = wait_for(run_folder, pattern, seen, child)
        if not ended:
            time.sleep(delay)
            os.kill(child, signal.Signals["SIG" + name])
    _, status = os.waitpid(child, 0)
    note = run_folder / "work/interrupted.json"
    return {
        "status": os.waitstatus_to_exitcode(status),
        "interrupted": json.loads(note.read_text()) if note.exists() else None,
        "files": sorted(path.name for path in run_folder.glob("**/*") if path.is_file()),
    }


def kill_at_call(function: str, name: str) -> None:
    number = signal.Signals["SIG" + name]
    setattr(obc.training.train, function, lambda *arguments: os.kill(os.getpid(), number))


def train(script: dict) -> None:
    """The child: leaves with the exit status of the command."""
    status = 99
    try:
        status = command_line.main(["train", script["plan"], script["run"]])
    except SystemExit as stop:
        status = stop.code
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def snapshot(folder: Path, pattern: str) -> set[tuple[str, int]]:
    found = set()
    for path in folder.glob(pattern):
        try:
            found.add((path.name, path.stat().st_mtime_ns))
        except FileNotFoundError:
            continue
    return found


def wait_for(folder: Path, pattern: str, seen: set, child: int) -> bool:
    """True if the child ended before a new file came."""
    while not snapshot(folder, pattern) - seen:
        ended = os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if ended is not None:
            return True
        time.sleep(0.002)
    return False


def sessions(script: dict, interruptions: list, run_folder: Path) -> list[dict]:
    """Of one training, to its end; takes what it used from the interruptions."""
    done = []
    while not done or done[-1]["status"] not in (0, 1):
        done.append(session(script, interruptions.pop(0) if interruptions else None, run_folder))
    return done


def main() -> int:
    """Interrupt the trainings of the script one after the other."""
    # A shell ignores Ctrl-C for what it starts in the background, the tests' runner perhaps.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    script = json.loads(sys.argv[1])
    run_folder = Path(Plan.load(Path(script["plan"])).run_folder(script["run"], 0))
    report = {}
    for name, interruptions in script["trainings"].items():
        for number in count(1):
            training = name if number == 1 else f"{name}-{number}"
            report[training] = sessions(script, interruptions, run_folder)
            run_folder.rename(Path(script["folder"]) / training)
            if not interruptions:
                break
    print(json.dumps(report))
    return 0

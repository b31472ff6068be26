"""The folder of one run, and the only module that names its files.

final.pth              weights, a plain state dict
run.json               spec, seed, data, code, packages, hardware, time; written last
config.py              the resolved MMDetection config
log.txt                output of the training; train.benchmark.tsv (Snakemake's measurement)
metrics.<decode>.json  metrics of one evaluation; detections.<decode>.npz, evaluate.<decode>.log,
                       evaluate.<decode>.failed.json (why the last evaluation failed)
work/                  files of an unfinished training: lock, sessions.json (its starts),
                       progress.json, iteration_<n>.pth (checkpoints), rank<k>.log, and
                       failed.json or interrupted.json (why the last session ended)
tracking/              files of a tracker (`--config tracking=tensorboard`)

This module is in `config`, below `runs`, because a plan names the folders of its runs; `runs` reads
the files. Arguments such as `decode` may be Snakemake wildcards, so any text is accepted.
"""

from __future__ import annotations

from pathlib import Path

from obc.io.folder import Folder

RECORD = "run.json"
_SEED = "seed"
_PLACE = "runs/{run_id}/" + _SEED + "{seed}"
_CHECKPOINT = "iteration_{}.pth"


class RunFolder(Folder):
    """The folder of a run: one training with its evaluations."""

    @classmethod
    def of(cls, results: Path, run_id: str, seed: int | str) -> RunFolder:
        """The folder of a run in a results folder."""
        return cls(results / _PLACE.format(run_id=run_id, seed=seed))

    @classmethod
    def all_in(cls, results: Path) -> list[RunFolder]:
        """The folders of all runs in a results folder, in the order of their paths.

        Other folders beside them, e.g. a copy `seed0.bak`, are left out.
        """
        paths = sorted(results.glob(_PLACE.format(run_id="*", seed="*")))
        return [cls(path) for path in paths if path.name.removeprefix(_SEED).isdecimal()]

    @property
    def run_id(self) -> str:
        """The run id, from the folder's path."""
        return self.path.parent.name

    @property
    def seed(self) -> int:
        """The training's seed, from the folder's path."""
        return int(self.path.name.removeprefix(_SEED))

    @property
    def weights(self) -> Path:
        """A plain state dict."""
        return self.path / "final.pth"

    @property
    def record(self) -> Path:
        """The record of the training. It is written last: if it exists, the run is trained."""
        return self.path / RECORD

    @property
    def config(self) -> Path:
        """The resolved MMDetection config."""
        return self.path / "config.py"

    @property
    def log(self) -> Path:
        """Everything that the training printed."""
        return self.path / "log.txt"

    @property
    def benchmark(self) -> Path:
        """Snakemake's measurement of the training."""
        return self.path / "train.benchmark.tsv"

    @property
    def work(self) -> WorkFolder:
        """Files of an unfinished training; no rule's output, so Snakemake never deletes them."""
        return WorkFolder(self.path / "work")

    @property
    def tracking(self) -> Path:
        """Files of a tracker, which are kept; a later training adds to them."""
        return self.path / "tracking"

    def metrics(self, decode: str) -> Path:
        """The metrics of one evaluation; written after its detections."""
        return self.path / f"metrics.{decode}.json"

    def detections(self, decode: str) -> Path:
        """The detections of one evaluation."""
        return self.path / f"detections.{decode}.npz"

    def evaluations(self) -> list[Path]:
        """The existing metrics and detections files of all decodings."""
        return [
            file for of in (self.metrics, self.detections) for file in self.path.glob(of("*").name)
        ]

    def evaluation_log(self, decode: str) -> Path:
        """Everything that an evaluation printed."""
        return self.path / f"evaluate.{decode}.log"

    def evaluation_benchmark(self, decode: str) -> Path:
        """Snakemake's measurement of an evaluation."""
        return self.path / f"evaluate.{decode}.benchmark.tsv"

    def evaluation_failure(self, decode: str) -> Path:
        """Why the last evaluation failed."""
        return self.path / f"evaluate.{decode}.failed.json"

    def submission_log(self, decode: str) -> Path:
        """Everything that `obc export` printed."""
        return self.path / f"submit.{decode}.log"


class WorkFolder(Folder):
    """`work/` in a run's folder: the files that a training resumes from, and its progress."""

    @property
    def lock(self) -> Path:
        """The lock file, locked by the process that trains the run."""
        return self.path / "lock"

    @property
    def sessions(self) -> Path:
        """The sessions of the training, one for each start."""
        return self.path / "sessions.json"

    @property
    def progress(self) -> Path:
        """The progress of the training, written every few seconds."""
        return self.path / "progress.json"

    @property
    def failed(self) -> Path:
        """The error that ended the last session."""
        return self.path / "failed.json"

    @property
    def interrupted(self) -> Path:
        """The signal that ended the last session."""
        return self.path / "interrupted.json"

    def checkpoint(self, iteration: int) -> Path:
        """The checkpoint after an iteration, counted from 1."""
        return self.path / _CHECKPOINT.format(iteration)

    def checkpoints(self) -> list[Path]:
        """The existing checkpoints, newest first."""
        found = self.path.glob(_CHECKPOINT.format("*"))
        return sorted(found, key=iteration_of, reverse=True)

    def rank_log(self, rank: int) -> Path:
        """The output of one process of a distributed training, except the first."""
        return self.path / f"rank{rank}.log"


def iteration_of(checkpoint: Path | None) -> int:
    """The iteration after which a checkpoint was written; 0 (the start) for None."""
    return 0 if checkpoint is None else int(checkpoint.stem.partition("_")[2])

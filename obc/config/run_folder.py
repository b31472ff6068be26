"""The folder of one run and the names of its files, the only place where these are written.

final.pth              weights, a plain state dict
run.json               spec, seed, data, code, packages, hardware, time; written last
config.py              the resolved MMDetection config
log.txt                everything the training printed; train.benchmark.tsv Snakemake's measurement
metrics.<decode>.json  one evaluation; detections.<decode>.npz what it found, evaluate.<decode>.log;
                       evaluate.<decode>.failed.json why the last one failed
work/                  of a training that is not done: lock, sessions.json (its starts),
                       progress.json (how far it is), iteration_<n>.pth (checkpoints),
                       rank<k>.log, and failed.json or interrupted.json (why it ended)
tracking/              what a tracker writes (`--config tracking=tensorboard`)

This module is in `config`, below `runs`, because a plan names the folders of its runs. What the
files say is read in `runs`. `decode` and the like may be Snakemake's wildcards: names are text.
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
        """Where a run lies in a results folder."""
        return cls(results / _PLACE.format(run_id=run_id, seed=seed))

    @classmethod
    def all_in(cls, results: Path) -> list[RunFolder]:
        """The folders of all runs in a results folder, in the order of their paths."""
        return [cls(path) for path in sorted(results.glob(_PLACE.format(run_id="*", seed="*")))]

    @property
    def run_id(self) -> str:
        """The run's id, by the folder's path."""
        return self.path.parent.name

    @property
    def seed(self) -> int:
        """The training's seed, by the folder's path."""
        return int(self.path.name.removeprefix(_SEED))

    @property
    def weights(self) -> Path:
        """A plain state dict."""
        return self.path / "final.pth"

    @property
    def record(self) -> Path:
        """What the weights were made with; written last, so where it is, the run is trained."""
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
        """Files of a training that is not done; Snakemake does not know and so never deletes it."""
        return WorkFolder(self.path / "work")

    @property
    def tracking(self) -> Path:
        """What a tracker writes; kept, and added to by a later training."""
        return self.path / "tracking"

    def metrics(self, decode: str) -> Path:
        """The metrics of one evaluation; written after its detections."""
        return self.path / f"metrics.{decode}.json"

    def detections(self, decode: str) -> Path:
        """What one evaluation found."""
        return self.path / f"detections.{decode}.npz"

    def evaluations(self) -> list[Path]:
        """The metrics and detections that are there, of all decodings."""
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
    """`work/` in a run's folder: what a training needs to go on, and notes on how far it is."""

    @property
    def lock(self) -> Path:
        """Held by the process that trains the run."""
        return self.path / "lock"

    @property
    def sessions(self) -> Path:
        """Every start of the training."""
        return self.path / "sessions.json"

    @property
    def progress(self) -> Path:
        """How far the training is, written every few seconds."""
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
        """The checkpoints that are there, newest first."""
        found = self.path.glob(_CHECKPOINT.format("*"))
        return sorted(found, key=iteration_of, reverse=True)

    def rank_log(self, rank: int) -> Path:
        """What a process other than the first of a distributed training printed."""
        return self.path / f"rank{rank}.log"


def iteration_of(checkpoint: Path | None) -> int:
    """The iteration after which a checkpoint was written; 0, the start, for none."""
    return 0 if checkpoint is None else int(checkpoint.stem.partition("_")[2])

"""Utility against leakage over methods, strengths and seeds in one command: ``python -m clip_lite.sweep``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path

from clip_lite.cli import guarded, parse, shipped_config
from clip_lite.describe import plain
from clip_lite.errors import CommandError
from clip_lite.progress import console, progress_bar, say
from clip_lite.runs import RunFolder, resume_flags
from clip_lite.stopping import Stopped, stop_on_sigterm
from clip_lite.sweep_folder import LOG, SweepFolder, open_sweep
from clip_lite.sweep_grid import Cell, SweepConfig, as_yaml, cell_config, cells_of, checked_sweep
from clip_lite.sweep_jobs import Job, Jobs, locked
from clip_lite.tracking import Run, begun_run, tracked_run
from clip_lite.train_request import checked_attribute
from evaluation.compare import COMPARISON, PAGE, compare_runs
from evaluation.comparing.pareto import leakage_axis, utility_axis
from evaluation.comparing.stored import stored_audit
from evaluation.metrics import chosen_metrics
from evaluation.results import AuditResult

TRAIN = (sys.executable, "-m", "clip_lite.train")
PROG = "python -m clip_lite.sweep"
DESCRIPTION = f"""Trade utility against leakage: train once per seed, edit the trained model by every method
at every strength, audit each, and compare all in one report with the Pareto front.

  {PROG} --debias gender --methods '[caption_leace, text_pca]' --strengths '[0, 0.25, 0.5, 1]'
      1 training and 7 audits (2 methods x 3 strengths, and the unedited model once), one after another
  {PROG} ... --seeds '[0, 1, 2]' --jobs 3
      3 trainings and 21 audits, three at a time, each with a third of the cores
  {PROG} ... --audit.metrics '[leakage, retrieval]'
      what the front is drawn from, in a fraction of the time of the full audit
  {PROG} ... --trained runs/RUN
      no training: the edits of a model that is there (one seed)
  {PROG} ... --output sweeps/mine
      the same command again goes on where it was stopped; with more methods, strengths or seeds it grows

All other flags are those of python -m clip_lite.train. Every cell is a run in DIR/cells/NAME with a log.txt
and an MLflow run of its own below that of the sweep. Erasers are kept whatever the gate says
(mitigation.force); its verdict is in each audit. ^C and SIGTERM end the running cells, a training by a
checkpoint; what is finished stays.

Exit codes: 0 done or stopped, 1 cells failed (the others are compared), 2 wrong usage, 130 ^C.
"""


def main(argv: Sequence[str]) -> None:
    """Configure → plan → cells → comparison."""
    wanted, _ = parse(
        SweepConfig, argv, prog=PROG, description=DESCRIPTION, default_config=shipped_config("emoji.yaml")
    )
    config = checked_sweep(wanted)
    attribute = checked_attribute(config)
    chosen_metrics(config.audit.metrics, key="audit.metrics", attribute=attribute)
    folder = open_sweep(config)
    tags = {
        "kind": "sweep",
        "attribute": attribute.name if attribute else "none",
        "corpus": config.data.source,
        "methods": ", ".join(config.methods or ()),
    }
    try:
        with locked(folder.path) as lock, stop_on_sigterm() as asked, tracking(config, folder, tags) as run:
            run.log_params(plain(asdict(config)))
            sweep = Sweep(config, folder, run.run_id)
            sweep.run(lock, asked)
            sweep.compare(run)
    except Stopped as stopped:
        say(f"{stopped}; go on with: {PROG} {resume_flags(argv, RunFolder(folder.path))}")
        if stopped.__cause__:
            raise stopped.__cause__ from None
        return
    if sweep.failed:
        told = "; ".join(f"{cell.name}: {why} ({folder.log(cell)})" for cell, why in sweep.failed.items())
        raise CommandError(f"{len(sweep.failed)} of {len(sweep.cells)} cells failed: {told}")


def tracking(
    config: SweepConfig, folder: SweepFolder, tags: Mapping[str, str]
) -> AbstractContextManager[Run]:
    """The MLflow run of the sweep, the one that its folder knows or a new one."""
    return tracked_run(
        experiment=config.tracking.experiment,
        name=config.tracking.run_name or folder.path.name,
        tags=tags,
        folder=folder.path,
        resume=begun_run(folder.path, config.tracking.experiment),
        parent=config.tracking.parent,
        system_metrics=False,
    )


class Sweep:
    """The cells of a sweep: which are still to do, and what went wrong with which.

    Args:
        parent: MLflow run of the sweep.
    """

    def __init__(self, config: SweepConfig, folder: SweepFolder, parent: str) -> None:
        self.config, self.folder, self.parent = config, folder, parent
        self.cells = cells_of(config)
        self.failed: dict[Cell, str] = {}
        self.todo = {cell.name: cell for cell in self.cells if not folder.run(cell).finished}
        for cell in self.cells:
            if cell.name not in self.todo:
                self._outcome(cell, code=0)

    def run(self, lock: int, stopping: Callable[[], bool]) -> None:
        """Run every cell that is not finished.

        Raises:
            Stopped: asked to stop, or interrupted; every process has ended.
        """
        jobs = self._jobs()
        say(self._plan(jobs))
        bar: AbstractContextManager[Callable[[int, str], None]] = nullcontext(lambda *_: None)
        if console.is_terminal:
            bar = progress_bar("cells", len(self.cells), done=len(self.cells) - len(jobs))
        with bar as advance:

            def ended(job: Job, code: int | None, seconds: float) -> bool:
                cell = self.todo[job.name]
                say(f"{cell.name}: {self._outcome(cell, code=code)} ({seconds:.0f} s)")
                advance(1, "")
                run = self.folder.run(cell)
                return run.finished or run.epochs_done >= self.config.training.epochs

            Jobs(jobs, at_once=self.config.jobs, lock=lock, ended=ended).run(stopping)

    def compare(self, run: Run) -> None:
        """Compare the finished cells, in the sweep's folder and MLflow run."""
        runs = [self.folder.run(cell) for cell in self.cells]
        done = [str(each.path) for each in runs if each.finished]
        if len(done) < 2:
            say("fewer than two cells are finished: nothing to compare")
            return
        run.log_metrics(compare_runs(done, self.folder.path).metrics())
        for name in (COMPARISON, PAGE):
            run.log_artifact(self.folder.path / name)
        say(f"report: {(self.folder.path / PAGE).resolve()}")
        say(f"compare runs: {run.how_to_open()}")

    def _jobs(self) -> list[Job]:
        """A process for every cell to do: trainings first, then what takes them over."""
        jobs = []
        for cell in self.todo.values():
            trainer = self.folder.trainer(self.cells, cell.seed)
            trains = cell == trainer and self.config.trained is None
            source = None if trains else self.config.trained or self.folder.run(trainer).path
            waits = not trains and self.config.trained is None and trainer.name in self.todo
            config = cell_config(
                self.config, cell, self.folder.run(cell).path, trained=source, parent=self.parent
            )
            command = (*TRAIN, "--config", str(self.folder.written(cell, as_yaml(config))))
            after = trainer.name if waits else None
            jobs.append(Job(cell.name, command, self.folder.log(cell), after=after, trains=trains))
        return sorted(jobs, key=lambda job: not job.trains)

    def _plan(self, jobs: Sequence[Job]) -> str:
        trainings = sum(job.trains for job in jobs)
        at_once = f"{self.config.jobs} at a time" if self.config.jobs > 1 else "one after another"
        return (
            f"{len(self.cells)} cells in {self.folder.path}, {len(self.cells) - len(jobs)} of them finished; "
            f"to do: trainings {trainings}, audits {len(jobs)}, {at_once}; "
            f"each tells its progress to {LOG} in its folder"
        )

    def _outcome(self, cell: Cell, *, code: int | None) -> str:
        """What came of a cell, in words; what went wrong is kept in ``failed``."""
        run, log = self.folder.run(cell), self.folder.log(cell)
        if not run.finished:
            self.failed[cell] = "not started, its training failed" if code is None else last_words(log)
            return f"failed, {self.failed[cell]}"
        result = stored_audit(str(run.path)).result
        if broken := result.provenance["failed"]:
            self.failed[cell] = f"metrics failed, {', '.join(broken)}"
        elif code:
            self.failed[cell] = last_words(log)
        return headline(result)


def headline(result: AuditResult) -> str:
    """Utility and leakage of the system that a user of the model gets, as far as they were measured."""
    axes = (axis(result, system=result.delivered) for axis in (leakage_axis, utility_axis))
    return ", ".join(f"{axis.label} {axis.value:.3f}" for axis in axes if axis) or "audited"


def last_words(log: Path) -> str:
    """The last line of a log; of an error, what it says."""
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n") if log.exists() else []
    return next((line.removeprefix("error: ") for line in reversed(lines) if line.strip()), "it said nothing")


if __name__ == "__main__":
    sys.exit(guarded(lambda: main(sys.argv[1:])))

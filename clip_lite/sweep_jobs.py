"""The processes of a sweep: so many at a time, each with its log, all of them ended with the sweep."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from clip_lite.errors import CommandError
from clip_lite.stopping import Stopped

POLL_S = 0.1
# From SIGTERM to SIGINT, from SIGINT to SIGKILL. A training answers the first after its running step.
GRACE_S = (30.0, 15.0)
LOCK = ".lock"


@dataclass(frozen=True)
class Job:
    """One process.

    Attributes:
        name: unique in a sweep.
        command: what is run.
        log: file that its output is added to.
        after: name of the job without which it cannot run.
        trains: whether it answers SIGTERM by a checkpoint; any other is interrupted at once.
    """

    name: str
    command: Sequence[str]
    log: Path
    after: str | None = None
    trains: bool = False


@contextmanager
def locked(folder: Path) -> Iterator[int]:
    """Hold a folder for this sweep; yields a file descriptor for its processes, which hold it on if it dies.

    Raises:
        CommandError: another sweep, or a process that one left behind, holds it.
    """
    with (folder / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise CommandError(
                f"{folder} is in use, by another sweep or a process that a killed one left: wait for its end"
            ) from error
        yield file.fileno()


class Jobs:
    """Runs jobs, ``at_once`` at a time, in order; a job waits for the one that it comes ``after``.

    Args:
        at_once: processes at a time, each with an equal share of the cores.
        lock: file descriptor that every process inherits.
        ended: called with each job, the exit code and the seconds when its process has ended, with None for a
            code if it was not started; returns whether what comes after it can run.
    """

    def __init__(
        self, jobs: Sequence[Job], *, at_once: int, lock: int, ended: Callable[[Job, int | None, float], bool]
    ) -> None:
        self.waiting, self.at_once, self.lock, self.ended = list(jobs), at_once, lock, ended
        self.threads = max(1, cores() // at_once)
        self.running: dict[Job, tuple[subprocess.Popen[bytes], float]] = {}
        self.done: dict[str, bool] = {}

    def run(self, stopping: Callable[[], bool]) -> None:
        """Run all.

        Raises:
            Stopped: ``stopping`` held, or the person interrupted; every process has ended.
        """
        try:
            while self.waiting or self.running:
                if stopping():
                    raise Stopped("asked to stop")
                self._start()
                self._collect()
                time.sleep(POLL_S)
        except KeyboardInterrupt as interrupt:
            raise Stopped("interrupted") from interrupt
        finally:
            self._stop()

    def _start(self) -> None:
        """Start what may run; give up what comes after a failure."""
        for job in list(self.waiting):
            if job.after and self.done.get(job.after) is False:
                self.waiting.remove(job)
                self.done[job.name] = self.ended(job, None, 0.0)
            elif len(self.running) < self.at_once and (not job.after or self.done.get(job.after)):
                self.waiting.remove(job)
                self.running[job] = (self._process(job), time.monotonic())

    def _process(self, job: Job) -> subprocess.Popen[bytes]:
        """In a session of its own, so that ^C reaches the sweep alone."""
        with job.log.open("ab") as log:
            return subprocess.Popen(
                list(job.command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "OMP_NUM_THREADS": str(self.threads)},
                pass_fds=(self.lock,),
                start_new_session=True,
            )

    def _collect(self) -> None:
        for job, (process, began) in list(self.running.items()):
            if (code := process.poll()) is not None:
                del self.running[job]
                self.done[job.name] = self.ended(job, code, time.monotonic() - began)

    def _stop(self) -> None:
        """End what still runs: a training by its checkpoint, all else at once; ^C again hurries."""
        for job, (process, _) in self.running.items():
            process.send_signal(signal.SIGTERM if job.trains else signal.SIGINT)
        processes = [process for process, _ in self.running.values()]
        for grace, harder in zip(GRACE_S, (signal.SIGINT, signal.SIGKILL), strict=True):
            with suppress(KeyboardInterrupt):
                _wait(processes, grace)
            for process in processes:
                process.send_signal(harder)  # nothing to one that has ended
        for process in processes:
            process.wait()


def _wait(processes: Sequence[subprocess.Popen[bytes]], seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until and any(process.poll() is None for process in processes):
        time.sleep(POLL_S)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

"""Processes of a sweep: order, how many at once, failures, and how they are ended."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from clip_lite import sweep_jobs
from clip_lite.errors import CommandError
from clip_lite.stopping import Stopped
from clip_lite.sweep_jobs import Job, Jobs, locked

# writes when it began and ended, and how many threads it may use
TIMED = (
    "import os, sys, time; begin = time.monotonic(); time.sleep(0.4); "
    "print(begin, time.monotonic(), os.environ['OMP_NUM_THREADS']); sys.exit({code})"
)
# answers SIGTERM as a training does, by a last word; SIGINT ends it as it ends any Python
PATIENT = (
    "import signal, sys, time\n"
    "signal.signal(signal.SIGTERM, lambda *_: (print('checkpoint', flush=True), sys.exit(0)))\n"
    "print('ready', flush=True)\n"
    "time.sleep(60)\n"
)
STUBBORN = (
    "import signal, time\n"
    "for each in (signal.SIGTERM, signal.SIGINT): signal.signal(each, signal.SIG_IGN)\n"
    "print('ready', flush=True)\n"
    "time.sleep(60)\n"
)


def job(folder: Path, name: str, program: str, *, after: str | None = None, trains: bool = False) -> Job:
    return Job(name, (sys.executable, "-c", program), folder / name, after=after, trains=trains)


def run(
    jobs: list[Job], folder: Path, *, at_once: int = 1, stopping: Callable[[], bool] = lambda: False
) -> dict[str, int | None]:
    """Exit codes by name, in the order in which the jobs ended."""
    codes: dict[str, int | None] = {}

    def ended(job: Job, code: int | None, seconds: float) -> bool:
        assert (seconds > 0) == (code is not None)
        codes[job.name] = code
        return code == 0

    with locked(folder) as lock:
        Jobs(jobs, at_once=at_once, lock=lock, ended=ended).run(stopping)
    return codes


def test_so_many_at_once_each_with_its_share_of_the_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep_jobs, "cores", lambda: 7)
    jobs = [job(tmp_path, name, TIMED.format(code=0)) for name in "abcd"]
    assert run(jobs, tmp_path, at_once=2) == dict.fromkeys("abcd", 0)
    spans = [(tmp_path / name).read_text().split() for name in "abcd"]
    assert {threads for _, _, threads in spans} == {"3"}
    times = [(float(begin), float(end)) for begin, end, _ in spans]
    together = [sum(begin <= at < end for begin, end in times) for at, _ in times]
    assert max(together) == 2


def test_one_waits_for_the_one_it_comes_after_and_is_given_up_when_that_fails(tmp_path: Path) -> None:
    jobs = [
        job(tmp_path, "good", TIMED.format(code=0)),
        job(tmp_path, "bad", TIMED.format(code=3)),
        job(tmp_path, "on good", TIMED.format(code=0), after="good"),
        job(tmp_path, "on bad", TIMED.format(code=0), after="bad"),
        job(tmp_path, "on on bad", TIMED.format(code=0), after="on bad"),
    ]
    codes = run(jobs, tmp_path, at_once=5)
    assert codes == {"good": 0, "bad": 3, "on good": 0, "on bad": None, "on on bad": None}
    assert not (tmp_path / "on bad").exists()
    ends, begins = ((tmp_path / name).read_text().split() for name in ("good", "on good"))
    assert float(begins[0]) >= float(ends[1])


@pytest.mark.parametrize(
    ("program", "trains", "last"),
    [(PATIENT, True, "checkpoint"), (PATIENT, False, "KeyboardInterrupt"), (STUBBORN, True, "ready")],
)
def test_stopping_ends_what_runs_and_starts_nothing_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, trains: bool, last: str
) -> None:
    monkeypatch.setattr(sweep_jobs, "GRACE_S", (0.5, 0.5) if program is STUBBORN else (20.0, 20.0))
    log = tmp_path / "a"
    jobs = [job(tmp_path, "a", program, trains=trains), job(tmp_path, "b", program)]
    with pytest.raises(Stopped, match="asked to stop"):
        run(jobs, tmp_path, stopping=lambda: log.exists() and "ready" in log.read_text())
    assert log.read_text().split()[-1] == last
    assert not (tmp_path / "b").exists()
    with locked(tmp_path):  # no process holds the folder any more
        pass


def test_interrupted_by_a_person_all_processes_end(tmp_path: Path) -> None:
    log = tmp_path / "a"

    def interrupt() -> None:
        while not (log.exists() and "ready" in log.read_text()):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(Stopped, match="interrupted") as caught:
        run([job(tmp_path, "a", PATIENT, trains=True)], tmp_path)
    assert isinstance(caught.value.__cause__, KeyboardInterrupt)
    assert log.read_text().split() == ["ready", "checkpoint"]


def test_a_folder_is_held_by_one_sweep(tmp_path: Path) -> None:
    with (
        locked(tmp_path),
        pytest.raises(CommandError, match=r"is in use, by another sweep or a process"),
        locked(tmp_path),
    ):
        pass

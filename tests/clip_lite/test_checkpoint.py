"""Checkpoints are whole or absent; the best one stays."""

from __future__ import annotations

import errno
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from clip_lite.checkpoint import Checkpoints
from clip_lite.errors import CommandError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_newest_is_what_was_saved_last_and_old_ones_go(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path, keep=2)
    for step in (5, 10, 200):
        kept.save({"weights": {"a": torch.full((3,), float(step))}, "step": step}, step, best=False)
    assert names(tmp_path) == ["step-000000010.pt", "step-000000200.pt"]
    newest = kept.newest()
    assert newest is not None
    assert newest["step"] == 200
    assert torch.equal(newest["weights"]["a"], torch.full((3,), 200.0))


def test_the_best_survives_pruning_and_worse_ones(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path, keep=1)
    for step, best in ((1, True), (2, False), (3, False)):
        kept.save({"step": step}, step, best=best)
    assert names(tmp_path) == ["best.pt", "step-000000003.pt"]
    assert torch.load(tmp_path / "best.pt", weights_only=True)["step"] == 1
    kept.save({"step": 4}, 4, best=True)
    assert torch.load(tmp_path / "best.pt", weights_only=True)["step"] == 4


def test_the_best_is_kept_where_there_are_no_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    Checkpoints(tmp_path, keep=1).save({"step": 1}, 1, best=True)
    assert torch.load(tmp_path / "best.pt", weights_only=True)["step"] == 1


def test_a_damaged_newest_gives_the_one_before(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = Checkpoints(tmp_path, keep=3)
    kept.save({"step": 1}, 1, best=False)
    newest = kept.save({"step": 2}, 2, best=False)
    newest.write_bytes(newest.read_bytes()[:100])
    state = kept.newest()
    assert state is not None
    assert state["step"] == 1
    assert "step-000000002.pt cannot be read" in capsys.readouterr().out


def test_nothing_pickled_is_ever_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {tmp_path}/ran",)

    (tmp_path / "step-000000001.pt").write_bytes(pickle.dumps({"format_version": 1, "x": Evil()}, protocol=2))
    with pytest.raises(CommandError, match="none of the checkpoints"):
        Checkpoints(tmp_path, keep=1).newest()
    assert not (tmp_path / "ran").exists()


def test_a_full_disk_keeps_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Checkpoints(tmp_path, keep=1)
    kept.save({"step": 1}, 1, best=True)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(CommandError, match=r"step-000000002.pt cannot be written .*earlier ones are kept"):
        kept.save({"step": 2}, 2, best=True)
    assert names(tmp_path) == ["best.pt", "step-000000001.pt"]


WRITER = """
import sys, torch
from pathlib import Path
from clip_lite.checkpoint import Checkpoints
kept = Checkpoints(Path(sys.argv[1]), keep=2)
for step in range(1, 100000):
    kept.save({"step": step, "w": torch.full((200_000,), float(step))}, step, best=step % 3 == 0)
    print(step, flush=True)
"""


def test_a_kill_at_any_time_leaves_whole_checkpoints(tmp_path: Path) -> None:
    """Three writers, each killed at another moment of its writing: what is there can be read."""
    for delay in (0.0, 0.013, 0.029):
        folder = tmp_path / str(delay)
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        for _ in range(4):
            last = int(process.stdout.readline())
        time.sleep(delay)
        process.kill()
        process.wait()
        process.stdout.close()
        for file in folder.glob("[!.]*.pt"):
            state = torch.load(file, weights_only=True)
            assert torch.equal(state["w"], torch.full((200_000,), float(state["step"])))
        newest = Checkpoints(folder, keep=2).newest()
        assert newest is not None
        assert newest["step"] >= last

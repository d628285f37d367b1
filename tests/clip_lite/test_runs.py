"""Where a run is kept, and which one is continued."""

from __future__ import annotations

from pathlib import Path

import pytest

from clip_lite.config import TrainConfig
from clip_lite.errors import UsageError
from clip_lite.runs import open_run, resume_flags, run_name

CONFIG = "seed: {seed}\noptimizer:\n  learning_rate: {rate}\ntracking:\n  experiment: {where}\n"


def text(seed: int = 0, rate: float = 0.1, where: str = "a") -> str:
    return CONFIG.format(seed=seed, rate=rate, where=where)


def begin(folder: Path) -> None:
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    (folder / "checkpoints" / "step-000000001.pt").touch()


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_auto_takes_the_newest_unfinished_run_of_this_configuration() -> None:
    auto = TrainConfig(resume="auto")
    for folder, rate, finished in (
        ("runs/n-1", 0.1, False),
        ("runs/n-2", 0.1, False),
        ("runs/n-3", 0.5, False),
        ("runs/n-4", 0.1, True),
    ):
        Path(folder).mkdir(parents=True)
        (Path(folder) / "config.yaml").write_text(text(rate=rate))
        begin(Path(folder))
        if finished:
            (Path(folder) / "report.html").touch()
    assert open_run(auto, text(), "n").path == Path("runs/n-2")
    assert open_run(auto, text(where="b"), "n").path == Path("runs/n-2")  # tracking may change
    new = open_run(auto, text(seed=7), "n").path
    assert new.name not in {f"n-{i}" for i in range(1, 5)}
    assert (new / "config.yaml").read_text() == text(seed=7)


def test_auto_with_an_output_starts_there_or_goes_on_there() -> None:
    config = TrainConfig(resume="auto", output=Path("out"))
    assert not open_run(config, text(), "n").finished
    (Path("out") / "report.html").touch()
    assert open_run(config, text(), "n").finished


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (
            TrainConfig(resume="nowhere"),
            "--resume nowhere: no run there, expected config.yaml",
        ),
        (TrainConfig(resume="there", output=Path("other")), "leave out --output other"),
        (TrainConfig(resume="there"), r"differs in optimizer.learning_rate \(0.7 there, 0.1 here\)"),
        (TrainConfig(resume="torn"), "torn/config.yaml is not YAML"),
        (TrainConfig(output=Path("there")), "--output there holds another run"),
    ],
)
def test_what_cannot_go_on_is_one_line(config: TrainConfig, said: str) -> None:
    for folder, content in (("there", text(rate=0.7)), ("torn", "a: [")):
        Path(folder).mkdir()
        (Path(folder) / "config.yaml").write_text(content)
        begin(Path(folder))
    with pytest.raises(UsageError, match=said) as caught:
        open_run(config, text(), "n")
    assert "\n" not in str(caught.value)
    assert (Path("there") / "config.yaml").read_text() == text(rate=0.7)


@pytest.mark.parametrize("resume", [None, "auto"])
def test_a_folder_that_a_refused_command_left_is_free(resume: str | None) -> None:
    """It holds a configuration that never ran: the corrected command may use it."""
    Path("out").mkdir()
    (Path("out") / "config.yaml").write_text(text(rate=0.7))
    assert open_run(TrainConfig(output=Path("out"), resume=resume), text(), "n").path == Path("out")
    assert (Path("out") / "config.yaml").read_text() == text()


def test_the_command_to_go_on_keeps_the_flags() -> None:
    run = open_run(TrainConfig(output=Path("my run")), text(), "n")
    argv = ["--debias", "gender", "--output", "my run", "--resume=auto", "--seed=3"]
    assert resume_flags(argv, run) == "--debias gender --seed=3 --resume 'my run'"
    assert run_name(TrainConfig(debias="x/tone.yaml", seed=2)) == "emoji-tone-caption_leace-seed2"

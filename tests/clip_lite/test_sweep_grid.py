"""Which cells a sweep has, what each is told, and which folder goes on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clip_lite.cli import parse
from clip_lite.config import MitigationConfig, TrainConfig
from clip_lite.errors import UsageError
from clip_lite.sweep_folder import open_sweep
from clip_lite.sweep_grid import Cell, SweepConfig, as_yaml, cell_config, cells_of, checked_sweep

TWO = ["caption_leace", "text_pca"]


def sweep(**changed: Any) -> SweepConfig:
    return checked_sweep(SweepConfig(**{"debias": "gender", "methods": TWO, **changed}))


def test_the_unedited_model_is_one_cell_for_all_methods() -> None:
    names = [cell.name for cell in cells_of(sweep(strengths=[0, 0.5, 1], seeds=[0, 3]))]
    assert len(names) == len(set(names)) == 10
    assert names[:5] == [
        "unedited-seed0",
        "caption_leace-s0.50-seed0",
        "caption_leace-s1.00-seed0",
        "text_pca-s0.50-seed0",
        "text_pca-s1.00-seed0",
    ]
    assert [cell.name for cell in cells_of(sweep(methods=None, strengths=[0.125], seed=7))] == [
        "caption_leace-s0.125-seed7"
    ]


def test_a_cell_is_told_what_the_sweep_was(tmp_path: Path) -> None:
    mitigation = MitigationConfig(neutral_captions=False, options={"k": 1}, method="text_pca")
    config = sweep(methods=["text_pca"], mitigation=mitigation, trained=Path("x"))
    told = cell_config(
        config, Cell("text_pca", 0.5, 3), Path("out"), trained=Path("out/first"), parent="run1"
    )
    file = tmp_path / "cell.yaml"
    file.write_text(as_yaml(told))
    read, _ = parse(TrainConfig, ["--config", str(file)], prog="train", description="")
    assert read == told
    assert (read.seed, read.output, read.resume, read.trained) == (3, Path("out"), "auto", Path("out/first"))
    assert read.mitigation == replace(mitigation, strength=0.5, force=True)
    assert (read.tracking.parent, read.tracking.run_name) == ("run1", "text_pca-s0.50-seed3")
    unedited = cell_config(config, Cell("none", 0.0, 3), Path("out"))
    assert (unedited.mitigation.method, unedited.mitigation.options) == ("none", {})


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"debias": None}, "a sweep compares erasers: --debias names the attribute"),
        ({"methods": []}, "methods is empty, expected at least one"),
        ({"methods": ["text_pca", "text_pca"]}, "methods holds 'text_pca' twice"),
        ({"methods": ["leac"]}, "methods holds 'leac', expected some of caption_leace, .*text_pca"),
        ({"methods": ["none"]}, "methods holds 'none', expected some of"),
        ({"strengths": []}, "strengths is empty"),
        ({"strengths": [0, 1.5]}, "strengths holds 1.5, expected numbers from 0 to 1"),
        ({"strengths": [float("nan")]}, "strengths holds nan"),
        ({"strengths": [0, 0.0]}, "strengths holds 0.0 twice"),
        ({"seeds": []}, "seeds is empty"),
        ({"seeds": [1, 1]}, "seeds holds 1 twice"),
        ({"seeds": [-1]}, "seed is -1, expected at least 0"),
        ({"jobs": 0}, "jobs is 0, expected at least 1"),
        ({"trained": Path("a"), "seeds": [0, 1]}, "trained is a, one training of one seed, but seeds is"),
        (
            {"mitigation": MitigationConfig(strength=0.5)},
            "strength is 0.5, but a sweep sets it: give --strengths",
        ),
        ({"methods": ["pareto_shrink"]}, "strength is 0.5, but pareto_shrink has no strength"),
        (
            {"mitigation": MitigationConfig(options={"k": 1})},
            "mitigation.options: caption_leace has no option 'k'",
        ),
    ],
)
def test_what_cannot_be_swept_is_said_at_once(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        sweep(**changed)
    assert "\n" not in str(caught.value)


def test_all_that_is_wrong_is_said_in_one_line() -> None:
    with pytest.raises(UsageError, match=r"jobs is 0.*; methods is empty.*; strengths holds 2"):
        sweep(jobs=0, methods=[], strengths=[2])


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_same_command_goes_on_and_a_larger_grid_grows_it() -> None:
    config = sweep(output=Path("out"), seeds=[0])
    assert open_sweep(config).path == Path("out")
    for again in (
        config,
        replace(config, jobs=8),
        replace(config, methods=[*TWO, "inlp"], strengths=[1.0, 0.75, 0.5, 0.0], seeds=[1, 0]),
    ):
        assert open_sweep(again).path == Path("out")
    assert open_sweep(replace(again, output=None, resume="out")).path == Path("out")
    with pytest.raises(
        UsageError, match=r"out holds another sweep: methods \['inlp'\] there, not here; stren"
    ):
        open_sweep(config)


def test_auto_takes_the_newest_unfinished_sweep_of_this_configuration() -> None:
    config = sweep(resume="auto")
    for number, (rate, finished) in enumerate([(1e-3, False), (1e-3, True), (0.5, False)]):
        folder = Path(f"sweeps/emoji-gender-sweep-{number}")
        other = replace(config, optimizer=replace(config.optimizer, learning_rate=rate))
        open_sweep(replace(other, output=folder))
        if finished:
            (folder / "comparison.html").touch()
    assert open_sweep(config).path == Path("sweeps/emoji-gender-sweep-0")
    new = open_sweep(replace(config, debias="skin_tone"))
    assert new.path.name.startswith("emoji-skin_tone-sweep-2")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            {"optimizer": replace(TrainConfig().optimizer, learning_rate=0.5)},
            r"learning_rate \(0.001 there, 0.5 here",
        ),
        (
            {"audit": replace(TrainConfig().audit, metrics=["leakage"])},
            r"audit.metrics \(None there, \['leakage'\]",
        ),
        ({"strengths": [0.5]}, r"strengths \[0.0, 1.0\] there, not here"),
        ({"resume": "nowhere"}, "--resume nowhere: no sweep there, expected sweep.yaml"),
        ({"resume": "out", "output": Path("b")}, "--resume out writes there: leave out --output b"),
        ({"output": Path("run")}, "--output run holds a run: choose a new folder for the sweep"),
    ],
)
def test_a_folder_of_something_else_is_refused(changed: dict[str, Any], said: str) -> None:
    config = sweep(output=Path("out"))
    open_sweep(config)
    Path("run").mkdir()
    Path("run/report.html").touch()
    kept = Path("out/sweep.yaml").read_text()
    with pytest.raises(UsageError, match=said):
        open_sweep(replace(config, **changed))
    assert Path("out/sweep.yaml").read_text() == kept


def test_who_trains_for_a_seed_is_who_has_begun_to() -> None:
    config = sweep(output=Path("out"), strengths=[1.0])
    folder = open_sweep(config)
    first, second = cells_of(config)
    assert folder.trainer([first, second], 0) == first
    (folder.run(second).path / "checkpoints").mkdir(parents=True)
    (folder.run(second).path / "checkpoints" / "step-000000001.pt").touch()
    assert folder.trainer([first, second], 0) == second

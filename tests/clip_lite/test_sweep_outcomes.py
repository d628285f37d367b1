"""What a sweep says and does about how its cells end, with stand-ins for trainings; bad input; help."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from clip_lite import sweep
from clip_lite.cli import guarded
from evaluation.results import AuditResult, Estimate
from tests.clip_lite.test_sweep import audits, family

# Stands in for a training: fails as $BROKEN says, else writes what a finished run has.
STAND_IN = """
import json, os, pathlib, sys, yaml
config = yaml.safe_load(pathlib.Path(sys.argv[2]).read_text())
folder = pathlib.Path(config["output"])
print("method", config["mitigation"]["method"], flush=True)
how = os.environ.get("BROKEN", "").partition("=")
if how[0] and how[0] in folder.name and how[2] != "metrics":
    print("error: it broke", file=sys.stderr)
    sys.exit(int(how[2]))
audit = json.loads(pathlib.Path("audit.json").read_text())
if how[0] and how[0] in folder.name:
    audit["provenance"]["failed"] = {"leakage": "ValueError: no"}
(folder / "audit.json").write_text(json.dumps(audit))
(folder / "report.html").touch()
"""


@pytest.fixture
def stand_ins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to sweep in, whose trainings are over at once and whose comparison counts what it is given."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "stand_in.py").write_text(STAND_IN)
    monkeypatch.setattr(sweep, "TRAIN", (sys.executable, str(tmp_path / "stand_in.py")))
    row = {"n": 100, "split": "test", "system": "eraser off", "value": 0.7, "higher_is_better": False}
    result = AuditResult(
        rows=(Estimate(name="leakage/gender/embedding/max", **row),),
        attribute={"name": "gender", "groups": ["man", "woman"]},
        data={},
        model={"eraser": None},
        training={},
        provenance={"failed": {}},
    )
    result.save(tmp_path / "audit.json")

    class Counted:
        def __init__(self, runs: Sequence[str], output: Path) -> None:
            self.runs = runs
            for name in (sweep.COMPARISON, sweep.PAGE):
                (output / name).write_text("compared")

        def metrics(self) -> dict[str, float]:
            return {"compared": len(self.runs)}

    monkeypatch.setattr(sweep, "compare_runs", Counted)
    return tmp_path


SMALL = ("--debias=gender", "--output=out", "--methods=[caption_leace, text_pca]", "--strengths=[0, 1]")


def test_a_cell_that_fails_stops_no_other_and_is_tried_again(
    stand_ins: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BROKEN", "caption_leace=7")
    assert guarded(lambda: sweep.main(SMALL)) == 1
    said = capsys.readouterr()
    assert "caption_leace-s1.00-seed0: failed, it broke" in said.out
    assert "text_pca-s1.00-seed0: leakage, strongest attacker 0.700 (" in said.out
    assert said.err == (
        "error: 1 of 3 cells failed: caption_leace-s1.00-seed0: it broke "
        "(out/cells/caption_leace-s1.00-seed0/log.txt)\n"
    )
    assert family(stand_ins)[0].data.metrics["compared"] == 2

    monkeypatch.delenv("BROKEN")
    before = audits(stand_ins)
    assert guarded(lambda: sweep.main(SMALL)) == 0
    assert "2 of them finished; to do: trainings 0, audits 1, one after another" in capsys.readouterr().out
    after = audits(stand_ins)
    assert {name: after[name] for name in before} == before
    assert family(stand_ins)[0].data.metrics["compared"] == 3
    log = Path("out/cells/caption_leace-s1.00-seed0/log.txt").read_text().splitlines()
    assert log == ["method caption_leace", "error: it broke", "method caption_leace"]


def test_a_larger_grid_keeps_what_is_finished(stand_ins: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(lambda: sweep.main(SMALL)) == 0
    parent, _ = family(stand_ins)
    before = audits(stand_ins)
    assert guarded(lambda: sweep.main([*SMALL, "--strengths=[0, 0.5, 1]", "--jobs=2"])) == 0
    assert "5 cells in out, 3 of them finished; to do: trainings 0, audits 2" in capsys.readouterr().out
    after = audits(stand_ins)
    assert {name: after[name] for name in before} == before
    assert after.keys() - before.keys() == {"caption_leace-s0.50-seed0", "text_pca-s0.50-seed0"}
    again, _ = family(stand_ins)
    assert again.info.run_id == parent.info.run_id
    assert again.data.metrics["compared"] == 5


def test_without_a_training_nothing_is_taken_over(
    stand_ins: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BROKEN", "unedited-seed1=1")
    assert guarded(lambda: sweep.main([*SMALL, "--seeds=[0, 1]"])) == 1
    said = capsys.readouterr()
    assert "text_pca-s1.00-seed1: failed, not started, its training failed (0 s)" in said.out
    assert "error: 3 of 6 cells failed: unedited-seed1: it broke" in said.err
    assert set(audits(stand_ins)) == {
        "unedited-seed0",
        "caption_leace-s1.00-seed0",
        "text_pca-s1.00-seed0",
    }
    told = yaml.safe_load(Path("out/cells/text_pca-s1.00-seed0/cell.yaml").read_text())
    assert told["trained"] == "out/cells/unedited-seed0"
    assert yaml.safe_load(Path("out/cells/unedited-seed0/cell.yaml").read_text())["trained"] is None


def test_metrics_that_fail_are_told_every_time(
    stand_ins: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BROKEN", "text_pca=metrics")
    for _ in range(2):
        assert guarded(lambda: sweep.main(SMALL)) == 1
        assert "text_pca-s1.00-seed0: metrics failed, leakage (out/cells/" in capsys.readouterr().err
        monkeypatch.delenv("BROKEN", raising=False)
    assert len(audits(stand_ins)) == 3


def test_the_training_of_another_run_serves_all_cells(
    stand_ins: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert guarded(lambda: sweep.main([*SMALL, "--trained=runs/a"])) == 0
    assert "trainings 0, audits 3" in capsys.readouterr().out
    told = [yaml.safe_load(path.read_text())["trained"] for path in stand_ins.glob("out/cells/*/cell.yaml")]
    assert told == ["runs/a"] * 3


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--debias=gender", "--methods=[]", "--jobs=0"], "jobs is 0, expected at least 1; methods is empty"),
        (["--debias=hair"], "no attribute 'hair'"),
        (["--debias=gender", "--audit.metrics=[leekage]"], "audit.metrics"),
        (["--debias=gender", "--strengths=[much]"], "strengths"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    argv: list[str],
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert guarded(lambda: sweep.main(argv)) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        sweep.main(["--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    for part in ("--methods", "--optimizer.learning_rate", "1 training and 7 audits", "log.txt", "it grows"):
        assert part in said

"""``python -m evaluation.audit`` end to end on a saved model, and how it fails."""

from __future__ import annotations

from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from PIL import Image

from clip_lite.cli import guarded
from clip_lite.model import DualEncoder
from debias.methods.random_direction import random_direction
from evaluation import audit
from evaluation.results import AuditResult

SMALL = [
    "--model=model",
    "--data.test_fraction=0.3",
    "--data.val_fraction=0.15",
    "--resamples=100",
    "--permutations=100",
    "--examples=2",
    "--device=cpu",
    "--output=out",
]
Said = pytest.CaptureFixture[str]


def run(*argv: str) -> int:
    return guarded(lambda: audit.main([*SMALL, *argv]))


@pytest.fixture(autouse=True)
def _own_store(saved_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def read(folder: str = "out") -> AuditResult:
    return AuditResult.from_json(Path(folder, "audit.json").read_text())


def test_a_saved_model_is_audited_tracked_and_audited_again_to_the_same_rows(
    saved_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: Said
) -> None:
    torch.manual_seed(0)
    random_direction(8, rank=2, mean=torch.zeros(8), seed=1).save(Path("eraser"))
    assert run("--eraser=eraser", "--metrics=[retrieval, leakage]") == 0
    said = capsys.readouterr().out
    assert f"report: {Path('out/report.html').resolve()}" in said
    result = read()
    assert {row.system for row in result.rows} == {"eraser off", "eraser on", "random direction"}
    assert {row.name.split("/")[0] for row in result.rows} >= {"retrieval", "leakage", "leakage_auc"}
    assert all(row.p_adjusted is not None for row in result.rows if row.p_value is not None)
    leak = result.find("leakage/gender/embedding/max", system="eraser off")
    assert set(leak.n_by_group) == {"man", "woman"}
    assert sum(leak.n_by_group.values()) == leak.n
    assert result.model["image_features_changed"] is True
    assert result.provenance["metrics"] == ["retrieval", "leakage"]
    runs = mlflow.search_runs(experiment_names=["clip-lite"], output_format="list")
    assert runs[0].data.metrics[f"{leak.key}_ci_low"] == pytest.approx(leak.low)
    assert runs[0].data.tags["attribute"] == "gender"

    def never(*_: object) -> None:
        raise AssertionError("stored embeddings are read")

    monkeypatch.setattr(DualEncoder, "encode_image", never)
    again = ("--output=again", "--track=false", "--examples=0")  # heat maps go through the tower
    assert run("--eraser=eraser", "--metrics=[retrieval, leakage]", *again) == 0
    assert read("again").rows == result.rows


def test_an_edit_of_texts_alone_leaves_leakage_as_it_is(capsys: Said) -> None:
    random_direction(8, rank=4, mean=torch.zeros(8), seed=1).save(Path("eraser"))
    assert run("--eraser=eraser", "--on=text", "--metrics=[retrieval, leakage]", "--track=false") == 0
    result = read()
    off, on = (
        [
            row.value
            for row in result.select("leakage", split="test", system=system)
            if "change" not in row.name
        ]
        for system in ("eraser off", "eraser on")
    )
    assert off == on
    recalls = [
        [
            row.value
            for row in result.select("retrieval/", split="test", system=system)
            if "change" not in row.name
        ]
        for system in ("eraser off", "eraser on")
    ]
    assert recalls[0] != recalls[1]
    assert result.model["image_features_changed"] is False
    assert "cannot change" in Path("out/report.html").read_text()


def test_every_metric_has_rows_on_a_corpus_with_roles_and_classes(capsys: Said) -> None:
    assert run("--track=false", "--interval=bca") == 0
    result = read()
    assert not result.provenance["failed"]
    families = {row.name.split("/")[0] for row in result.rows}
    assert families == {
        "retrieval", "neutral_retrieval", "zero_shot", "probe", "grounding", "leakage", "leakage_auc",
        "leakage_bits", "geometry", "ranking", "association", "editing", "labelling", "groups",
        "amplification",
    }  # fmt: skip
    assert all(row.low is None or row.low <= row.high for row in result.rows if row.high is not None)
    assert len({(row.name, row.system, row.split, row.group) for row in result.rows}) == len(result.rows)
    assert len(result.metrics()) >= len(result.rows)


def test_an_own_metric_is_one_function_and_one_line(monkeypatch: pytest.MonkeyPatch, capsys: Said) -> None:
    Path("own.py").write_text(
        "def share(bench, attribute):\n"
        "    at = bench.at('test', 'eraser off')\n"
        "    return [at.mean('mine/share', at.clusters == at.clusters[0], higher_is_better=True)]\n"
        "def breaks(bench, attribute):\n"
        "    raise RuntimeError('no such thing')\n"
        "def twice(bench, attribute):\n"
        "    return share(bench, attribute) * 2\n"
    )
    monkeypatch.syspath_prepend(Path.cwd())
    assert run("--metrics=[own.share, own.breaks, own.twice]", "--track=false") == 1
    said = capsys.readouterr()
    assert "error: metrics failed, the others are written: own.breaks, own.twice" in said.err
    assert "Traceback" not in said.err
    result = read()
    assert [row.name for row in result.rows] == ["mine/share"]
    assert ", Share: eraser off" in said.out
    assert "A metric of one&#39;s own." in Path("out/report.html").read_text()
    assert result.provenance["failed"] == {
        "own.breaks": "RuntimeError: no such thing",
        "own.twice": "ValueError: there is a row test/eraser_off/mine/share already",
    }


def test_utility_alone_where_no_attribute_is_given(capsys: Said) -> None:
    assert run("--attribute=null", "--track=false") == 0
    families = {row.name.split("/")[0] for row in read().rows}
    assert families == {"retrieval", "zero_shot", "probe", "grounding"}


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--model=nowhere"], "there is no model 'nowhere'"),
        (["--attribute=nonsense"], "--attribute: "),
        (["--metrics=[leak]"], "--metrics: 'leak' is no metric"),
        (["--attribute=null", "--metrics=[retrieval, leakage]"], "leakage need a protected attribute"),
        (["--on=text"], "--on text says what --eraser edits"),
        (["--device=banana"], "--device 'banana' cannot be used here"),
        (["--output=model/config.json/x"], "model/config.json is a file, choose a new folder"),
        (["--eraser=nowhere"], "--eraser nowhere: nowhere is not a saved eraser"),
        (["--resamples=1"], "resamples is 1, expected at least 100"),
        (["--data.source=coco"], "data.source coco needs its folder"),
        (["--interval=studentized"], '"interval": Expected'),
        (["--bogus=1"], "bogus"),
        (["--attribute=age"], "attribute age: corpus 'emoji'"),
    ],
)
def test_wrong_usage_is_one_line(argv: list[str], said: str, capsys: Said) -> None:
    assert run(*argv) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert said in error
    assert not Path("out").exists()


def test_an_eraser_of_another_width_and_a_used_folder_are_refused(capsys: Said) -> None:
    random_direction(9, rank=1, mean=torch.zeros(9), seed=1).save(Path("eraser"))
    for where in ("embedding", "text"):
        assert run("--eraser=eraser", f"--on={where}") == 2
        assert "--eraser eraser: " in capsys.readouterr().err
    Path("out").mkdir()
    Path("out/audit.json").write_text("{}")
    assert run() == 2
    assert "holds another audit" in capsys.readouterr().err


def test_an_eraser_fitted_for_another_attribute_is_named(capsys: Said) -> None:
    eraser = random_direction(8, rank=1, mean=torch.zeros(8), seed=1)
    for groups, noted in ((("man", "woman"), True), (("light", "dark"), False)):
        eraser.details["labelled"] = dict.fromkeys(groups, 3)
        eraser.save(Path(f"eraser-{noted}"))
        argv = [f"--eraser=eraser-{noted}", "--attribute=skin_tone", "--metrics=[geometry]", "--track=false"]
        assert run(*argv, f"--output=out-{noted}") == 0
        said = capsys.readouterr().out
        assert ("note: the eraser was fitted for man, woman" in said) is noted
        assert ("eraser_fitted_for" in read(f"out-{noted}").model) is noted


def test_the_longer_probes_run_on_request(capsys: Said) -> None:
    assert run("--metrics=[sgd_probe, svm_probe]", "--track=false") == 0
    names = {row.name for row in read().rows}
    assert {"probe/category_sgd_accuracy", "probe/category_map", "probe/category_map_11point"} <= names
    assert any(name.startswith("probe_ap/category/") for name in names)
    assert "Average precision by class" in Path("out/report.html").read_text()


def test_a_metric_that_has_nothing_to_measure_says_what_it_needs(tmp_path: Path, capsys: Said) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    rng = np.random.default_rng(0)
    lines = ["file_name,gender"]
    for number in range(80):
        Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(pictures / f"{number}.png")
        lines.append(f"{number}.png,{('man', 'woman')[number % 2]}")
    (pictures / "metadata.csv").write_text("\n".join(lines))
    argv = ("--data.source=folder", f"--data.root={pictures}", "--track=false")
    assert run(*argv, "--metrics=retrieval") == 0
    said = "retrieval: nothing to measure, it needs captions"
    assert said in capsys.readouterr().out
    result = read()
    assert result.rows == ()
    assert result.provenance["empty"] == {"retrieval": said.removeprefix("retrieval: ")}
    assert "nothing to measure" in Path("out/report.html").read_text()
    assert run(*argv, "--metrics=[leakage]", "--output=again") == 0
    assert read("again").provenance["empty"] == {}

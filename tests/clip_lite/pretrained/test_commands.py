"""Models of other libraries from the command line: fitted, written with their eraser, audited."""

from __future__ import annotations

from pathlib import Path

import pytest

from clip_lite.cli import guarded
from clip_lite.pretrained import load_encoder
from debias import fit
from evaluation import audit
from evaluation.results import AuditResult

Said = pytest.CaptureFixture[str]
SPLIT = ["--data.test_fraction=0.3", "--data.val_fraction=0.15", "--device=cpu"]
QUICK = [*SPLIT, "--resamples=100", "--permutations=100", "--examples=2", "--track=false"]


@pytest.fixture(autouse=True)
def _corpus(saved_model: Path) -> None:
    """The small emoji corpus in the place of the whole one, and an empty folder to work in."""


def run_fit(*argv: str) -> int:
    return guarded(lambda: fit.main([*SPLIT, *argv]))


def run_audit(*argv: str) -> int:
    return guarded(lambda: audit.main([*QUICK, *argv]))


@pytest.mark.parametrize("name", ["clip_folder", "siglip_folder", "open_clip_folder"])
def test_a_model_is_edited_written_and_audited(name: str, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(name)
    assert (
        run_fit(
            f"--model={folder}",
            "--attribute=gender",
            "--output=eraser",
            "--save_model=edited",
            "--force=true",
        )
        == 0
    )
    assert list(load_encoder("edited").attached) == ["embedding"]
    metrics = "[retrieval, leakage, geometry, grounding, labelling]"
    assert run_audit("--model=edited", "--attribute=gender", f"--metrics={metrics}", "--output=out") == 0
    result = AuditResult.from_json(Path("out/audit.json").read_text())
    assert not result.provenance["failed"]
    assert [own["name"] for own in result.provenance["prompt_sets"]] == [
        "people_labels", "people_labels_with_child", "professions",
    ]  # fmt: skip
    families = {row.name.split("/")[0] for row in result.rows}
    assert families >= {"retrieval", "leakage", "geometry", "grounding", "labelling"}
    linear = "leakage/gender/embedding_fitted/logistic"
    off, on, random = (
        result.find(linear, system=system, split="train").value
        for system in ("eraser off", "eraser on", "random direction")
    )
    assert off > 0.7
    assert on < 0.6
    assert random > 0.65


def test_an_image_tower_is_audited_without_what_needs_text(timm_folder: Path, capsys: Said) -> None:
    assert run_audit(f"--model={timm_folder}", "--attribute=gender", "--output=out") == 0
    said = capsys.readouterr().out
    assert "no text tower: retrieval, zero_shot, grounding, ranking, association, editing, labelling" in said
    result = AuditResult.from_json(Path("out/audit.json").read_text())
    assert not result.provenance["failed"]
    families = {row.name.split("/")[0] for row in result.rows}
    assert families == {
        "probe",
        "leakage",
        "leakage_auc",
        "leakage_bits",
        "geometry",
        "groups",
        "amplification",
    }
    assert not any("angle" in row.name for row in result.rows)
    assert all(not ranking.off for ranking in result.examples.by_picture.items)
    assert Path("out/report.html").stat().st_size > 10_000


def test_what_needs_text_is_refused_of_an_image_tower_by_name(timm_folder: Path, capsys: Said) -> None:
    argv = (f"--model={timm_folder}", "--metrics=[leakage, retrieval]", "--output=out")
    assert run_audit(*argv) == 2
    assert "--metrics: retrieval cannot be had: the model has no text tower" in capsys.readouterr().err
    fitted = (f"--model={timm_folder}", "--attribute=gender", "--method=text_pca", "--output=eraser")
    assert run_fit(*fitted) == 2
    assert "has no text tower" in capsys.readouterr().err
    assert not Path("out").exists()


def test_a_model_is_written_only_where_there_is_room_and_a_model(clip_folder: Path, capsys: Said) -> None:
    Path("full").mkdir()
    Path("full/file").touch()
    argv = (f"--model={clip_folder}", "--attribute=gender", "--output=eraser")
    assert run_fit(*argv, "--save_model=full") == 2
    assert "--save_model full is not empty" in capsys.readouterr().err
    vectors = ("--attribute=gender", "--output=eraser", "--vectors=a.npy", "--captions=a.jsonl")
    assert run_fit(*vectors, "--save_model=new") == 2
    assert "not with --vectors" in capsys.readouterr().err

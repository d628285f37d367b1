"""What MLflow shows of a training and of an audit of its model."""

from __future__ import annotations

from pathlib import Path

import mlflow
import pytest

from clip_lite.registry_text import audit_tags, description
from evaluation.results import AuditResult
from tests.clip_lite.conftest import Live
from tests.clip_lite.tracked_runs import EPOCHS, Shown

LEAK = "val/leakage/gender/embedding/logistic"
RECALL = "val/i2t_recall_10"


@pytest.fixture(scope="module")
def shown(live: Live) -> Shown:
    return live.shown


@pytest.fixture(scope="module")
def result(live: Live) -> AuditResult:
    return AuditResult.load(live.folder / "audit.json")


def test_a_run_can_be_found_by_what_it_is(live: Live, shown: Shown, result: AuditResult) -> None:
    wanted = {
        "attribute": "gender",
        "debias": "gender",
        "method": "caption_leace",
        "strength": "1.0",
        "seed": "0",
        "data_digest": result.data["digest"],
        "corpus": "emoji",
        "loss": "jsd",
    }
    assert {key: shown.run.data.tags[key] for key in wanted} == wanted
    query = f"tags.method = 'caption_leace' and tags.data_digest = '{result.data['digest']}'"
    client = mlflow.MlflowClient(live.world.store)
    found = client.search_runs([shown.run.info.experiment_id], query)
    assert [run.info.run_id for run in found] == [shown.run.info.run_id]
    assert shown.datasets == {
        (split, f"emoji-{split}", digest)
        for split, _, digest in shown.datasets
        if split in ("train", "val", "test", "openmoji")
    }
    assert len(shown.datasets) == 4
    assert shown.files == {
        "audit.json",
        "draws.npz",
        "report.html",
        "README.md",
        "config.yaml",
        "data/manifest.csv",
    }


def test_every_epoch_is_validated_for_recall_and_leakage(shown: Shown) -> None:
    for key in (RECALL, LEAK, f"{LEAK}_ci_low", f"{LEAK}_ci_high", f"{LEAK}_n"):
        assert len(shown.history[key]) == EPOCHS + 1  # the last once more, with its eraser
    low, value, high = (dict(shown.history[LEAK + end]) for end in ("_ci_low", "", "_ci_high"))
    assert all(low[step] <= value[step] <= high[step] for step in value)
    assert shown.history[f"{LEAK}_n"][0][1] > 20


def test_models_are_ranked_by_validation(live: Live, shown: Shown) -> None:
    last = max(step for step, _ in shown.history[RECALL])
    steps = sorted({step for step, _ in shown.history[RECALL]})
    assert set(shown.models) >= {"clip-lite", f"clip-lite-step-{steps[-2]}"}
    for name, model in shown.models.items():
        numbers = {metric.key: (metric.step, metric.value) for metric in model.metrics}
        step = last if name == "clip-lite" else int(name.rpartition("-")[2])
        assert {RECALL, LEAK, f"{LEAK}_ci_high"} <= numbers.keys()
        assert numbers[RECALL][0] == step
        assert numbers[LEAK] in [(s, v) for s, v in shown.history[LEAK] if s == step]
        assert model.params["mitigation.method"] == "caption_leace"
    assert "eraser.method" in shown.models["clip-lite"].params
    for key, ascending in ((LEAK, True), (RECALL, False)):
        ranked = mlflow.MlflowClient(live.world.store).search_logged_models(
            [shown.run.info.experiment_id],
            order_by=[{"field_name": f"metrics.{key}", "ascending": ascending}],
        )
        values = [next(m.value for m in model.metrics if m.key == key) for model in ranked]
        assert len(values) == len(shown.models)
        assert values == sorted(values, reverse=not ascending)


def test_the_delivered_model_has_the_numbers_of_its_audit_and_their_data(
    shown: Shown, result: AuditResult
) -> None:
    numbers = {metric.key: metric for metric in shown.models["clip-lite"].metrics}
    for key, value in result.metrics().items():
        assert numbers[key].value == pytest.approx(value)
        assert shown.run.data.metrics[key] == pytest.approx(value)
    row = result.find("leakage/gender/embedding/max", system="eraser on")
    about = numbers[row.key]
    assert ("test", about.dataset_name, about.dataset_digest) in shown.datasets


def test_a_version_of_a_registered_model_says_what_it_leaks(
    live: Live, shown: Shown, result: AuditResult
) -> None:
    version = mlflow.MlflowClient(live.world.store).get_model_version("emoji-encoder", "1")
    assert version.run_id == shown.run.info.run_id
    assert version.description == description(result)
    assert version.tags == audit_tags(result, shown.run.info.run_id)
    before, after = (
        result.find("leakage/gender/embedding/max", system=system) for system in ("eraser off", "eraser on")
    )
    assert version.tags["leakage.gender.max"] == f"{after.value:.4f}"
    assert version.tags["audit_run_id"] == shown.run.info.run_id
    first = version.description.splitlines()[0]
    assert first.startswith("Leakage of gender from the embedding (balanced accuracy of the best attacker): ")
    assert f"from {before.value:.3f} (" in first
    assert f"to {after.value:.3f} (" in first


def test_an_audit_of_a_logged_model_is_linked_to_it(live: Live, tmp_path: Path) -> None:
    done = live.world.audit(
        "--model=models:/emoji-encoder/1", f"--output={tmp_path / 'audit'}", "--tracking.experiment=audits"
    )
    assert done.code == 0, done.err
    model = live.shown.models["clip-lite"]
    mine = Shown.of(str(live.world.store), "audits")
    result = AuditResult.load(tmp_path / "audit" / "audit.json")
    row = result.find("retrieval/i2t_recall_10", system="eraser on")
    assert (row.key, mine.run.info.run_id) in {(metric.key, metric.run_id) for metric in model.metrics}
    assert [item.model_id for item in mine.run.inputs.model_inputs] == [model.model_id]
    assert {split for split, _, _ in mine.datasets} == {"train", "val", "test", "openmoji"}
    tags = mine.run.data.tags
    assert (tags["attribute"], tags["method"], tags["strength"], tags["seed"]) == (
        "gender",
        "caption_leace",
        "1.0",
        "0",
    )
    assert tags["data_digest"] == result.data["digest"]


def test_only_a_logged_model_can_be_registered_by_an_audit(live: Live) -> None:
    done = live.world.audit(f"--model={live.folder / 'model'}", "--tracking.register=emoji-encoder")
    assert done.code == 2
    assert done.err.startswith("error: --tracking.register: ")
    assert done.err.endswith("is no LoggedModel of MLflow\n")


def test_an_audit_whose_store_is_gone_at_the_end_is_uploaded(live: Live, tmp_path: Path) -> None:
    """And an audit whose store is not there at the start is refused before any work."""
    model, gone = f"--model={live.folder / 'model'}", live.world.audit
    flags = (model, f"--output={tmp_path / 'audit'}", "--tracking.experiment=late")
    refused = gone(*flags, store=f"sqlite:///{tmp_path / 'absent' / 'mlflow.db'}")
    assert refused.code == 1
    assert "its folder does not exist" in refused.err
    assert not (tmp_path / "audit").exists()

    def fails(*args: object, **kwargs: object) -> None:
        raise OSError("gone")

    done = gone(*flags, patches={"clip_lite.tracking.run.mlflow.start_run": fails})
    assert done.code == 1
    assert done.err.count("\n") == 1
    assert f"python -m clip_lite.upload {tmp_path / 'audit'}" in done.err
    uploaded = live.world.upload(str(tmp_path / "audit"))
    assert uploaded.code == 0, uploaded.err
    mine = Shown.of(str(live.world.store), "late")
    assert mine.files >= {"audit.json", "report.html", "README.md", "data/manifest.csv"}
    result = AuditResult.load(tmp_path / "audit" / "audit.json")
    assert {key: mine.run.data.metrics[key] for key in result.metrics()} == pytest.approx(result.metrics())
    assert mine.run.data.tags["attribute"] == "gender"

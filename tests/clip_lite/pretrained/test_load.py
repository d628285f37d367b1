"""Names of models: whose they are, and what is said of a wrong one."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from clip_lite.editable import EditableEncoder
from clip_lite.errors import CommandError, UsageError
from clip_lite.model import DualEncoder
from clip_lite.pretrained import load_encoder
from clip_lite.text_towers import TextTower
from clip_lite.tracking import tracked_run
from clip_lite.tracking.models import keep_model
from debias.eraser import Eraser

Embed = Callable[[EditableEncoder, list[Image.Image]], Tensor]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An MLflow store in a folder of its own."""
    before = mlflow.get_tracking_uri()
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.chdir(tmp_path)
    yield uri
    mlflow.set_tracking_uri(before)


def test_our_own_directory_is_our_own_model(text_folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    tower = TextTower.load(str(text_folder), training="frozen")
    DualEncoder(tower, embedding_dim=8, image_size=32).save_pretrained(tmp_path / "model")
    assert isinstance(load_encoder(tmp_path / "model"), DualEncoder)


@pytest.mark.parametrize(
    ("prefix", "fixture"),
    [
        ("hf:", "clip_folder"),
        ("", "siglip_folder"),
        ("open_clip:", "open_clip_folder"),
        ("open_clip:local-dir:", "open_clip_folder"),
    ],
)
def test_a_prefix_may_stand_before_a_directory(
    request: pytest.FixtureRequest, prefix: str, fixture: str
) -> None:
    folder = request.getfixturevalue(fixture)
    assert type(load_encoder(f"{prefix}{folder}")) is type(load_encoder(folder))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nothing-here", "there is no model 'nothing-here', expected a directory of this package"),
        ("keras:x", "there is no model 'keras:x', expected a directory of this package"),
        ("hf:", "there is no model 'hf:', expected a directory of this package"),
        ("hf:openai/nothing", "openai/nothing: the hub is out of reach .* a local directory"),
        ("hf:not a name", "hf:not a name cannot be loaded"),
    ],
)
def test_wrong_names_are_one_line(name: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        load_encoder(name)
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_model_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no model, expected a directory"):
        load_encoder(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UsageError, match=r"config.json is no JSON"):
        load_encoder(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(UsageError, match=r"config.json holds a list, expected an object"):
        load_encoder(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(UsageError, match=r"cannot be loaded: .*no file named"):
        load_encoder(tmp_path)


def test_older_weights_of_transformers_are_read_and_code_in_them_is_not_run(
    clip_folder: Path, tmp_path: Path, photos: list[Image.Image], embed: Embed
) -> None:
    shutil.copytree(clip_folder, tmp_path / "clip")
    weights = load_file(tmp_path / "clip" / "model.safetensors")
    (tmp_path / "clip" / "model.safetensors").unlink()
    torch.save(weights, tmp_path / "clip" / "pytorch_model.bin")
    assert torch.equal(
        embed(load_encoder(tmp_path / "clip"), photos), embed(load_encoder(clip_folder), photos)
    )

    class Harm:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "harm",)

    torch.save({**weights, "harm": Harm()}, tmp_path / "clip" / "pytorch_model.bin")
    with pytest.raises(UsageError, match=r"weights hold more than numbers") as caught:
        load_encoder(tmp_path / "clip")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "harm").exists()


def test_what_mlflow_keeps_is_loaded_with_its_erasers(
    clip_folder: Path,
    eraser: Callable[[int], Eraser],
    store: str,
    photos: list[Image.Image],
    embed: Embed,
    tmp_path: Path,
) -> None:
    encoder = load_encoder(clip_folder)
    encoder.attach({"embedding": eraser(encoder.embedding_dim)})
    encoder.save_pretrained(tmp_path / "edited")
    kind = {"experiment": "models", "name": "one", "tags": {}}
    with tracked_run(**kind, folder=tmp_path, system_metrics=False) as run:
        model_id = keep_model(
            run, tmp_path / "edited", name="foreign", step=0, dim=encoder.embedding_dim, params={}
        )
        mlflow.log_artifacts(str(tmp_path / "edited"), "kept/model")
    client = mlflow.MlflowClient()
    client.create_registered_model("edited")
    client.create_model_version("edited", source=f"models:/{model_id}", model_id=model_id)
    expected = embed(encoder, photos)
    for name in (
        f"models:/{model_id}",
        f"runs:/{run.run_id}/foreign",
        "models:/edited/1",
        f"runs:/{run.run_id}/kept/model",
        f"runs:/{run.run_id}/kept",
    ):
        loaded = load_encoder(name)
        assert torch.equal(embed(loaded, photos), expected)
        assert set(loaded.attached) == {"embedding"}
    for name in ("models:/nothing/1", "models:/m-0", f"runs:/{run.run_id}/nothing", "runs:/0/model"):
        with pytest.raises(UsageError, match=f"{name} cannot be had from MLflow store sqlite") as caught:
            load_encoder(name)
        assert "\n" not in str(caught.value)


def test_a_store_out_of_reach_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'absent' / 'mlflow.db'}")
    with pytest.raises(CommandError, match="cannot be used: its folder does not exist"):
        load_encoder("models:/edited/1")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@127.0.0.1:9")
    with pytest.raises(CommandError, match=r"http://127.0.0.1:9 cannot be used") as caught:
        load_encoder("models:/edited/1")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("name", ["clip_folder", "open_clip_folder", "timm_folder", "vit_folder"])
def test_weights_that_were_cut_off_are_one_line(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    shutil.copytree(request.getfixturevalue(name), tmp_path / "cut")
    (weights,) = (tmp_path / "cut").glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(UsageError, match=r"cut.* cannot be loaded") as caught:
        load_encoder(tmp_path / "cut")
    assert "\n" not in str(caught.value)

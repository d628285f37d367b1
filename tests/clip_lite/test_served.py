"""Models that MLflow serves: texts or pictures in, the run's own embeddings out."""

from __future__ import annotations

import base64
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from mlflow.exceptions import MlflowException
from mlflow.pyfunc.scoring_server import invocations
from PIL import Image

from clip_lite.model import DualEncoder
from clip_lite.pretrained import load_encoder
from clip_lite.served import IMAGE, TEXT, Served, _load_pyfunc, example
from tests.clip_lite.conftest import Live

SIDE = 32
IN_A_NEW_PROCESS = """
import sys
import mlflow
import numpy as np
import pandas as pd
table = pd.read_pickle(sys.argv[1])
np.save(sys.argv[2], mlflow.pyfunc.load_model(sys.argv[3]).predict(table))
"""


def png(seed: int, size: tuple[int, int] = (SIDE, SIDE)) -> bytes:
    stream = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, format="PNG")
    return stream.getvalue()


def embedded(model: DualEncoder, pictures: list[bytes]) -> np.ndarray:
    pixels = [np.asarray(Image.open(io.BytesIO(each)).convert("RGB")).transpose(2, 0, 1) for each in pictures]
    with torch.inference_mode():
        ready = model.image_transform(torch.from_numpy(np.stack(pixels)))
        return model.encode_image(ready).embedding.numpy()


@pytest.fixture(scope="module")
def model(live: Live) -> DualEncoder:
    return DualEncoder.from_pretrained(live.folder / "model")


@pytest.fixture(scope="module")
def served(live: Live) -> Served:
    return _load_pyfunc(str(live.folder / "model"))


def test_rows_may_be_texts_or_pictures(served: Served, model: DualEncoder) -> None:
    assert model.attached
    pictures = [png(seed) for seed in range(3)]
    table = pd.DataFrame(
        {
            TEXT: ["a person waves", None, "", "a man waves", float("nan")],
            IMAGE: [None, pictures[0], pictures[1], b"", base64.encodebytes(pictures[2]).decode()],
        }
    )
    found = served.predict(table)
    assert found.shape == (5, model.embedding_dim)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[[1, 2, 4]], embedded(model, pictures))
    np.testing.assert_array_equal(found[[0, 3]], model.encode_text(["a person waves", "a man waves"]).numpy())
    model.erase = False
    assert not np.allclose(found[[1, 2, 4]], embedded(model, pictures))
    model.erase = True
    assert served.predict(table[[IMAGE]].iloc[:0]).shape == (0, model.embedding_dim)


def test_a_picture_of_another_size_is_cut_to_its_middle(served: Served, model: DualEncoder) -> None:
    wide = png(0, (2 * SIDE, SIDE))
    stream = io.BytesIO()
    Image.open(io.BytesIO(wide)).crop((SIDE // 2, 0, SIDE // 2 + SIDE, SIDE)).save(stream, format="PNG")
    found = served.predict(pd.DataFrame({IMAGE: [wide, stream.getvalue()]}))
    np.testing.assert_array_equal(found[0], found[1])


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"words": ["a"]}, "expected a column 'text' or 'image', and there is neither"),
        ({TEXT: ["a", None]}, "row 1: expected either column 'text' or column 'image' to be filled"),
        ({TEXT: ["a"], IMAGE: [b"b"]}, "row 0: expected either column 'text' or column 'image' to be filled"),
        ({TEXT: ["a", 3]}, "column 'text', row 1: expected a text, got int"),
        ({TEXT: ["a", ""], IMAGE: [b"", b"xx"]}, "column 'image', row 1: cannot be read as a picture"),
        ({IMAGE: ["%%"]}, "column 'image', row 0: expected an encoded picture in base64"),
        ({IMAGE: [3.5]}, "column 'image', row 0: expected bytes or base64, got float"),
    ],
)
def test_bad_input_names_column_and_row(table: dict[str, list[object]], said: str, served: Served) -> None:
    with pytest.raises(MlflowException) as raised:
        served.predict(pd.DataFrame(table))
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_registered_model_gives_the_embeddings_of_the_run_in_a_new_process(
    live: Live, model: DualEncoder, tmp_path: Path
) -> None:
    pictures, texts = [png(seed) for seed in range(4)], ["a woman waves", "thing1"]
    table = pd.DataFrame({TEXT: [None] * 4 + texts, IMAGE: [*pictures, None, None]})
    table.to_pickle(tmp_path / "table.pkl")
    environment = {**os.environ, "MLFLOW_TRACKING_URI": str(live.world.store)}
    argv = [str(tmp_path / "table.pkl"), str(tmp_path / "found.npy"), "models:/emoji-encoder/1"]
    done = subprocess.run(
        [sys.executable, "-c", IN_A_NEW_PROCESS, *argv],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = np.load(tmp_path / "found.npy")
    np.testing.assert_array_equal(found[:4], embedded(model, pictures))
    np.testing.assert_array_equal(found[4:], model.encode_text(texts).numpy())


def test_every_address_of_the_model_gives_the_same_weights(
    live: Live, model: DualEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", str(live.world.store))
    shown, pictures = live.shown, [png(seed) for seed in range(2)]
    client = mlflow.MlflowClient(live.world.store)
    client.set_registered_model_alias("emoji-encoder", "best", "1")
    final = shown.models["clip-lite"]
    for address in (
        f"models:/{final.model_id}",
        "models:/emoji-encoder/1",
        "models:/emoji-encoder@best",
        f"runs:/{shown.run.info.run_id}/clip-lite",
    ):
        found = load_encoder(address)
        assert isinstance(found, DualEncoder)
        np.testing.assert_array_equal(embedded(found, pictures), embedded(model, pictures))


def test_the_packed_model_answers_as_a_server_would_ask_it(live: Live, tmp_path: Path) -> None:
    final = live.shown.models["clip-lite"]
    address = f"models:/{final.model_id}"
    folder = mlflow.artifacts.download_artifacts(
        artifact_uri=address, dst_path=str(tmp_path), tracking_uri=live.world.store
    )
    assert not list(Path(folder).rglob("*.pkl"))
    payload = (Path(folder) / "serving_input_example.json").read_text()
    loaded = mlflow.pyfunc.load_model(folder)
    assert loaded.metadata.signature.inputs.input_names() == [TEXT, IMAGE]
    reply = invocations(payload, "application/json", loaded, loaded.metadata.get_input_schema())
    assert reply.status == 200
    answers = np.array(json.loads(reply.response)["predictions"], dtype=np.float32)
    np.testing.assert_array_equal(answers, loaded.predict(example()))

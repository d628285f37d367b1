"""A saved model as MLflow's pyfunc: texts or encoded pictures in, embeddings out, erasers applied."""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from mlflow.exceptions import MlflowException
from PIL import Image

from clip_lite.data.encoded import EncodedPictures
from clip_lite.editable import EditableEncoder
from clip_lite.errors import CommandError, UsageError
from clip_lite.precision import autocast
from clip_lite.pretrained import load_encoder

TEXT, IMAGE = "text", "image"
BATCH = 256  # as in an audit
WORKERS = 2


class Served:
    """What ``mlflow.pyfunc.load_model`` gives."""

    def __init__(self, encoder: EditableEncoder) -> None:
        self.encoder = encoder

    def predict(self, model_input: pd.DataFrame) -> np.ndarray:
        """One embedding per row, float32 ``(n, d)``, as the model returns it with its erasers.

        Args:
            model_input: column ``text``, or ``image`` with encoded PNG, JPEG or WebP pictures as bytes or in
                base64, or both columns with one of them filled in every row. Null and empty are the same.

        Raises:
            MlflowException: naming the column and the row that cannot be used.
        """
        try:
            return self._embedded(model_input)
        except CommandError as error:  # MLflow's scoring server hands on the words of its own exceptions
            raise MlflowException.invalid_parameter_value(str(error)) from error

    def _embedded(self, model_input: pd.DataFrame) -> np.ndarray:
        if not {TEXT, IMAGE} & set(model_input.columns):
            raise UsageError(f"expected a column {TEXT!r} or {IMAGE!r}, and there is neither")
        columns = {name: _filled(model_input, name) for name in (TEXT, IMAGE)}
        for row, given in enumerate(zip(*columns.values(), strict=True)):
            if sum(value is not None for value in given) != 1:
                raise UsageError(
                    f"row {row}: expected either column {TEXT!r} or column {IMAGE!r} to be filled"
                )
        out = np.empty((len(model_input), self.encoder.embedding_dim), dtype=np.float32)
        for name, embed in ((TEXT, self._texts), (IMAGE, self._pictures)):
            rows = [row for row, value in enumerate(columns[name]) if value is not None]
            if rows:
                out[rows] = embed([columns[name][row] for row in rows], rows)
        return out

    def _texts(self, texts: Sequence[Any], rows: Sequence[int]) -> np.ndarray:
        if not self.encoder.has_text:
            raise UsageError(f"column {TEXT!r} cannot be used: the model has no text tower")
        for row, text in zip(rows, texts, strict=True):
            if not isinstance(text, str):
                raise UsageError(f"column {TEXT!r}, row {row}: expected a text, got {type(text).__name__}")
        return self.encoder.encode_text(texts).float().cpu().numpy()

    def _pictures(self, values: Sequence[Any], rows: Sequence[int]) -> np.ndarray:
        encoded = [_encoded(value, row) for row, value in zip(rows, values, strict=True)]
        pictures = EncodedPictures(
            _Pictures(encoded, rows),
            size=self.encoder.image_size,
            workers=WORKERS,
            prepare=self.encoder.prepare,
        )
        device = next(self.encoder.parameters()).device
        found = []
        for start in range(0, len(pictures), BATCH):
            pixels = pictures[np.arange(start, min(start + BATCH, len(pictures)))]
            with torch.inference_mode(), autocast(device, "float32"):
                ready = self.encoder.image_transform(torch.from_numpy(pixels).to(device))
                found.append(self.encoder.encode_image(ready).embedding.float().cpu().numpy())
        return np.concatenate(found)


class _Pictures:
    """Encoded pictures of a request."""

    def __init__(self, encoded: Sequence[bytes], rows: Sequence[int]) -> None:
        self.encoded, self.rows = encoded, rows

    def __len__(self) -> int:
        return len(self.encoded)

    def read(self, row: int) -> bytes:
        """The picture as it came."""
        return self.encoded[row]

    def name(self, row: int) -> str:
        """Column and row of the request."""
        return f"column {IMAGE!r}, row {self.rows[row]}:"

    def fingerprint(self, row: int) -> str:
        """The place in the request."""
        return self.name(row)


def _load_pyfunc(path: str) -> Served:
    """Called by MLflow with the folder of the model."""
    return Served(load_encoder(path))


def example() -> pd.DataFrame:
    """A request with a text and with a picture, for people who want to see one."""
    stream = io.BytesIO()
    Image.new("RGB", (32, 32), "white").save(stream, format="PNG")
    return pd.DataFrame({TEXT: ["a person waves", ""], IMAGE: [b"", stream.getvalue()]})


def _filled(table: pd.DataFrame, name: str) -> list[Any]:
    if name not in table.columns:
        return [None] * len(table)
    return [None if _is_empty(value) else value for value in table[name].tolist()]


def _is_empty(value: Any) -> bool:
    return bool(pd.api.types.is_scalar(value)) and (bool(pd.isna(value)) or value in ("", b""))


def _encoded(value: Any, row: int) -> bytes:
    if isinstance(value, bytes | bytearray):
        return bytes(value)
    if not isinstance(value, str):
        raise UsageError(f"column {IMAGE!r}, row {row}: expected bytes or base64, got {type(value).__name__}")
    try:
        return base64.b64decode("".join(value.split()), validate=True)
    except binascii.Error as error:
        raise UsageError(
            f"column {IMAGE!r}, row {row}: expected an encoded picture in base64: {error}"
        ) from error

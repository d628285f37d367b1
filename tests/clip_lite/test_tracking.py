"""What is shown of a store, and how its parameters are named."""

from __future__ import annotations

import pytest

from clip_lite.tracking import Run, flatten, without_password


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("postgresql://ada:secret@db.example:5432/mlflow", "postgresql://db.example:5432/mlflow"),
        ("https://tracking.example/x", "https://tracking.example/x"),
        ("sqlite:////tmp/a@b/mlflow.db", "sqlite:////tmp/a@b/mlflow.db"),
    ],
)
def test_passwords_are_not_shown(uri: str, shown: str) -> None:
    assert without_password(uri) == shown
    assert Run("id", "experiment", uri).where()["tracking_uri"] == shown


def test_how_to_open_fits_the_store() -> None:
    assert Run("id", "e", "http://host:5000").how_to_open() == "open http://host:5000"
    path = "sqlite:////tmp/with space/mlflow.db"
    assert Run("id", "e", path).how_to_open() == f"mlflow ui --backend-store-uri '{path}'"


def test_nested_parameters_are_dotted() -> None:
    assert dict(flatten({"a": {"b": 1, "c": {"d": None}}, "e": 2})) == {"a.b": 1, "a.c.d": None, "e": 2}

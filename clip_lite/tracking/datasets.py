"""The splits of a corpus as MLflow's dataset inputs, and the manifest of all pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import mlflow.data.pandas_dataset
import pandas as pd
from mlflow.data.code_dataset_source import CodeDatasetSource
from mlflow.entities import Dataset, DatasetInput, InputTag

from clip_lite.data.pairs import Corpus, PairTable

MANIFEST = Path("data") / "manifest.csv"
CONTEXT = "mlflow.data.context"


def describe_splits(corpus: Corpus, folder: Path) -> list[dict[str, str]]:
    """Write ``data/manifest.csv``, a line a picture; returns of every split what ``dataset_input`` takes."""
    target = folder / MANIFEST
    target.parent.mkdir(exist_ok=True)
    frames = {split: manifest(table, split) for split, table in corpus.splits.items()}
    pd.concat(frames.values()).to_csv(target, index=False)
    return [
        {
            "context": split,
            **mlflow.data.pandas_dataset.from_pandas(
                frame,
                source=CodeDatasetSource({"corpus": corpus.name, "split": split}),
                name=f"{corpus.name}-{split}",
                digest=corpus.splits[split].digest[:32],
            ).to_dict(),
        }
        for split, frame in frames.items()
    ]


def manifest(table: PairTable, split: str) -> pd.DataFrame:
    """Id, split, cluster, captions and labels of every picture."""
    labels = sorted({name for record in table.records for name in record.attributes})
    return pd.DataFrame(
        {
            "id": [record.id for record in table.records],
            "split": split,
            "cluster": [record.cluster for record in table.records],
            "captions": [" | ".join(record.captions) for record in table.records],
            **{name: table.attribute(name) for name in labels},
        }
    )


def dataset_input(entry: Mapping[str, str]) -> DatasetInput:
    """What MLflow takes for an entry of ``describe_splits``."""
    fields = {key: value for key, value in entry.items() if key != "context"}
    return DatasetInput(Dataset(**fields), [InputTag(CONTEXT, entry["context"])])

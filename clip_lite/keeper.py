"""What the composition root adds to the training loop: validation, numbers to MLflow, checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from clip_lite.checkpoint import Checkpoints
from clip_lite.data.captions import Speech
from clip_lite.data.pairs import Corpus
from clip_lite.model import DualEncoder
from clip_lite.tracking import Run
from debias.attributes import ProtectedAttribute
from evaluation.bias.crossfit import crossfitted_leakage, enough_clusters
from evaluation.bias.leakage import Sample
from evaluation.embed import EmbeddingTable, caption_index, embed
from evaluation.inference import Inference
from evaluation.population import group_labels
from evaluation.results import OFF, Estimate
from evaluation.setting import Setting
from evaluation.utility.retrieval import recall_at

SPLIT = "val"


class Keeper:
    """The loop's hooks (``clip_lite.fit.Hooks``) on the first process, which alone has a ``run``."""

    def __init__(
        self,
        corpus: Corpus,
        attribute: ProtectedAttribute | None,
        speech: Speech,
        *,
        device: torch.device,
        inference: Inference,
        checkpoints: Checkpoints,
        run: Run | None,
        asked_to_stop: Callable[[], bool],
    ) -> None:
        self.attribute, self.device, self.inference = attribute, device, inference
        self.checkpoints, self.run, self.stopping = checkpoints, run, asked_to_stop
        self.table = corpus.splits[SPLIT].where(
            lambda record: corpus.canonical(record) or corpus.audited(record)
        )
        self.retrieved = np.array([corpus.canonical(record) for record in self.table.records])
        heard = [
            [speech.heard(caption) for caption in record.captions]
            for record, kept in zip(self.table.records, self.retrieved, strict=True)
            if kept
        ]
        self.captions, self.relevant = caption_index(heard)
        self.labels = group_labels(self.table, attribute) if attribute else np.full(len(self.table), "")
        audited = np.array([corpus.audited(record) for record in self.table.records])
        self.people = audited & np.isin(self.labels, attribute.groups if attribute else ())

    def validate(self, model: DualEncoder) -> Mapping[str, float]:
        """Numbers of the validation split: recall, and leakage where the split shows enough of each group.

        Recall is any-hit on the canonical pictures, by captions as training hears them; leakage is what
        a linear attacker reads from embeddings of people in clusters that it has not seen.
        """
        seen = embed(model, self.table, "validating", device=self.device)
        image, text = seen.embedding[self.retrieved], model.encode_text(self.captions).cpu().numpy()
        numbers = dict(recall_at(image, text, self.relevant, ks=(10,)))
        row = self._leakage(seen)
        return numbers | (_numbers(row) if row else {})

    def validated(self, model: DualEncoder) -> dict[str, float]:
        """``validate`` under the names by which MLflow has it."""
        return {f"{SPLIT}/{name}": value for name, value in self.validate(model).items()}

    def _leakage(self, seen: EmbeddingTable) -> Estimate | None:
        labels, clusters = self.labels[self.people], self.table.clusters[self.people]
        if self.attribute is None or not enough_clusters(labels, clusters):
            return None
        return crossfitted_leakage(
            Sample(seen.embedding[self.people], labels, clusters),
            f"{self.attribute.name}/embedding",
            at=Setting(clusters=clusters, split=SPLIT, system=OFF, inference=self.inference),
            seed=self.inference.seed,
        )

    def log(self, numbers: Mapping[str, float], step: int) -> None:
        """Numbers of a step, to MLflow."""
        if self.run:
            self.run.log_metrics(numbers, step)

    def keep(self, state: Mapping[str, Any], step: int, *, best: bool) -> str:
        """Write a checkpoint that knows its MLflow run."""
        run = self.run.run_id if self.run else None
        return str(self.checkpoints.save({**state, "mlflow_run": run}, step, best=best))


def _numbers(row: Estimate) -> dict[str, float]:
    bounds = {"": row.value, "_ci_low": row.low, "_ci_high": row.high, "_n": row.n}
    return {row.name + end: float(value) for end, value in bounds.items() if value is not None}

"""What each part of ``--debias gender`` does, over seeds: ``python tests/benchmarks/debias_effect.py RUNS``.

RUNS holds one folder per training, KIND-SEED, made by

  python -m clip_lite.train --seed SEED --output RUNS/plain-SEED
  python -m clip_lite.train --seed SEED --output RUNS/neutral-SEED --debias gender --mitigation.method none \\
      --mitigation.matched_negatives false
  python -m clip_lite.train --seed SEED --output RUNS/matched-SEED --debias gender --mitigation.method none

On every model five systems: as it is, the paper's text direction removed, caption_leace, the same with the
corpus's own labels, and as many random directions removed. Leakage is the balanced accuracy of the strongest
of three attackers (logistic, RBF SVM, MLP) on held-out stems, averaged over seeds; its interval resamples
the stems, the same for all seeds, and min to max over seeds stands beside it, for one does not cover the
other. Utility is recall@10 by captions that name no gender, both directions, as a share of plain's. With
``val`` after RUNS it measures on validation stems instead of test stems: what to choose a default by. About
4 minutes a training folder on one core; what was measured is kept beside the training.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch

from clip_lite.config import DataConfig
from clip_lite.data.corpora import load_corpus
from clip_lite.data.pairs import Corpus, PairTable
from clip_lite.model import DualEncoder
from debias import ProtectedAttribute
from debias.calibration import Calibration, fit_eraser
from debias.eraser import Eraser
from evaluation.bias.attackers import ATTACKERS
from evaluation.bias.leakage import Sample, attack
from evaluation.bias.leakage_scores import (
    balanced_accuracy,
    bootstrap_balanced_accuracy,
    null_balanced_accuracy,
)
from evaluation.embed import EmbeddingTable, caption_index, embed
from evaluation.inference import Inference, mean_interval, resampled_sums
from evaluation.population import population

CPU = torch.device("cpu")
GENDER = ProtectedAttribute.load("gender")
DRAWS = Inference(resamples=2000, permutations=500)
REPRESENTATIONS = ("features", "embedding")
PANEL = {name: ATTACKERS[name] for name in ("logistic", "rbf_svm", "mlp")}
KINDS = ("plain", "neutral", "matched")
Measured = dict[str, np.ndarray]  # "system/what" → value and draws of one training
Draws = dict[tuple[str, str, str], list[np.ndarray]]  # (kind, system, what) → one array per seed


def erasers(
    model: DualEncoder, corpus: Corpus, train: EmbeddingTable, seed: int
) -> dict[str, dict[str, Eraser]]:
    """The systems by what they edit."""
    table = corpus.splits["train"]
    groups = {
        "captions": GENDER.indices([record.captions for record in table.records]).numpy(),
        "labels": np.array(
            [GENDER.groups.index(g) if g in GENDER.groups else -1 for g in table.attribute("gender")]
        ),
    }

    def fit(method: str, name: str, source: str = "captions", **options: int) -> Eraser:
        rows = Calibration(getattr(train, name), groups[source], table.clusters)
        return fit_eraser(method, rows, attribute=GENDER, encode_text=model.encode_text, options=options)

    return {
        "as it is": {},
        "text direction": {"embedding": fit("text_pca", "embedding")},
        "caption_leace": {name: fit("caption_leace", name) for name in REPRESENTATIONS},
        "leace, labels": {name: fit("leace", name, "labels") for name in REPRESENTATIONS},
        "random": {name: fit("random_direction", name, seed=seed) for name in REPRESENTATIONS},
    }


def hits(model: DualEncoder, table: PairTable, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Recall@10 per query, image to text then text to image, by neutral captions; and the queries' stems."""
    said = [[GENDER.neutral_words(caption) for caption in record.captions] for record in table.records]
    captions, relevant = caption_index(said)
    text = model.encode_text(captions).numpy()
    scores = (image / np.linalg.norm(image, axis=1, keepdims=True)) @ text.T
    mine = np.zeros(scores.shape, dtype=bool)
    for row, own in enumerate(relevant):
        mine[row, own] = True
    found = []
    for score, relevance in ((scores, mine), (scores.T, mine.T)):
        first = np.argsort(-score, axis=1)[:, :10]
        found.append(np.take_along_axis(relevance, first, axis=1).any(axis=1))
    stems = np.concatenate([table.clusters, table.clusters[mine.argmax(axis=0)]])
    return np.concatenate(found).astype(float), stems


def measure(folder: Path, corpus: Corpus, seed: int, splits: tuple[str, ...]) -> Measured:
    """What one training gives, and the stems of the retrieval queries."""
    model = DualEncoder.from_pretrained(folder / "model")
    model.erase = False
    tables = {split: corpus.splits[split] for split in ("train", *splits)}
    plain = {
        split: embed(model, table, f"{folder.name} {split}", device=CPU) for split, table in tables.items()
    }
    people = {split: population(corpus, split, GENDER) for split in tables}
    queried = tables[splits[0]]
    canonical = np.array([corpus.canonical(record) for record in queried.records])
    found: Measured = {}
    for system, edits in erasers(model, corpus, plain["train"], seed).items():
        edited = {split: table.edited(edits) for split, table in plain.items()}
        for name in REPRESENTATIONS:
            samples = {
                split: Sample(getattr(edited[split].rows(own.keep), name), own.labels, own.table.clusters)
                for split, own in people.items()
            }
            tests = {split: samples[split] for split in splits}
            for split, held in attack(samples["train"], tests, seed=seed, attackers=PANEL).answers.items():
                said = (held.predictions, held.labels)
                value = balanced_accuracy(*said)
                drawn = bootstrap_balanced_accuracy(*said, held.clusters, DRAWS)
                null = null_balanced_accuracy(*said, held.clusters, DRAWS).max(axis=1)
                what = f"{system}/{split} {name}"
                found[what] = np.concatenate([[value.max()], drawn.max(axis=1)])
                found[f"{what} linear"] = np.concatenate([value[:1], drawn[:, 0]])
                found[f"{what} null"] = np.quantile(null, [0.025, 0.975])
        image = edited[splits[0]].rows(canonical).embedding
        found[f"{system}/hits"], found["stems"] = hits(model, queried.where(corpus.canonical), image)
    return found


def measured(folder: Path, corpus: Corpus, seed: int, splits: tuple[str, ...]) -> Measured:
    """As ``measure``, once: kept beside the training."""
    path = folder / f"effect-{splits[0]}.npz"
    if not path.exists():
        np.savez(path, **measure(folder, corpus, seed, splits))
    return dict(np.load(path))


def level(rows: list[np.ndarray]) -> str:
    """Mean over seeds with the interval over stems, and the range over seeds."""
    mean = np.mean(rows, axis=0)
    low, high = DRAWS.interval(mean[1:])
    seeds = [row[0] for row in rows]
    return f"{mean[0]:.3f} [{low:.3f}, {high:.3f}] seeds {min(seeds):.3f}-{max(seeds):.3f}"


def change(draws: Draws, key: tuple[str, str], base: tuple[str, str], what: str) -> str:
    """Mean over the seeds that both have of one minus the other, with the interval over stems."""
    seeds = min(len(draws[*key, what]), len(draws[*base, what]))
    pairs = zip(draws[*key, what][:seeds], draws[*base, what][:seeds], strict=True)
    difference = np.mean([own - other for own, other in pairs], axis=0)
    low, high = DRAWS.interval(difference[1:])
    return f"{difference[0]:+.3f} [{low:+.3f}, {high:+.3f}]"


def report(draws: Draws, stems: np.ndarray, splits: tuple[str, ...]) -> None:
    """Print leakage, its changes against plain and neutral models as they are edited, and utility."""
    base = ("plain", "as it is")
    for kind, system in dict.fromkeys(key[:2] for key in draws):
        print(f"\n{kind}, {system} ({len(draws[kind, system, 'hits'])} seeds)")
        for what in (f"{split} {name}" for split in splits for name in REPRESENTATIONS):
            null = np.mean(draws[kind, system, f"{what} null"], axis=0)
            print(
                f"  {what:18} max {level(draws[kind, system, what])}, null {null[0]:.2f}-{null[1]:.2f}; "
                f"linear {level(draws[kind, system, f'{what} linear'])}; "
                f"change from plain {change(draws, (kind, system), base, what)}"
            )
            if kind == "matched":
                print(
                    f"    from neutral, {system}: {change(draws, (kind, system), ('neutral', system), what)}"
                )
        own, plain = (np.mean(draws[*key, "hits"], axis=0) for key in ((kind, system), base))
        value, low, high = mean_interval(own, stems, DRAWS)
        sums = resampled_sums(np.column_stack([own, plain]), stems, DRAWS)
        ratio = DRAWS.interval(sums[:, 0] / sums[:, 1])
        seeds = [row.mean() for row in draws[kind, system, "hits"]]
        print(
            f"  recall@10 {value:.3f} [{low:.3f}, {high:.3f}] seeds {min(seeds):.3f}-{max(seeds):.3f}; "
            f"of plain {own.mean() / plain.mean():.3f} [{ratio[0]:.3f}, {ratio[1]:.3f}]"
        )


def main(root: Path, splits: tuple[str, ...] = ("test", "openmoji")) -> None:
    """Measure every training in a folder, in the order plain, neutral, matched."""
    folders = [path.parent for path in root.glob("*-*/model")]
    corpus = load_corpus(DataConfig())
    draws: Draws = defaultdict(list)
    for folder in sorted(folders, key=lambda path: (KINDS.index(path.name.split("-")[0]), path)):
        kind, _, seed = folder.name.rpartition("-")
        found = measured(folder, corpus, int(seed), splits)
        stems = found.pop("stems")
        for name, values in found.items():
            draws[(kind, *name.split("/"))].append(values)
    report(draws, stems, splits)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *((split,) for split in sys.argv[2:3]))

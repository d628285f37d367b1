"""Chooses what people look at: the test pictures and prompts whose rankings an edit changed most, heat maps.

They are extremes on purpose, and reported beside the median over all: random ones show hardly any change.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from clip_lite.data.pairs import PairTable
from debias.attributes import ProtectedAttribute
from evaluation.bias.from_prompts import PROMPT, neutral_prompts
from evaluation.pictures.heat import heat_examples
from evaluation.pictures.shown import Examples, Picture, Ranking, Rankings
from evaluation.population import group_labels
from evaluation.systems import OFF, ON, Bench
from evaluation.utility.tasks import role_task
from evaluation.vectors import unit_rows

DEPTH = 10  # places that are compared
TEXTS_SHOWN, PICTURES_SHOWN = 4, 6
PROMPTS = 6
SIDE = 128
POOL, TEXTS = 2000, 4000  # at most so many pictures and texts are ranked, drawn at random
BLOCK = 256
PURPOSE = 60


class _Pool(NamedTuple):
    """The pictures that examples are taken from: their rows in the split, and themselves."""

    rows: np.ndarray
    table: PairTable


def choose_examples(bench: Bench, attribute: ProtectedAttribute | None, count: int) -> Examples:
    """At most ``count`` pictures and ``PROMPTS`` prompts whose rankings the edit changed most.

    Taken from the audited pictures of the first test split, at most ``POOL`` of them drawn at random; of a
    cluster one picture is shown. Without an edit both are drawn at random; a model without a text tower has
    pictures only.
    """
    if count == 0:
        return Examples()
    split = bench.tests[0]
    pool = _pool(bench, split, attribute)
    prompts = _prompts(bench, split, attribute)
    by_picture = _by_picture(bench, split, pool, count)
    by_text = _by_text(bench, split, pool, prompts) if prompts else Rankings()
    heat = heat_examples(bench, attribute)
    shown = {ranking.query for ranking in by_picture.items}
    shown |= {picture for ranking in by_text.items for picture in (*ranking.off, *ranking.on)}
    shown |= {each.picture for each in heat.maps}
    notes = () if bench.has_text else ("The model has no text tower: pictures rank no texts.",)
    return Examples(
        pictures=_pictures(bench, split, attribute, shown),
        by_picture=by_picture,
        by_text=by_text,
        heat=heat.maps,
        notes=(*notes, *heat.notes),
    )


def moved(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """How far rankings changed ``(q,)``: the share of the first ``d`` that is new, averaged over ``d``.

    One minus the average overlap (Fagin, Kumar and Sivakumar 2003, "Comparing top k lists"): 0 for the same
    items in the same order, 1 for none in common; first places count most.

    Args:
        before, after: items by rank ``(q, k)``, none twice in a row.
    """
    depths = np.arange(1, before.shape[1] + 1)
    same = before[:, :, None] == after[:, None, :]
    shared = np.stack([same[:, :d, :d].sum(axis=(1, 2)) for d in depths], axis=1)
    return np.asarray(1 - (shared / depths).mean(axis=1))


def first_places(queries: np.ndarray, items: np.ndarray, k: int) -> np.ndarray:
    """Indices ``(q, k)`` of the items of highest cosine, ties in their order."""
    queries, items, k = unit_rows(queries), unit_rows(items), min(k, len(items))
    blocks = (queries[low : low + BLOCK] @ items.T for low in range(0, len(queries), BLOCK))
    return np.concatenate([np.argsort(-scores, axis=1, kind="stable")[:, :k] for scores in blocks])


def _pool(bench: Bench, split: str, attribute: ProtectedAttribute | None) -> _Pool:
    keep = bench.people(attribute)[split].keep if attribute else bench.where(split, bench.corpus.audited)[0]
    rows = np.flatnonzero(keep)
    rng = np.random.default_rng([bench.inference.seed, PURPOSE])
    rows = np.sort(rng.permutation(rows)[:POOL])
    mask = np.isin(np.arange(len(keep)), rows)
    return _Pool(rows, bench.tables[split].rows_where(mask))


def _by_picture(bench: Bench, split: str, pool: _Pool, count: int) -> Rankings:
    texts = _texts(bench, split, pool)
    if not texts:
        items = (Ranking(query=pool.table.records[row].id, off=()) for row in _random(bench, pool, count))
        return Rankings(items=tuple(items), of=len(pool.rows))
    top = {
        system: first_places(
            bench.systems[system][split].rows(pool.rows).embedding, bench.text(system, texts), DEPTH
        )
        for system in _systems(bench)
    }
    change = moved(top[OFF], top[ON]) if ON in top else None
    chosen = _random(bench, pool, count) if change is None else _most(change, pool.table.clusters, count)
    return Rankings(
        items=tuple(
            _ranking(pool.table.records[row].id, top, row, change, texts, TEXTS_SHOWN) for row in chosen
        ),
        of=len(pool.rows),
        median=None if change is None else float(np.median(change)),
    )


def _by_text(bench: Bench, split: str, pool: _Pool, prompts: Sequence[str]) -> Rankings:
    top = {
        system: first_places(
            bench.text(system, prompts), bench.systems[system][split].rows(pool.rows).embedding, DEPTH
        )
        for system in _systems(bench)
    }
    ids = [record.id for record in pool.table.records]
    change = moved(top[OFF], top[ON]) if ON in top else None
    every = np.arange(len(prompts))
    chosen = (
        np.random.default_rng([bench.inference.seed, PURPOSE, 1]).permutation(every)[:PROMPTS]
        if change is None
        else _most(change, every, PROMPTS)
    )
    return Rankings(
        items=tuple(_ranking(prompts[row], top, row, change, ids, PICTURES_SHOWN) for row in chosen),
        of=len(prompts),
        median=None if change is None else float(np.median(change)),
    )


def _ranking(
    query: str,
    top: dict[str, np.ndarray],
    row: int,
    change: np.ndarray | None,
    names: Sequence[str],
    shown: int,
) -> Ranking:
    first = {system: tuple(names[item] for item in places[row, :shown]) for system, places in top.items()}
    return Ranking(
        query=query,
        off=first[OFF],
        on=first.get(ON, ()),
        moved=None if change is None else float(change[row]),
    )


def _systems(bench: Bench) -> list[str]:
    return [system for system in (OFF, ON) if system in bench.systems]


def _most(change: np.ndarray, clusters: np.ndarray, count: int) -> list[int]:
    """Positions of the largest changes, one of a cluster, the largest first."""
    order = np.argsort(-change, kind="stable")
    _, first = np.unique(clusters[order], return_index=True)
    return [int(order[place]) for place in np.sort(first)[:count]]


def _random(bench: Bench, pool: _Pool, count: int) -> list[int]:
    """Positions in the pool, one of a cluster, in order."""
    order = np.random.default_rng([bench.inference.seed, PURPOSE, 2]).permutation(len(pool.rows))
    _, first = np.unique(pool.table.clusters[order], return_index=True)
    return sorted(int(order[place]) for place in np.sort(first)[:count])


def _texts(bench: Bench, split: str, pool: _Pool) -> list[str]:
    """What pictures rank: captions of the pool and of canonical pictures, else roles; none without texts."""
    if not bench.has_text:
        return []
    if not bench.corpus.captioned:
        return [prompts[0] for prompts in task.prompts] if (task := role_task(bench, split)) else []
    _, canonical = bench.where(split, bench.corpus.canonical)
    records = (*pool.table.records, *canonical.records)
    said = list(dict.fromkeys(caption for record in records for caption in record.captions))
    rng = np.random.default_rng([bench.inference.seed, PURPOSE, 3])
    return [said[place] for place in np.sort(rng.permutation(len(said))[:TEXTS])]


def _prompts(bench: Bench, split: str, attribute: ProtectedAttribute | None) -> list[str]:
    """Texts that rank pictures; with an attribute, texts that name no group."""
    if not bench.has_text:
        return []
    if attribute:
        return neutral_prompts(bench, bench.people(attribute)[split], attribute)
    if role := bench.corpus.role:
        _, table = bench.where(split, bench.corpus.audited)
        return [PROMPT.format(name) for name in np.unique(table.attribute(role))]
    return []


def _pictures(
    bench: Bench, split: str, attribute: ProtectedAttribute | None, wanted: set[str]
) -> dict[str, Picture]:
    """The wanted pictures of a split, small, by id."""
    table = bench.tables[split]
    table = table.rows_where(np.array([record.id in wanted for record in table.records]))
    groups = group_labels(table, attribute) if attribute else np.full(len(table), "")
    return {
        record.id: Picture(
            webp_base64=small(table.pixels(slice(place, place + 1))[0].numpy()),
            captions=record.captions,
            group=str(group),
        )
        for place, (record, group) in enumerate(zip(table.records, groups, strict=True))
    }


def small(image: np.ndarray) -> str:
    """A picture ``(3, H, W)`` uint8 on a side of at most ``SIDE`` as WebP in base64."""
    stream = io.BytesIO()
    picture = Image.fromarray(image.transpose(1, 2, 0))
    picture.thumbnail((SIDE, SIDE))
    picture.save(stream, format="WEBP", quality=85)
    return base64.b64encode(stream.getvalue()).decode()

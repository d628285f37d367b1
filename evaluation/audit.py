"""The audit of one model: every system measured, examples chosen, nothing interpreted."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

from clip_lite.data.pairs import Corpus
from debias.attributes import ProtectedAttribute
from evaluation.bias.suite import bias_rows
from evaluation.embed import caption_index
from evaluation.inference import Inference
from evaluation.results import Estimate, Example
from evaluation.systems import OFF, ON, Bench, Subject
from evaluation.utility.suite import utility_rows

TOP_CAPTIONS = 4


def audit(
    subject: Subject,
    corpus: Corpus,
    attribute: ProtectedAttribute | None,
    *,
    examples: int,
    inference: Inference,
) -> tuple[tuple[Estimate, ...], tuple[Example, ...]]:
    """Rows and example pictures of every test split.

    Utility is always measured, leakage and geometry where an attribute is given. Attackers and probes are
    trained on the train split and scored on test splits, which share no cluster with it.
    """
    bench = Bench.prepare(subject, corpus, inference)
    rows = utility_rows(bench, attribute)
    if attribute:
        rows += bias_rows(bench, attribute)
    return tuple(rows), choose_examples(bench, examples)


def choose_examples(bench: Bench, count: int) -> tuple[Example, ...]:
    """Seeded draw of audited test pictures with the captions that score highest, edit off and on."""
    keep, table = bench.where("test", bench.corpus.audited)
    everything = [record.captions for record in bench.tables["test"].records]
    captions, _ = caption_index(everything)
    text = bench.subject.encoder.encode_text(captions).cpu().numpy()
    rng = np.random.default_rng(bench.inference.seed)
    chosen = np.sort(rng.choice(len(table), size=min(count, len(table)), replace=False))
    on = ON if ON in bench.systems else OFF
    top = {
        system: np.argsort(-bench.systems[system]["test"].rows(keep).embedding[chosen] @ text.T, axis=1)
        for system in {OFF, on}
    }

    def best(system: str, place: int) -> tuple[str, ...]:
        return tuple(captions[index] for index in top[system][place, :TOP_CAPTIONS])

    return tuple(
        Example(
            id=table.records[index].id,
            png_base64=_png(table.pixels(slice(index, index + 1))[0].numpy()),
            captions=table.records[index].captions,
            top_off=best(OFF, place),
            top_on=best(on, place),
        )
        for place, index in enumerate(chosen)
    )


def _png(image: np.ndarray) -> str:
    stream = io.BytesIO()
    Image.fromarray(image.transpose(1, 2, 0)).save(stream, format="PNG")
    return base64.b64encode(stream.getvalue()).decode()

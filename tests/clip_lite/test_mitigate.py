"""What --debias adds to a training, and what of it is refused before the training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from clip_lite.build import build
from clip_lite.config import TrainConfig
from clip_lite.data.captions import AS_WRITTEN
from clip_lite.data.pairs import Corpus
from clip_lite.errors import UsageError
from clip_lite.mitigate import (
    calibration_of,
    check_mitigation,
    describe_mitigation,
    extra_terms,
    fit_erasers,
    speech_of,
)
from clip_lite.model import DualEncoder
from debias import ProtectedAttribute
from debias.training import HSICTerm
from evaluation.embed import embed
from tests.clip_lite.conftest import CPU, Configure


def asking(configure: Configure, **mitigation: Any) -> TrainConfig:
    return replace(configure(mitigation=mitigation), debias="gender")


@pytest.fixture
def model(configure: Configure, corpus: Corpus) -> DualEncoder:
    return build(configure(), corpus.splits["train"], CPU).model.eval()


def test_captions_are_reworded_unless_switched_off(configure: Configure, gender: ProtectedAttribute) -> None:
    speech = speech_of(gender, asking(configure))
    assert speech.heard("A Man: role1") == "a person role1"
    assert speech_of(gender, asking(configure, matched_negatives=False)).group is None
    off = asking(configure, neutral_captions=False)
    assert speech_of(gender, off).heard("A Man: role1") == "a man role1"
    assert speech_of(gender, configure()) == AS_WRITTEN
    assert speech_of(None, configure()) == AS_WRITTEN


def test_groups_are_numbered_for_who_asks(configure: Configure, gender: ProtectedAttribute) -> None:
    for asked in ({"matched_negatives": True}, {"term": "hsic"}):
        group = speech_of(gender, asking(configure, **asked)).group
        assert group is not None
        assert [group(["a man"]), group(["a woman"]), group(["a dog"])] == [0, 1, -1]


def test_terms_by_name(configure: Configure) -> None:
    (term,) = extra_terms(asking(configure, term="hsic", term_options={"weight": 3.0}))
    assert isinstance(term, HSICTerm)
    assert term.weight == 3.0
    assert extra_terms(configure(mitigation={"term": "hsic"})) == ()
    with pytest.raises(UsageError, match=r"mitigation.term is 'adversary', expected one of hsic or your own"):
        extra_terms(asking(configure, term="adversary"))
    with pytest.raises(UsageError, match=r"mitigation.term_options do not fit hsic: weight is -1"):
        extra_terms(asking(configure, term="hsic", term_options={"weight": -1}))


def test_what_training_did_is_told_in_words(
    configure: Configure, corpus: Corpus, gender: ProtectedAttribute
) -> None:
    config = asking(configure, matched_negatives=True, term="hsic", term_options={"weight": 3.0})
    table = corpus.splits["train"]
    speech = speech_of(gender, config)
    built = build(config, table, CPU, speech=speech)
    told = describe_mitigation(speech, table, built.step.objective, config)
    assert told["captions"].endswith("captions reworded: man → person 195, woman → person 195")
    assert "same group" in told["matching"]
    assert told["term"] == "hsic weight 3.0"
    plain = build(configure(), table, CPU).step.objective
    assert describe_mitigation(AS_WRITTEN, table, plain, configure()) == {}
    whole = replace(config, objective=replace(config.objective, loss="infonce"))
    contrasting = build(whole, table, CPU, speech=speech).step.objective
    assert "matching" not in describe_mitigation(speech, table, contrasting, whole)


def test_erasers_are_fitted_by_captions_and_judged(
    configure: Configure, corpus: Corpus, gender: ProtectedAttribute, model: DualEncoder
) -> None:
    """After the edit the group means on the training pictures are equal; a random direction leaves them."""
    fitted = fit_erasers(model, corpus, gender, asking(configure), CPU)
    assert set(fitted.verdicts) == {"features", "embedding"} >= set(fitted.erasers)
    table = corpus.splits["train"]
    image = embed(model, table, "train", device=CPU).image
    random = asking(configure, method="random_direction", force=True)
    control = fit_erasers(model, corpus, gender, random, CPU)
    for name, eraser in fitted.erasers.items():
        rows = calibration_of(getattr(image, name), table, gender, None)

        def gap(x: torch.Tensor, z: np.ndarray = rows.z) -> float:
            return float((x[z == 0].mean(0) - x[z == 1].mean(0)).norm())

        x = torch.from_numpy(rows.x).double()
        assert gap(eraser(x)) < 1e-6 * gap(x)
        assert gap(control.erasers[name](x)) > 0.5 * gap(x)
        assert eraser.details["gate"]["decision"] == fitted.verdicts[name].decision
        assert eraser.details["attribute"]["name"] == "gender"


def test_text_methods_edit_embeddings_by_words_as_they_are_written(
    configure: Configure, corpus: Corpus, gender: ProtectedAttribute, model: DualEncoder
) -> None:
    """Reworded, a word pair would have no difference left."""
    model.neutral = gender.neutral_words
    fitted = fit_erasers(model, corpus, gender, asking(configure, method="text_pca"), CPU)
    assert set(fitted.verdicts) == {"embedding"}
    assert model.erase
    assert fit_erasers(model, corpus, gender, asking(configure, method="none"), CPU).verdicts == {}


def test_an_eraser_that_the_gate_refuses_is_left_out(
    configure: Configure, corpus: Corpus, gender: ProtectedAttribute, model: DualEncoder
) -> None:
    """With one stem in training, nothing tells the groups from that stem."""
    table = corpus.splits["train"]
    stem = next(r.cluster for r in table.records if r.attributes["gender"] == "man")
    splits = {**corpus.splits, "train": table.where(lambda record: record.cluster == stem)}
    fitted = fit_erasers(model, replace(corpus, splits=splits), gender, asking(configure), CPU)
    assert fitted.erasers == {}
    assert {verdict.decision for verdict in fitted.verdicts.values()} == {"abstain"}
    forced = asking(configure, force=True)
    assert len(fit_erasers(model, replace(corpus, splits=splits), gender, forced, CPU).erasers) == 2


@pytest.mark.parametrize(
    ("mitigation", "said"),
    [
        ({"method": "leac"}, r"mitigation.method: no method 'leac', expected one of .*text_pca.*, or none"),
        ({"method": "text_pca", "options": {"kk": 2}}, "text_pca has no option 'kk': its options are k, "),
        ({"method": "text_pca", "options": {"k": 999}}, "mitigation.options.k is 999, expected 1 to 32"),
        ({"options": {"strength": 0.5}}, "mitigation.options.strength: give mitigation.strength instead"),
        ({"method": "pareto_shrink", "strength": 0.5}, "strength is 0.5, but pareto_shrink has no strength"),
        ({"method": "none", "strength": 0.5}, "strength is 0.5, but method none edits nothing"),
        ({"method": "quadratic"}, "quadratic needs the group of every picture that it edits"),
    ],
)
def test_what_cannot_be_fitted_is_refused_before_training(
    configure: Configure, corpus: Corpus, gender: ProtectedAttribute, mitigation: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        check_mitigation(gender, corpus, asking(configure, **mitigation))


def test_an_attribute_without_neutral_words_says_what_to_do(configure: Configure, hair: Path) -> None:
    attribute = ProtectedAttribute.load(hair)
    with pytest.raises(UsageError, match=r"'hair' gives no neutral words: .*neutral_captions false"):
        speech_of(attribute, asking(configure))
    assert speech_of(attribute, asking(configure, neutral_captions=False)).reword is None


def test_methods_that_keep_a_task_need_classes(
    configure: Configure, corpus: Corpus, gender: ProtectedAttribute
) -> None:
    config = asking(configure, method="splince")
    check_mitigation(gender, corpus, config)
    with pytest.raises(UsageError, match="splince needs classes, which corpus 'emoji' does not have"):
        check_mitigation(gender, replace(corpus, classification=None), config)

"""What a training is asked for, refused before it begins if it cannot be done."""

from __future__ import annotations

from clip_lite.config import TrainConfig
from clip_lite.config_checks import problems
from clip_lite.data.corpora import load_corpus
from clip_lite.data.pairs import Corpus, PairTable
from clip_lite.distributed import main_first
from clip_lite.errors import UsageError
from clip_lite.mitigate import check_mitigation
from debias.attributes import ProtectedAttribute
from evaluation.population import check_auditable, check_named


def checked_attribute(config: TrainConfig) -> ProtectedAttribute | None:
    """The attribute to audit; ``--debias`` names it and asks for its suppression.

    Raises:
        UsageError: listing everything that is out of range, or an attribute that cannot be loaded.
    """
    if wrong := list(problems(config)):
        raise UsageError("; ".join(wrong))
    chosen = config.debias or config.audit.attribute
    key = "--debias" if config.debias else "audit.attribute"
    if chosen is None:
        return None
    try:
        return ProtectedAttribute.load(chosen)
    except ValueError as error:
        raise UsageError(f"{key}: {error}") from error


def load(config: TrainConfig, attribute: ProtectedAttribute | None) -> tuple[Corpus, PairTable]:
    """The corpus for erasers and audit, and all pairs to train on.

    Raises:
        UsageError, CommandError: the corpus is not there, or cannot be audited as asked.
    """
    with main_first():
        corpus = load_corpus(config.data)
    if not corpus.captioned:
        raise UsageError(
            f"data.source {config.data.source} has no captions to train on, only labels to audit"
        )
    pairs = corpus.splits["train"]
    corpus = corpus.limited(train=config.data.fit_pictures)
    check_request(corpus, attribute, config)
    return corpus, pairs


def check_request(corpus: Corpus, attribute: ProtectedAttribute | None, config: TrainConfig) -> None:
    """Refuse before training what eraser or audit would refuse after it.

    Raises:
        UsageError: the corpus cannot be audited, or the mitigation cannot be had.
    """
    try:
        check_auditable(corpus, attribute)
        if attribute:
            check_named(corpus, attribute)
    except ValueError as error:
        raise UsageError(str(error)) from error
    if attribute and config.debias:
        check_mitigation(attribute, corpus, config)

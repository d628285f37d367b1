"""What the audit says of itself (data, model, training, provenance) as labelled lines of text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from debias.eraser import FITTED_ON
from evaluation.report import wording
from evaluation.results import AuditResult

Facts = list[tuple[str, str]]

EMOJI = "emoji"  # the one corpus whose items are not pictures by its nature

DECISIONS = {
    "act": "nothing speaks against the edit",
    "warn": "the edit may act, with a reservation",
    "abstain": "better not to edit",
}
FIXED_LIMITS = (
    "Labels are perceived or text-derived categories: they come from annotators, names and captions, not "
    "from what anyone said of themselves, and they are as coarse as the list of groups.",
    "A linear eraser can take a linear attacker to chance and leave nonlinear attackers where they were; the "
    "table of leakage by attacker shows which.",
    "Nothing here carries over to other pictures or people: only the pictures of this corpus were measured.",
)


@dataclass(frozen=True, kw_only=True)
class Source:
    """One source of pictures; ``href`` is empty unless the address is http(s)."""

    name: str
    version: str
    licence: str
    pictures: str
    attribution: str
    url: str
    href: str


@dataclass(frozen=True, kw_only=True)
class Gate:
    """What the gate said before an eraser acted: its decision, what that means, why, and its numbers."""

    name: str
    decision: str
    meaning: str
    reasons: list[str]
    numbers: Facts


def text(value: Any) -> str:
    """Any value of an audit's mappings as one line for a reader."""
    match value:
        case None:
            return "not recorded"
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}" if abs(value) >= 10_000 else str(value)
        case float():
            return f"{value:.4g}"
        case str():
            return value
        case Mapping():
            return ", ".join(f"{key}: {text(item)}" for key, item in value.items()) or "none"
        case Sequence():
            return ", ".join(text(item) for item in value) or "none"
    return str(value)


def duration(seconds: float) -> str:
    """``45 s``, ``8 min 12 s``, ``2 h 05 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _listed(mapping: Mapping[str, Any], *, leave: Sequence[str] = ()) -> Facts:
    return [(wording.plain(key), text(item)) for key, item in mapping.items() if key not in leave]


def attribute(result: AuditResult) -> Facts:
    """The attribute, its groups and where its labels come from."""
    facts = _listed(result.attribute)
    if noise := result.data.get("label_noise"):
        share = f"{noise['disagreement']:.1%} [{noise['low']:.1%}, {noise['high']:.1%}]"
        facts += [
            ("Captions naming another group than the label", f"{share} of {noise['compared']:,} pictures"),
            ("Labelled pictures whose captions name none or several", f"{noise['unnamed']:,}"),
        ]
    return facts


def model(result: AuditResult) -> Facts:
    """The encoder's parts and size."""
    return _listed(result.model, leave=("eraser", "gate"))


def eraser(result: AuditResult) -> Facts:
    """The eraser and the data it was fitted on."""
    mapping = result.model.get("eraser") or {}
    return _listed(mapping, leave=("details",)) + _listed(mapping.get("details") or {}, leave=("gate",))


def gates(result: AuditResult) -> list[Gate]:
    """What the gate said of each eraser that was fitted."""
    details = (result.model.get("eraser") or {}).get("details") or {}
    verdicts = result.model.get("gate") or ({"embedding": details["gate"]} if "gate" in details else {})
    return [_gate(name, verdict) for name, verdict in verdicts.items()]


def judged_elsewhere(result: AuditResult) -> bool:
    """Whether the gate judged the eraser on other data than were audited, or nobody knows.

    What a training judged itself, it audits on the same corpus.
    """
    if result.model.get("gate"):
        return False
    details = (result.model.get("eraser") or {}).get("details") or {}
    train = (result.data.get("splits") or {}).get("train") or {}
    return bool(gates(result)) and details.get(FITTED_ON) != train.get("digest")


def _gate(name: str, verdict: Mapping[str, Any]) -> Gate:
    numbers: Facts = []
    if residual := verdict.get("residual"):
        value, low, high = residual
        numbers.append(("Squared distance between groups that stays", f"{value:.0%} [{low:.0%}, {high:.0%}]"))
    if (independent := verdict.get("effective_n")) is not None:
        numbers.append(("Labelled pictures count for", f"{independent:,.0f} independent ones"))
    if (enough := verdict.get("enough")) is not None:
        numbers.append(("Labelled pictures for a tenth to stay", f"{enough:,}"))
    if (cosine := verdict.get("cosine")) is not None:
        numbers.append(("Mean cosine of vectors before and after", f"{cosine:.3f}"))
    decision = str(verdict.get("decision"))
    return Gate(
        name=wording.plain(name),
        decision=decision,
        meaning=DECISIONS.get(decision, ""),
        reasons=[str(reason) for reason in verdict.get("reasons") or ()],
        numbers=numbers,
    )


def training(result: AuditResult) -> Facts:
    """Objective, length, precision and time; empty for a model trained elsewhere."""
    facts = _listed(result.training, leave=("curve", "stages", "config", "seconds"))
    seconds = result.training.get("seconds")
    if seconds is not None:
        facts.append(("Time", duration(seconds)))
    speeds = [
        epoch["pairs_per_second"]
        for epoch in result.training.get("curve") or ()
        if epoch.get("pairs_per_second")
    ]
    if speeds:
        facts.append(("Throughput, median epoch", f"{median(speeds):,.0f} pairs/s"))
    return facts


def stages(result: AuditResult) -> Facts:
    """Wall-clock time of each stage of the run."""
    recorded = result.training.get("stages") or {}
    return [
        (wording.plain(name), duration(seconds)) for name, seconds in recorded.items() if seconds is not None
    ]


def configuration(result: AuditResult) -> Facts:
    """The nested configuration with dotted keys."""
    return list(_flat(result.training.get("config") or {}, ""))


def _flat(mapping: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for key, item in mapping.items():
        if isinstance(item, Mapping):
            yield from _flat(item, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", "null" if item is None else str(item)


def data(result: AuditResult) -> Facts:
    """The corpus by name, digest and picture size."""
    skipped = dict(result.data.get("skipped") or {})
    total = skipped.pop("total", 0)
    left_out = [(f"Left out: {reason}", f"{n:,} of {total:,}") for reason, n in skipped.items()]
    return _listed(result.data, leave=("splits", "sources", "limits", "label_noise", "skipped")) + left_out


def splits(result: AuditResult) -> list[tuple[str, str, str]]:
    """Split, pictures, items."""
    recorded = result.data.get("splits") or {}
    return [
        (wording.split_label(name), _count(sizes, "pictures"), _count(sizes, "stems"))
        for name, sizes in recorded.items()
    ]


def item(result: AuditResult) -> str:
    """What an item of this corpus is: what splits keep together and the bootstrap resamples."""
    sizes = [own for own in (result.data.get("splits") or {}).values() if own]
    if result.data.get("name") == EMOJI:
        return "a stem: the name of an emoji without gender, age word and skin tone, in all its drawings"
    if sizes and all(own.get("stems") == own.get("pictures") for own in sizes):
        return "a picture with its captions"
    return "what the corpus says belongs together: pictures of one thing, person or place"


def sources(result: AuditResult) -> list[Source]:
    """Where the pictures come from and under which licence."""
    return [_source(raw) for raw in result.data.get("sources") or ()]


def _source(raw: Mapping[str, Any]) -> Source:
    url = str(raw.get("url") or "")
    strings = {key: str(raw.get(key) or "") for key in ("name", "version", "licence", "attribution")}
    return Source(
        **strings,
        pictures=_count(raw, "pictures"),
        url=url,
        href=url if url.startswith(("https://", "http://")) else "",
    )


def _count(mapping: Mapping[str, Any], key: str) -> str:
    count = (mapping or {}).get(key)
    return "" if count is None else f"{count:,}"


def limits(result: AuditResult) -> list[str]:
    """The corpus's own limits and those of every audit of this kind."""
    return [*(str(limit) for limit in result.data.get("limits") or ()), *FIXED_LIMITS]


def provenance(result: AuditResult) -> Facts:
    """Seeds, attackers, versions, digests and the MLflow run; the command is printed apart."""
    recorded = dict(result.provenance)
    if "seed" in recorded:
        recorded["seed"] = str(recorded["seed"])
    if sets := recorded.pop("prompt_sets", ()):
        recorded["prompt_sets"] = [f"{own['name']} {own['version']} ({own['digest'][:12]})" for own in sets]
    if not recorded.get("mlflow"):
        recorded.pop("mlflow", None)
    digests = {
        "Data digest": result.data.get("digest"),
        "Model digest": result.model.get("digest"),
        "Lexicon digest": result.attribute.get("lexicon_digest"),
    }
    return _listed(recorded, leave=("command",)) + [
        (label, text(item)) for label, item in digests.items() if item
    ]

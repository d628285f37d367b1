"""``PromptSet``: the texts of a zero-shot evaluation, read from a versioned YAML file."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import yaml

from clip_lite.errors import UsageError
from debias.shipped_files import found, is_text, shipped_folder, shipped_names, texts_in

Kind = Literal["classify", "rank"]
KINDS = ("classify", "rank")
REQUIRED = ("name", "version", "purpose", "kind", "templates", "labels")
OF_CLASSIFY = ("neutral", "harmful")
KEY = re.compile(r"[A-Za-z0-9_-]+")
ARTICLE = re.compile(r"(an?|the)\s+", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class PromptSet:
    """Labels in categories, and the sentences they stand in.

    Attributes:
        name: e.g. ``people_labels``.
        version: changes whenever a word does.
        purpose: what is measured, in a sentence.
        kind: ``classify``, every picture gets the label nearest to it; ``rank``, every label ranks pictures.
        templates: each with one ``{}`` for a label.
        labels: label texts by category, as they stand in a template, article and all.
        neutral: the category that does no harm; empty for ``rank``.
        harmful: the categories that do; empty for ``rank``.
    """

    name: str
    version: str
    purpose: str
    kind: Kind
    templates: tuple[str, ...]
    labels: dict[str, tuple[str, ...]]
    neutral: str = ""
    harmful: tuple[str, ...] = ()

    @classmethod
    def load(cls, name_or_path: str | Path) -> PromptSet:
        """Read a shipped set by name, or any other from the path of its YAML file; the name goes first.

        Raises:
            UsageError: nothing of that name is shipped and there is no such file, or the file is not what it
                should be; the message is one line with every problem.
        """
        path = _find(name_or_path)
        try:
            raw = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise UsageError(f"{path}: cannot be read as YAML: {' '.join(str(error).split())}") from error
        if wrong := list(problems(raw)):
            raise UsageError(f"{path}: {'; '.join(wrong)}")
        return cls(
            name=raw["name"],
            version=raw["version"],
            purpose=" ".join(raw["purpose"].split()),
            kind=raw["kind"],
            templates=tuple(raw["templates"]),
            labels={category: tuple(texts) for category, texts in raw["labels"].items()},
            neutral=raw.get("neutral", ""),
            harmful=tuple(raw.get("harmful", ())),
        )

    @property
    def categories(self) -> tuple[str, ...]:
        """In the order of the file."""
        return tuple(self.labels)

    @property
    def texts(self) -> tuple[str, ...]:
        """All labels, category after category."""
        return tuple(text for texts in self.labels.values() for text in texts)

    @property
    def owners(self) -> tuple[int, ...]:
        """Index of the category of each of ``texts``."""
        return tuple(index for index, texts in enumerate(self.labels.values()) for _ in texts)

    @property
    def prompts(self) -> list[list[str]]:
        """What is sent to the text tower: for each of ``texts`` all templates."""
        return [[template.replace("{}", text) for template in self.templates] for text in self.texts]

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of the whole set: another word, another digest."""
        return hashlib.sha256(json.dumps(asdict(self), ensure_ascii=False).encode()).hexdigest()

    def describe(self) -> dict[str, Any]:
        """Provenance for an audit: the set itself and its digest."""
        return asdict(self) | {"digest": self.digest}


def available_prompt_sets() -> list[str]:
    """Names of the shipped sets, sorted."""
    return shipped_names(_folder())


def shipped_prompt_sets() -> list[PromptSet]:
    """Every shipped set, by name."""
    return [PromptSet.load(name) for name in available_prompt_sets()]


def row_name(label: str) -> str:
    """A label as part of a metric's name: ``a police officer`` → ``police_officer``."""
    return re.sub(r"\W+", "_", ARTICLE.sub("", label.strip(), count=1)).strip("_").lower()


def _folder() -> Path:
    return shipped_folder(Path(__file__).parent, "prompts")


def _find(name_or_path: str | Path) -> Path:
    if path := found(name_or_path, _folder()):
        return path
    shipped = ", ".join(available_prompt_sets())
    raise UsageError(
        f"no prompt set {str(name_or_path)!r}: shipped ones are {shipped}; or give the path of a YAML file"
    )


def problems(raw: Any) -> Iterator[str]:
    """Every problem, as ``key.path is VALUE, expected …``."""
    if not isinstance(raw, dict):
        yield f"is {raw!r}, expected a mapping with {', '.join(REQUIRED)}"
        return
    yield from (f"{key} is missing" for key in REQUIRED if key not in raw)
    known = REQUIRED + OF_CLASSIFY
    for key in raw:
        if key not in known:
            yield f"{key} is not a known key, expected one of {', '.join(known)}"
    for key in ("version", "purpose"):
        if key in raw and not is_text(raw[key]):
            yield f"{key} is {raw[key]!r}, expected a string in quotes"
    if "name" in raw and not _is_key(raw["name"]):
        yield f"name is {raw['name']!r}, expected letters, digits, _ and -, for it goes into metric names"
    if "kind" in raw and raw["kind"] not in KINDS:
        yield f"kind is {raw['kind']!r}, expected {' or '.join(KINDS)}"
    if "templates" in raw:
        yield from _template_problems(raw["templates"])
    if "labels" in raw:
        yield from _label_problems(raw["labels"], raw.get("kind"))
    yield from _role_problems(raw)


def _template_problems(templates: Any) -> Iterator[str]:
    yield from _text_problems("templates", templates)
    for place, template in texts_in(templates):
        if template.count("{}") != 1:
            yield f"templates[{place}] is {template!r}, expected exactly one {{}}"
        if templates.index(template) != place:
            yield f"templates[{place}] is {template!r} again"


def _label_problems(labels: Any, kind: Any) -> Iterator[str]:
    least = 2 if kind == "classify" else 1
    if not isinstance(labels, dict) or len(labels) < least:
        wanted = "two categories" if least == 2 else "one category"
        yield f"labels is {labels!r}, expected a mapping of at least {wanted} to lists of labels"
        return
    owner: dict[str, str] = {}
    for category, texts in labels.items():
        if not _is_key(category):
            yield f"labels.{category} is no name for a category, expected letters, digits, _ and -"
        yield from _text_problems(f"labels.{category}", texts)
        for place, text in texts_in(texts):
            key, spelled = f"labels.{category}[{place}]", row_name(text)
            if not spelled or (kind == "rank" and not _is_key(spelled)):
                yield f"{key} is {text!r}, expected plain letters, for it goes into metric names"
            elif (first := owner.setdefault(spelled, key)) != key:
                yield f"{key} is {text!r}, which {first} says already"


def _role_problems(raw: dict[Any, Any]) -> Iterator[str]:
    """Which category does no harm and which do."""
    if raw.get("kind") == "rank":
        yield from (f"{key} is given, which only kind classify has" for key in OF_CLASSIFY if key in raw)
        return
    if raw.get("kind") == "classify":
        yield from (f"{key} is missing, which kind classify needs" for key in OF_CLASSIFY if key not in raw)
    categories = list(raw["labels"]) if isinstance(raw.get("labels"), dict) else []
    named = f"one of the categories {', '.join(map(str, categories))}"
    if "neutral" in raw and raw["neutral"] not in categories:
        yield f"neutral is {raw['neutral']!r}, expected {named}"
    if "harmful" not in raw:
        return
    yield from _text_problems("harmful", raw["harmful"])
    for place, category in texts_in(raw["harmful"]):
        if category not in categories or category == raw.get("neutral"):
            yield f"harmful[{place}] is {category!r}, expected {named} other than neutral"


def _text_problems(key: str, texts: Any) -> Iterator[str]:
    if not isinstance(texts, list) or not texts:
        yield f"{key} is {texts!r}, expected a list of strings"
        return
    for place, text in enumerate(texts):
        if not is_text(text):
            yield f"{key}[{place}] is {text!r}, expected a string in quotes"


def _is_key(value: Any) -> bool:
    return isinstance(value, str) and KEY.fullmatch(value) is not None

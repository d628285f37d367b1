"""Any transformers text model: frozen, trained on, from scratch; whole or cut; mean or pooler."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import processors
from transformers import (
    AutoModel,
    BertConfig,
    BertModel,
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    GPT2Config,
    GPT2Model,
    PreTrainedTokenizerFast,
    T5Config,
    T5EncoderModel,
    ViTConfig,
    ViTModel,
)

from clip_lite.errors import UsageError
from clip_lite.model import DualEncoder
from clip_lite.text_towers import Start, TextTower, pooled_texts

TEXTS = ["man role1", "a much longer text about a thing and a role", "thing"]


@pytest.fixture(scope="session")
def families(text_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Small random models of four families, with the tokenizer of ``text_folder``."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(text_folder)
    size = len(tokenizer)
    torch.manual_seed(1)
    models = {
        "bert": BertModel(
            BertConfig(
                vocab_size=size,
                hidden_size=32,
                num_hidden_layers=3,
                num_attention_heads=2,
                intermediate_size=64,
                max_position_embeddings=64,
            )
        ),
        "gpt2": GPT2Model(GPT2Config(vocab_size=size, n_embd=32, n_layer=2, n_head=2, n_positions=64)),
        "t5": T5EncoderModel(
            T5Config(vocab_size=size, d_model=32, d_kv=16, d_ff=64, num_layers=2, num_heads=2)
        ),
        "clip": CLIPTextModel(
            CLIPTextConfig(
                vocab_size=size,
                hidden_size=32,
                intermediate_size=64,
                num_hidden_layers=2,
                num_attention_heads=2,
                max_position_embeddings=64,
                eos_token_id=tokenizer.sep_token_id,
            )
        ),
    }
    folders = {}
    for name, model in models.items():
        folders[name] = tmp_path_factory.mktemp(name)
        model.save_pretrained(folders[name])
        tokenizer.save_pretrained(folders[name])
    bare = PreTrainedTokenizerFast.from_pretrained(text_folder, pad_token=None, eos_token="[SEP]")
    bare.save_pretrained(folders["gpt2"])
    return folders


@pytest.mark.parametrize("family", ["bert", "gpt2", "t5", "clip"])
@pytest.mark.parametrize("training", ["frozen", "trained", "scratch"])
def test_every_family_gives_features_that_ignore_padding(
    families: dict[str, Path], family: str, training: Start
) -> None:
    tower = TextTower.load(str(families[family]), training=training).eval()
    together = tower(tower.tokenize(TEXTS))
    alone = torch.cat([tower(tower.tokenize([text])) for text in TEXTS])
    assert together.shape == (3, 32)
    assert torch.allclose(together, alone, atol=1e-5)
    assert torch.allclose(pooled_texts(tower, TEXTS, batch_size=2), alone, atol=1e-5)


def test_frozen_towers_do_not_move(families: dict[str, Path]) -> None:
    tower = TextTower.load(str(families["bert"]), training="frozen")
    assert not any(p.requires_grad for p in tower.parameters())
    assert not tower.train().model.training
    assert not tower(tower.tokenize(TEXTS)).requires_grad


@pytest.mark.parametrize("pooling", ["mean", "pooler"])
def test_trained_towers_have_a_gradient_for_every_trained_weight(
    families: dict[str, Path], pooling: str
) -> None:
    """DDP waits for ever for a weight that gets none."""
    tower = TextTower.load(str(families["bert"]), training="trained", pooling=pooling)
    assert tower.model.training
    tower(tower.tokenize(TEXTS)).square().sum().backward()
    trained = {name for name, p in tower.named_parameters() if p.requires_grad}
    assert {name for name, p in tower.named_parameters() if p.grad is not None} == trained
    assert any("pooler" in name for name in trained) == (pooling == "pooler")


def test_only_the_pooler_is_left_out_of_training(families: dict[str, Path]) -> None:
    for family in ("gpt2", "t5", "clip"):
        tower = TextTower.load(str(families[family]), training="trained")
        assert all(p.requires_grad for p in tower.parameters())


def test_scratch_has_other_weights_and_trained_has_the_saved_ones(families: dict[str, Path]) -> None:
    saved = AutoModel.from_pretrained(families["bert"]).state_dict()
    name = "encoder.layer.0.attention.self.query.weight"

    def loaded(training: Start, seed: int) -> torch.Tensor:
        return TextTower.load(str(families["bert"]), training=training, seed=seed).model.state_dict()[name]

    trained, scratch, again, other = (
        loaded("trained", 0),
        loaded("scratch", 0),
        loaded("scratch", 0),
        loaded("scratch", 1),
    )
    assert torch.equal(trained, saved[name])
    assert not torch.equal(scratch, saved[name])
    assert torch.equal(scratch, again)
    assert not torch.equal(scratch, other)


def test_the_first_layers_keep_their_weights(families: dict[str, Path]) -> None:
    saved = AutoModel.from_pretrained(families["bert"]).state_dict()
    cut = TextTower.load(str(families["bert"]), training="trained", layers=2).model
    assert len(cut.encoder.layer) == 2
    name = "encoder.layer.1.output.dense.weight"
    assert torch.equal(cut.state_dict()[name], saved[name])


@pytest.mark.parametrize("training", ["frozen", "trained"])
@pytest.mark.parametrize(
    ("family", "pooling"),
    [("bert", "mean"), ("bert", "pooler"), ("gpt2", "mean"), ("t5", "mean"), ("clip", "pooler")],
)
def test_saved_models_restore_their_text_tower(
    families: dict[str, Path], family: str, pooling: str, training: Start, tmp_path: Path
) -> None:
    tower = TextTower.load(str(families[family]), training=training, pooling=pooling, layers=1)
    model = DualEncoder(
        tower, image_tower="timm/test_resnet", small_images=False, embedding_dim=8, image_size=32
    ).train()
    assert tower.model.training == (training == "trained")
    model.eval().save_pretrained(tmp_path / "model")
    loaded = DualEncoder.from_pretrained(tmp_path / "model")
    assert torch.allclose(loaded.encode_text(TEXTS), model.encode_text(TEXTS), atol=1e-6)
    again = loaded.train().text_tower
    assert again.model.training == (training == "trained")
    assert {n for n, p in again.named_parameters() if p.requires_grad} == {
        n for n, p in tower.named_parameters() if p.requires_grad
    }


@pytest.mark.parametrize("training", ["frozen", "scratch"])
def test_weights_stored_in_half_precision_become_float32(
    families: dict[str, Path], training: Start, tmp_path: Path
) -> None:
    BertModel.from_pretrained(families["bert"]).bfloat16().save_pretrained(tmp_path / "half")
    PreTrainedTokenizerFast.from_pretrained(families["bert"]).save_pretrained(tmp_path / "half")
    tower = TextTower.load(str(tmp_path / "half"), training=training)
    assert {p.dtype for p in tower.parameters()} == {torch.float32}
    tower.save_architecture(tmp_path)
    assert {p.dtype for p in TextTower.from_folder(tmp_path).parameters()} == {torch.float32}


def test_the_text_half_of_a_whole_clip(families: dict[str, Path], tmp_path: Path) -> None:
    text = CLIPTextConfig.from_pretrained(families["clip"]).to_dict()
    vision = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    whole = CLIPModel(CLIPConfig(text_config=text, vision_config={**vision, "image_size": 32}))
    whole.save_pretrained(tmp_path)
    PreTrainedTokenizerFast.from_pretrained(families["clip"]).save_pretrained(tmp_path)
    tower = TextTower.load(str(tmp_path), training="frozen", pooling="pooler")
    tokens = tower.tokenize(TEXTS)
    with torch.inference_mode():
        expected = whole.eval().text_model(**tokens).pooler_output
        assert torch.allclose(tower(tokens), expected, atol=1e-6)


def test_a_caption_without_a_word_has_finite_features(families: dict[str, Path], tmp_path: Path) -> None:
    """GPT-2 puts no token of its own around a text."""
    GPT2Model.from_pretrained(families["gpt2"]).save_pretrained(tmp_path)
    bare = PreTrainedTokenizerFast.from_pretrained(families["gpt2"])
    bare.backend_tokenizer.post_processor = processors.Sequence([])
    bare.save_pretrained(tmp_path)
    tower = TextTower.load(str(tmp_path), training="frozen")
    features = tower(tower.tokenize(["", "man"]))
    assert not tower.tokenize(["", "man"])["attention_mask"][0].any()
    assert torch.equal(features[0], torch.zeros(32))
    assert features[1].isfinite().all()


@pytest.mark.parametrize("pooling", ["mean", "pooler"])
def test_architecture_round_trip(families: dict[str, Path], pooling: str, tmp_path: Path) -> None:
    tower = TextTower.load(str(families["bert"]), training="trained", pooling=pooling, layers=1).eval()
    tower.save_architecture(tmp_path)
    again = TextTower.from_folder(tmp_path).eval()
    again.load_state_dict(tower.state_dict())
    assert again.source == tower.source
    assert torch.equal(tower(tower.tokenize(TEXTS)), again(again.tokenize(TEXTS)))


def test_long_texts_are_cut_at_thirty_tokens(families: dict[str, Path]) -> None:
    tower = TextTower.load(str(families["bert"]), training="frozen")
    assert tower.tokenize(["role " * 500])["input_ids"].shape == (1, 30)


@pytest.mark.parametrize(
    ("family", "options", "said"),
    [
        ("bert", {"layers": 9}, "model.text_layers is 9, but .* has 3"),
        ("gpt2", {"pooling": "pooler"}, "has no pooler, take mean"),
        ("nowhere", {}, "model.text_tower 'nowhere' is neither"),
    ],
)
def test_what_cannot_be_loaded_is_refused_in_one_line(
    families: dict[str, Path], family: str, options: dict[str, Any], said: str
) -> None:
    name = str(families.get(family, family))
    with pytest.raises(UsageError, match=said) as caught:
        TextTower.load(name, training="trained", **options)
    assert "\n" not in str(caught.value)


def test_a_frozen_tower_needs_a_pooler_that_was_trained(families: dict[str, Path], tmp_path: Path) -> None:
    BertModel.from_pretrained(families["bert"], add_pooling_layer=False).save_pretrained(tmp_path)
    PreTrainedTokenizerFast.from_pretrained(families["bert"]).save_pretrained(tmp_path)
    with pytest.raises(UsageError, match="come without one, take mean"):
        TextTower.load(str(tmp_path), training="frozen", pooling="pooler")
    TextTower.load(str(tmp_path), training="trained", pooling="pooler")


def test_incomplete_weights_are_refused(families: dict[str, Path], tmp_path: Path) -> None:
    model = BertModel.from_pretrained(families["bert"])
    state = {name: w for name, w in model.state_dict().items() if "layer.1.output" not in name}
    model.save_pretrained(tmp_path, state_dict=state)
    PreTrainedTokenizerFast.from_pretrained(families["bert"]).save_pretrained(tmp_path)
    with pytest.raises(UsageError, match=r"comes without 4 of its weights, such as encoder.layer.1.output"):
        TextTower.load(str(tmp_path), training="trained")


def test_a_picture_model_is_no_text_tower(tmp_path: Path) -> None:
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    ViTModel(ViTConfig(**sizes)).save_pretrained(tmp_path)
    with pytest.raises(UsageError, match="is a vit model, expected a text model"):
        TextTower.load(str(tmp_path), training="frozen")

"""``python -m debias.fit`` from files of vectors and from a saved model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from clip_lite.cli import guarded
from clip_lite.model import DualEncoder
from debias import fit
from debias.eraser import Eraser
from debias.vector_files import read_vectors

Files = Callable[..., list[str]]
Probe = Callable[..., float]
WORDS = {0: "man", 1: "woman", -1: "person"}


def planted(n: int = 1200, *, shift: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    z = rng.integers(-1, 2, size=n // 2).repeat(2)
    x = 1 + rng.standard_normal((n, 6))
    x[:, 0] += shift * z
    return x.astype(np.float32), z


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Files:
    """``files(shift=…)``: flags of the command for vectors and captions in a folder of their own."""
    monkeypatch.chdir(tmp_path)

    def write(**kwargs: Any) -> list[str]:
        x, z = planted(**kwargs)
        np.save(tmp_path / "x.npy", x)
        lines = [
            {
                "captions": [f"a {WORDS[int(group)]}", "outside"],
                "cluster": str(row // 2),
                "task": "ab"[row % 2],
            }
            for row, group in enumerate(z)
        ]
        (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, lines)))
        return ["--vectors=x.npy", "--captions=x.jsonl", "--attribute=gender", "--output=out"]

    return write


def run(*argv: str) -> int:
    return guarded(lambda: fit.main(argv))


def test_vectors_and_captions_give_an_eraser_that_acts(
    files: Files, logistic: Probe, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*files()) == 0
    said = capsys.readouterr().out
    eraser = Eraser.load("out")
    assert (eraser.method, eraser.rank) == ("caption_leace", 1)
    details = eraser.details
    assert details["gate"]["decision"] == "act"
    assert details["gate"]["effective_n"] <= sum(details["labelled"].values())
    assert details["attribute"]["name"] == "gender"
    for part in (
        f"man: {details['labelled']['man']}",
        "gate: act",
        "residual: ",
        'Eraser.load("out")(vectors)',
    ):
        assert part in said

    x, z = (torch.from_numpy(part) for part in planted())
    people = z >= 0
    assert logistic(x[people], z[people]) > 0.8
    assert logistic(eraser(x)[people], z[people]) < 0.57
    assert run(*files()[:-1], "--output=control", "--method=random_direction", "--force=true") == 0
    assert logistic(Eraser.load("control")(x)[people], z[people]) > 0.8


def test_the_gate_abstains_and_force_writes(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    argv = [*files(), "--method=random_direction"]
    assert run(*argv) == 1
    error = capsys.readouterr().err
    assert "the gate abstains" in error
    assert "removes hardly anything" in error
    assert error.count("\n") == 1
    assert not Path("out").exists()
    assert run(*argv, "--force", "true") == 0
    assert Eraser.load("out").details["gate"]["decision"] == "abstain"


def test_an_existing_eraser_is_kept(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*files()) == 0
    before = Path("out/eraser.safetensors").read_bytes()
    capsys.readouterr()
    assert run(*files(shift=1.0)) == 2
    assert "--output out is not empty: choose a new folder" in capsys.readouterr().err
    assert Path("out/eraser.safetensors").read_bytes() == before


def test_a_method_with_task_labels_and_options(files: Files) -> None:
    assert run(*files(), "--method=splince", "--options.strength=0.5") == 0
    details = Eraser.load("out").details
    assert details["options"] == {"strength": 0.5}
    assert details["gate"]["decision"] == "warn"


def test_labels_of_the_rows_go_before_their_captions_but_for_the_caption_method(files: Files) -> None:
    argv = files()
    rows = [json.loads(line) for line in Path("x.jsonl").read_text().splitlines()]
    for row in rows[:600]:
        row["group"] = "none"
    Path("x.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert run(*argv, "--method=leace") == 0
    assert run(*argv[:-1], "--output=captions") == 0
    labelled, read = (sum(Eraser.load(name).details["labelled"].values()) for name in ("out", "captions"))
    assert labelled < 0.6 * read


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (["--attribute=hair"], 2, "no attribute 'hair'"),
        (["--method=magic"], 2, "no method 'magic', expected one of"),
        (["--method=text_pca"], 2, "reads word pairs and needs --model DIR"),
        (["--method=leace", "--options.power=2"], 2, "leace has no option 'power'"),
        (["--captions=none.jsonl"], 2, "none.jsonl cannot be read: No such file"),
        (["--vectors=none.npy"], 2, "none.npy cannot be read: No such file"),
        (["--output=x.npy/out"], 2, "x.npy is a file, choose a new folder"),
        (["--output="], 2, "is not empty: choose a new folder"),
        (["--options.strength=abc"], 2, "option strength of caption_leace is 'abc', expected a number"),
        (["--attribute=gender*"], 2, "joins attributes by *, one of which has no name"),
        (["--vectors=x.jsonl"], 2, "x.jsonl is not a .npy file"),
        (["--model=nowhere"], 2, "there is no model 'nowhere'"),
        (["--on=pixels"], 2, "on"),
        (["--attribute=age"], 1, "attribute age: two groups are needed, labelled rows are"),
        (["--data.val_fraction=2"], 2, "data.val_fraction is 2.0"),
    ],
)
def test_bad_input_is_one_line_with_its_exit_code(
    argv: list[str], code: int, said: str, files: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*files(), *argv) == code
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not Path("out").exists()


def test_vectors_without_captions_and_nothing_to_read(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--attribute=gender", "--output=out") == 2
    assert "without --vectors it needs --model DIR" in capsys.readouterr().err
    assert run("--attribute=gender", "--output=out", "--vectors=x.npy") == 2
    assert "--vectors and --captions go together" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("[1]", r"line 2: expected \["),
        ('{"captions": "a man"}', r"line 2: expected \["),
        ("not json", "line 2 is not JSON"),
        ('{"captions": [], "cluster": [7]}', r"line 2: cluster is \[7\], expected a string"),
        ('{"caption": ["a man"]}', "line 2: 'caption' is not a known key, expected captions, cluster, group"),
        ("[]\n[]", "has 3 lines for 2 rows"),
    ],
)
def test_lines_that_are_not_captions_are_named(line: str, said: str, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((2, 3)))
    (tmp_path / "x.jsonl").write_text(f'["a man"]\n{line}')
    with pytest.raises(ValueError, match=said):
        read_vectors(tmp_path / "x.npy", tmp_path / "x.jsonl")


def test_labels_may_be_null_or_numbers_after_a_byte_order_mark(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((2, 3)))
    lines = '{"captions": [], "cluster": 7, "group": null}\n{"captions": ["a man"], "group": "Male"}'
    (tmp_path / "x.jsonl").write_text(lines, encoding="utf-8-sig")
    rows = read_vectors(tmp_path / "x.npy", tmp_path / "x.jsonl")
    assert rows.clusters.tolist() == ["7", "row 1"]
    assert rows.groups == [None, "Male"]


def test_files_that_are_neither_vectors_nor_text_are_named(tmp_path: Path) -> None:
    (tmp_path / "x.npy").write_bytes(b"")
    with pytest.raises(ValueError, match=r"x\.npy is not a \.npy file of numbers$"):
        read_vectors(tmp_path / "x.npy", tmp_path / "x.jsonl")
    np.save(tmp_path / "x.npy", np.zeros((1, 3)))
    (tmp_path / "x.jsonl").write_bytes('["caf\xe9"]'.encode("latin-1"))
    with pytest.raises(ValueError, match=r"x\.jsonl is not UTF-8 text"):
        read_vectors(tmp_path / "x.npy", tmp_path / "x.jsonl")


def test_a_label_that_is_no_group_is_named(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    argv = files()
    rows = [json.loads(line) for line in Path("x.jsonl").read_text().splitlines()]
    rows[6]["group"] = "Frau"
    Path("x.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert run(*argv, "--method=leace") == 2
    assert "x.jsonl, line 7: group is 'Frau', expected man, woman, mixed or none" in capsys.readouterr().err


def test_a_method_that_keeps_a_task_needs_one(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    argv = files()
    rows = [json.loads(line) for line in Path("x.jsonl").read_text().splitlines()]
    for row in rows:
        del row["task"]
    Path("x.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert run(*argv, "--method=splince") == 2
    assert "splince needs rows of at least two tasks" in capsys.readouterr().err


@pytest.mark.parametrize("x", [np.zeros(3), np.zeros((2, 2), dtype=int), np.full((2, 2), np.inf)])
def test_vectors_that_are_none_are_refused(x: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", x)
    with pytest.raises(ValueError, match=r"x\.npy holds"):
        read_vectors(tmp_path / "x.npy", tmp_path / "x.jsonl")


def test_a_saved_model_takes_its_eraser(saved_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["--model=model", "--attribute=gender", "--device=cpu", "--data.test_fraction=0.3"]
    assert run(*argv, "--output=out", "--force=true") == 0
    assert 'model.attach({**model.attached, "embedding": Eraser.load("out")})' in capsys.readouterr().out
    eraser = Eraser.load("out")
    assert eraser.details["clusters"]["man"] < eraser.details["labelled"]["man"]

    model = DualEncoder.from_pretrained(saved_model)
    pixels = model.image_transform(torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8))
    with torch.inference_mode():
        plain = model.encode_image(pixels).embedding
        model.attach({"embedding": eraser})
        assert torch.allclose(model.encode_image(pixels).embedding, eraser(plain))

    assert run(*argv, "--output=text", "--method=text_pca", "--options.k=2", "--force=true") == 0
    assert Eraser.load("text").rank == 2
    assert run(*argv, "--output=tower", "--on=features", "--force=true") == 0
    assert Eraser.load("tower").dim == model.feature_dim


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        run("--help")
    assert done.value.code == 0
    said = capsys.readouterr().out
    for part in (
        "--vectors clip.npy",
        "caption_leace: ",
        "text_pca: ",
        "--data.source",
        "--force",
        "Exit codes",
    ):
        assert part in said

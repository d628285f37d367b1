"""Sources by name: each is documented, loads, and is refused in one line where it cannot be had."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from clip_lite.cli import guarded
from clip_lite.config import DataConfig, SourceName
from clip_lite.data import prepare
from clip_lite.data.corpora import FOLDERS, describe_sources, load_corpus
from clip_lite.errors import UsageError
from clip_lite.train import main as train
from tests.clip_lite.data.conftest import jpeg

README = Path(__file__).parents[3] / "README.md"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten labelled pictures without captions in each split."""
    root = tmp_path / "pictures"
    root.mkdir()
    lines = ["file_name,split,tone"]
    for number in range(30):
        (root / f"{number:03d}.jpg").write_bytes(jpeg(number))
        lines.append(
            f"{number:03d}.jpg,{('train', 'val', 'test')[number % 3]},{'dark' if number % 2 else 'light'}"
        )
    (root / "metadata.csv").write_text("\n".join(lines))
    return root


def test_every_source_says_what_it_is_to_the_person_and_in_the_readme(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert set(describe_sources()) == set(get_args(SourceName)) == {"emoji", "webdataset", *FOLDERS}
    assert guarded(lambda: prepare.main(["sources"])) == 0
    said, readme = capsys.readouterr().out, README.read_text()
    for name, about in describe_sources().items():
        for text in (name, about.title, about.layout, about.url, about.licence):
            assert text in said
            assert text in readme


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_that_holds_nothing_of_the_source_is_one_line(name: SourceName, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"empty.*(expected|unpack)") as refused:
        load_corpus(DataConfig(source=name, root=tmp_path / "empty"))
    assert "\n" not in str(refused.value)
    with pytest.raises(UsageError, match=r"nowhere is no folder"):
        load_corpus(DataConfig(source=name, root=tmp_path / "nowhere"))
    with pytest.raises(UsageError, match=r"--data\.root"):
        load_corpus(DataConfig(source=name))


def test_a_file_that_would_not_be_read_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"data\.annotations .*none\.csv is no file"):
        load_corpus(DataConfig(source="folder", root=folder, annotations=tmp_path / "none.csv"))
    with pytest.raises(UsageError, match=r"data\.annotations: fairface reads the files of its folder alone"):
        load_corpus(DataConfig(source="fairface", root=folder, annotations=folder / "metadata.csv"))


def test_labels_of_ones_own_are_joined_onto_any_source(folder: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text("number,hat\n" + "\n".join(f"{n},{'yes' if n < 15 else 'no'}" for n in range(30)))
    corpus = load_corpus(DataConfig(source="folder", root=folder, image_size=32, labels=labels))
    for table in corpus.splits.values():
        for record in table.records:
            assert record.attributes["hat"] == ("yes" if int(record.id[:3]) < 15 else "no")
            assert record.attributes["tone"] in ("dark", "light")


def test_pictures_without_captions_can_be_audited_but_neither_trained_on_nor_put_in_shards(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    argv = ["--data.source=folder", f"--data.root={folder}", "--audit.attribute=null"]
    assert guarded(lambda: train(argv)) == 2
    assert "data.source folder has no captions to train on" in capsys.readouterr().err
    shards = ["shards", "--source", "folder", "--root", str(folder), "--out", str(tmp_path / "shards")]
    assert guarded(lambda: prepare.main(shards)) == 2
    assert "has no captions" in capsys.readouterr().err


def test_a_table_of_labels_that_is_not_there_is_noticed_before_any_picture_is_read(
    folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"data\.labels .*none\.csv is no file"):
        load_corpus(DataConfig(source="folder", root=tmp_path / "nowhere", labels=tmp_path / "none.csv"))

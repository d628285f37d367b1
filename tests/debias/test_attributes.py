from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest

from debias import AttributeFileError, ProtectedAttribute, UnknownAttribute, available_attributes
from debias import attributes as module


@pytest.mark.parametrize(
    ("captions", "label"),
    [
        (["a MAN with a hat", "somebody outside"], "man"),
        (["a person", "her dog"], "woman"),
        (["a man", "a woman"], "mixed"),
        (["a boy and his mother"], "mixed"),
        (["a dog", "a tree"], "none"),
        ([], "none"),
    ],
)
def test_label_reads_all_captions_of_an_image(
    gender: ProtectedAttribute, captions: list[str], label: str
) -> None:
    assert gender.label(captions) == label


@pytest.mark.parametrize(
    ("caption", "label"),
    [
        ("a human in Mandarin class", "none"),
        ("snowman, menu, heron, sheriff, thistle", "none"),
        ("a woman", "woman"),
        ("females", "woman"),
        ("man_dancing", "man"),
        ("old_woman", "woman"),
        ("the man's coat", "man"),
        ("(he)", "man"),
        ("king", "man"),
        ("queens", "woman"),
        ("mrs claus", "woman"),
    ],
)
def test_words_count_whole_only(gender: ProtectedAttribute, caption: str, label: str) -> None:
    assert gender.label([caption]) == label


def test_a_bare_string_is_refused_rather_than_read_letter_by_letter(gender: ProtectedAttribute) -> None:
    with pytest.raises(TypeError, match="sequence of strings"):
        gender.label("a man")


def test_shipped_gender_is_complete(gender: ProtectedAttribute) -> None:
    coco = {
        "man": "man men male father gentleman gentlemen boy boys uncle husband actor prince waiter son he "
        "his him himself brother brothers guy guys dude dudes cowboy",
        "woman": "woman women female lady ladies mother girl girls aunt wife actress princess waitress "
        "daughter she her hers herself sister sisters queen queens",
    }
    assert available_attributes() == ["gender"]
    assert gender.groups == ("man", "woman")
    for group, words in coco.items():
        assert set(words.split()) <= set(gender.lexicon[group])
    assert len(gender.word_pairs) == 10
    for man, woman in gender.word_pairs[:-1]:
        assert (gender.label([man]), gender.label([woman])) == ("man", "woman")
    assert gender.word_pairs[-1] == ("John", "Mary")
    assert all(template.count("{}") == 1 for template in gender.templates)


def test_the_installed_copy_goes_before_the_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "debias" / "configs" / "attributes"
    folder.mkdir(parents=True)
    (folder / "age.yaml").touch()
    monkeypatch.setattr(module, "__file__", str(tmp_path / "debias" / "attributes.py"))
    assert available_attributes() == ["age"]


def test_own_file_with_phrases_and_three_groups(hair: Path) -> None:
    attribute = ProtectedAttribute.load(hair)
    assert attribute == ProtectedAttribute.load(str(hair))
    assert attribute.groups == ("blond", "dark", "red")
    assert attribute.label(["A Dark Haired child"]) == "dark"
    assert attribute.label(["a dark street"]) == "none"
    with pytest.raises(FrozenInstanceError):
        attribute.version = "3"  # type: ignore[misc]


def test_digest_follows_the_words(gender: ProtectedAttribute) -> None:
    shorter = replace(gender, lexicon={**gender.lexicon, "man": gender.lexicon["man"][1:]})
    assert gender.digest == ProtectedAttribute.load("gender").digest
    assert gender.digest != shorter.digest
    assert gender.describe() == {
        "name": "gender",
        "version": "1",
        "groups": ["man", "woman"],
        "digest": gender.digest,
    }


def test_unknown_name_is_one_line_with_the_shipped_ones() -> None:
    with pytest.raises(UnknownAttribute) as caught:
        ProtectedAttribute.load("hair")
    assert str(caught.value) == (
        "no attribute 'hair': shipped ones are gender; or give the path of a YAML file"
    )


def test_every_problem_of_a_file_is_listed_at_once(tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(
        "version: 1\n"
        "colour: red\n"
        "groups: {man: [man, 7], woman: [Man, ' '], none: []}\n"
        "word_pairs: [[man, woman], boy]\n"
        "templates: ['a picture', 'a {}', 3]\n"
    )
    with pytest.raises(AttributeFileError) as caught:
        ProtectedAttribute.load(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.removeprefix(f"{path}: ").split("; ") == [
        "name is missing",
        "colour is not a known key, expected one of name, version, groups, word_pairs, templates, notes",
        "version is 1, expected a string in quotes",
        "groups.man[1] is 7, expected a string in quotes",
        "groups.woman[1] is ' ', expected a string in quotes",
        "groups.woman[0] is 'Man', which groups.man has too",
        "groups.none is no name for a group, expected a string other than mixed and none",
        "groups.none is [], expected a list of strings",
        "word_pairs[0] has 2 words, expected 3, one per group",
        "word_pairs[1] is 'boy', expected a list of strings",
        "templates[2] is 3, expected a string in quotes",
        "templates[0] is 'a picture', expected exactly one {}",
    ]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "is None, expected a mapping"),
        (b"groups: [", "cannot be read as YAML"),
        (b"\xff\xfe\x00", "cannot be read as YAML"),
        (b"groups: {man: [man]}", "at least two groups"),
        (b"word_pairs: []", "one word per group"),
        (b"templates: a", "templates is 'a', expected a list of strings"),
    ],
)
def test_other_broken_files_are_one_line(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "broken.yaml"
    path.write_bytes(content)
    with pytest.raises(AttributeFileError, match=expected) as caught:
        ProtectedAttribute.load(path)
    assert "\n" not in str(caught.value)

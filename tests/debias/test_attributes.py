from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest

from debias import (
    AttributeFileError,
    Intersection,
    ProtectedAttribute,
    UnknownAttribute,
    available_attributes,
)
from debias import attribute_file as module
from debias.lexicon import forms_of


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
    assert available_attributes() == ["age", "background", "gender", "race", "skin_tone"]
    assert gender.groups == ("man", "woman")
    for group, words in coco.items():
        for word in words.split():
            assert gender.label([word]) == group
    assert len(gender.word_pairs) == 10
    for man, woman in gender.word_pairs[:-1]:
        assert (gender.label([man]), gender.label([woman])) == ("man", "woman")
    assert gender.word_pairs[-1] == ("John", "Mary")
    assert all(template.count("{}") == 1 for template in gender.templates)


def test_the_installed_copy_goes_before_the_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "debias" / "configs" / "attributes"
    folder.mkdir(parents=True)
    (folder / "age.yaml").touch()
    monkeypatch.setattr(module, "__file__", str(tmp_path / "debias" / "attribute_file.py"))
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
        "version": "2",
        "groups": ["man", "woman"],
        "digest": gender.digest,
    }


def test_unknown_name_is_one_line_with_the_shipped_ones() -> None:
    with pytest.raises(UnknownAttribute) as caught:
        ProtectedAttribute.load("hair")
    assert str(caught.value) == (
        "no attribute 'hair': shipped ones are age, background, gender, race, skin_tone; or give the path of "
        "a YAML file, or several joined by * for their intersection"
    )


def test_every_problem_of_a_file_is_listed_at_once(tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(
        "version: 1\n"
        "colour: red\n"
        "groups: {man: [man, 7], woman: [Man, ' '], none: []}\n"
        "word_pairs: [[man, woman], boy]\n"
        "templates: ['a picture', 'a {}', 3]\n"
        "neutral: {person: [man, chair], Man: [man], 7: [], '': [man]}\n"
        "labels: {men: [M], woman: F}\n"
    )
    with pytest.raises(AttributeFileError) as caught:
        ProtectedAttribute.load(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.removeprefix(f"{path}: ").split("; ") == [
        "name is missing",
        "colour is not a known key, expected one of name, version, groups, word_pairs, templates, neutral, "
        "labels, notes",
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
        "neutral.person[1] is 'chair', which no group has",
        "neutral.Man names a group itself, it is groups.woman[0]",
        "neutral.7 is 7, expected a string in quotes, which may be empty",
        "neutral.7 is [], expected a list of strings",
        "labels.men is not one of the groups man, woman, none",
        "labels.woman is 'F', expected a list of strings",
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


def test_a_word_of_a_group_without_neutral_word_is_a_problem(tmp_path: Path) -> None:
    path = tmp_path / "hair.yaml"
    path.write_text(
        'name: a*b\nversion: "1"\ngroups: {blond: [blond, blonde], dark: [dark haired]}\n'
        'word_pairs: [[blond, dark]]\ntemplates: ["a {} wig"]\nneutral: {haired: [blond]}\n'
    )
    with pytest.raises(AttributeFileError) as caught:
        ProtectedAttribute.load(path)
    assert str(caught.value).removeprefix(f"{path}: ").split("; ") == [
        "name is 'a*b', expected one without *, which joins attributes",
        "groups.blond[1] is 'blonde', which neutral replaces by nothing: list it there",
        "groups.dark[0] is 'dark haired', which neutral replaces by nothing: list it there",
    ]


@pytest.mark.parametrize("name", ["age", "background", "gender", "race", "skin_tone"])
def test_shipped_attributes_label_their_word_pairs_and_reword_all_they_label(name: str) -> None:
    """Each word pair names its groups, and no neutral caption names any."""
    attribute = ProtectedAttribute.load(name)
    template = "a photo of a {}" if name not in ("race", "skin_tone") else "a photo of a {} person"
    for words in attribute.word_pairs[:3]:
        texts = [template.format(word) for word in words]
        assert tuple(attribute.label([text]) for text in texts) == attribute.groups
        assert {attribute.label([attribute.neutral_words(text)]) for text in texts} == {"none"}
    for group, words in attribute.lexicon.items():
        for form in (form for word in words for form in forms_of(word)[:2]):
            assert attribute.label([f"one {form} more"]) == group
            assert attribute.label([attribute.neutral_words(f"one {form} more")]) == "none"


def test_labels_of_sources_are_translated() -> None:
    tone = ProtectedAttribute.load("skin_tone")
    assert tone.group_in({"skin_tone": "medium-light"}) == "light"
    assert tone.group_in({"skin_tone": "dark"}) == "dark"
    assert tone.group_in({"skin_tone": "none"}) == "none"
    assert tone.group_in({"gender": "man"}) is None


def test_indices_are_places_among_the_groups(gender: ProtectedAttribute) -> None:
    said = [["a woman"], ["a man"], ["a dog"], ["a man", "a woman"]]
    assert gender.indices(said).tolist() == [1, 0, -1, -1]


def test_intersection_crosses_groups_labels_and_words() -> None:
    both = ProtectedAttribute.load("gender*skin_tone")
    assert isinstance(both, Intersection)
    assert (both.name, both.version) == ("gender_x_skin_tone", "2_x_2")
    assert both.groups == ("man & light", "man & dark", "woman & light", "woman & dark")
    assert both.label(["a dark-skinned woman"]) == "woman & dark"
    assert both.label(["her hat", "somebody with dark skin"]) == "woman & dark"
    assert both.label(["a woman"]) == "none"
    assert both.label(["a dark-skinned woman", "a man"]) == "mixed"
    assert both.group_in({"gender": "man", "skin_tone": "medium"}) == "man & dark"
    assert both.group_in({"gender": "man", "skin_tone": "none"}) == "none"
    assert both.group_in({"gender": "man"}) is None
    assert both.word_pairs[0] == (
        "light-skinned man",
        "dark-skinned man",
        "light-skinned woman",
        "dark-skinned woman",
    )
    assert both.digest != ProtectedAttribute.load("skin_tone*gender").digest


def test_intersection_rewords_what_either_names() -> None:
    both = ProtectedAttribute.load("gender*skin_tone")
    assert both.neutral_words("an African-American boy by a white man") == "a child by a person"
    assert both.label([both.neutral_words("a dark-skinned woman")]) == "none"


def test_intersections_that_make_no_sense_are_refused(hair: Path) -> None:
    with pytest.raises(UnknownAttribute, match=r"^gender\*gender crosses an attribute with itself"):
        ProtectedAttribute.load("gender*gender")
    with pytest.raises(UnknownAttribute, match="no attribute 'hair'"):
        ProtectedAttribute.load("gender * hair")
    assert len(ProtectedAttribute.load(f"gender*{hair}").groups) == 6
    with pytest.raises(ValueError, match="'gender_x_hair' gives no neutral words: add the key neutral"):
        _ = ProtectedAttribute.load(f"gender*{hair}").neutral_words

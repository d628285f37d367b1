from __future__ import annotations

import pytest

from clip_lite.data.captions import caption_key, clean, swap_left_right


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("Woman Teacher: medium-light skin tone", "woman teacher medium light skin tone"),
        ("piñata, café!", "pinata cafe"),
        ("man_in/tuxedo", "man in tuxedo"),
        ("  two   spaces ", "two spaces"),
        ("…", ""),
    ],
)
def test_clean(raw: str, expected: str) -> None:
    assert clean(raw) == expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("a bright light to the left", "a bright light to the right"),
        ("RIGHT arrow, Left hand", "LEFT arrow, Right hand"),
        ("copyright", "copyright"),
        ("left right", "right left"),
    ],
)
def test_swap_whole_words_and_keep_case(raw: str, expected: str) -> None:
    assert swap_left_right(raw) == expected
    assert swap_left_right(expected) == raw


@pytest.mark.parametrize(
    "same",
    [
        "The light, to the LEFT of a bright man!",
        "bright man light to of",
        "a man to the right of bright-light",
        "light to of bright mán man",
    ],
)
def test_a_key_is_of_the_set_of_content_words(same: str) -> None:
    assert caption_key(same) == caption_key("a bright light to the left of a man")
    assert caption_key(swap_left_right(same)) == caption_key(same)


def test_other_content_has_another_key() -> None:
    captions = [
        "man",
        "woman",
        "man woman",
        "a",
        "the",
        "left",
        "right",
        "",
        "manwoman",
        "bright",
        "leftover",
    ]
    assert len({caption_key(caption) for caption in captions}) == len(captions)


def test_a_key_is_the_same_everywhere_and_fits_63_bits() -> None:
    assert caption_key("woman teacher") == 86328157972877117
    assert all(0 <= caption_key(str(number)) < 2**63 for number in range(1000))
    assert max(caption_key(str(number)) for number in range(1000)) > 2**62

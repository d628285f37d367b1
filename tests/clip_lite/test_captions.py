from __future__ import annotations

import pytest

from clip_lite.data.captions import clean, swap_left_right


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

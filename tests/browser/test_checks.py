"""Each check finds what it is for, on a page that has it, and nothing on one that does not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.browser.checks import barriers, broken_images, complaints, sticking_out

Opened = Callable[..., Page]
SOUND = """<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>Sound</title>
<meta name="viewport" content="width=device-width, initial-scale=1"></head>
<body><main><h1>Sound</h1><p>Text.</p>BODY</main></body></html>"""
WIDE = '<div style="width: 3000px">wide</div>'
UNREACHABLE = f'<div style="overflow: hidden">{WIDE}</div>'
REACHABLE = f'<div style="overflow-x: auto" tabindex="0">{WIDE}</div>'


def _page(opened: Opened, folder: Path, body: str) -> tuple[Page, list[str]]:
    path = folder / "page.html"
    path.write_text(SOUND.replace("BODY", body))
    page = opened(390)
    heard = complaints(page)
    page.goto(path.as_uri())
    return page, heard


def test_a_sound_page_passes_every_check(opened: Opened, tmp_path: Path) -> None:
    page, heard = _page(opened, tmp_path, REACHABLE)
    assert [*broken_images(page), *sticking_out(page), *barriers(page), *heard] == []


@pytest.mark.parametrize("body", [WIDE, UNREACHABLE])
def test_what_sticks_out_is_found(opened: Opened, tmp_path: Path, body: str) -> None:
    page, _ = _page(opened, tmp_path, body)
    assert sticking_out(page)


def test_a_broken_picture_is_found(opened: Opened, tmp_path: Path) -> None:
    page, _ = _page(opened, tmp_path, '<img alt="none" src="data:image/png;base64,AAAA">')
    assert broken_images(page)


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        ('<img src="data:image/gif;base64,R0lGODlhAQABAAAAACw=">', "image-alt"),
        ('<p style="color: #bbb; background: #fff">faint</p>', "color-contrast"),
        ('<p style="color: #333; background: url(data:,) #fff">unsure</p>', "color-contrast"),
        ("<h4>Too deep</h4>", "heading-order"),
    ],
)
def test_axe_finds_a_barrier(opened: Opened, tmp_path: Path, body: str, rule: str) -> None:
    page, _ = _page(opened, tmp_path, body)
    assert any(found.startswith(rule) for found in barriers(page))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("<script>alert(1)</script>", "dialog 1"),
        ("<script>nothing.there()</script>", "nothing is not defined"),
        ("<script>console.error('so')</script>", "so"),
        ('<img alt="" src="gone.png">', "gone.png"),
    ],
)
def test_an_error_is_heard(opened: Opened, tmp_path: Path, body: str, said: str) -> None:
    _, heard = _page(opened, tmp_path, body)
    assert any(said in line for line in heard)

"""Drawings of an Iconify style pack as square uint8 pictures on white."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import resvg_py
from PIL import Image


def svg_of(name: str, pack: Mapping[str, Any]) -> str:
    """SVG of one icon of ``icons.json``; the file's width and height are the defaults.

    Raises:
        KeyError: the pack draws no icon of that name.
    """
    icon = pack["icons"][name]
    left, top = icon.get("left", 0), icon.get("top", 0)
    width = icon.get("width", pack.get("width", 16))
    height = icon.get("height", pack.get("height", 16))
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{left} {top} {width} {height}">{icon["body"]}</svg>'
    )


def draw(svg: str, size: int) -> np.ndarray:
    """Rasterise to ``(3, size, size)`` uint8, centred on white, aspect ratio kept."""
    png = resvg_py.svg_to_bytes(
        svg_string=svg, width=size, height=size, background="white", skip_system_fonts=True
    )
    with Image.open(io.BytesIO(png)) as picture:
        rgb = picture.convert("RGB")
    if rgb.size != (size, size):
        rgb.thumbnail((size, size))
        square = Image.new("RGB", (size, size), "white")
        square.paste(rgb, ((size - rgb.width) // 2, (size - rgb.height) // 2))
        rgb = square
    return np.asarray(rgb).transpose(2, 0, 1)

"""Pictures of a report: numbered once, heat maps as see-through colour over them."""

from __future__ import annotations

import base64
import io
from dataclasses import replace

import numpy as np
from PIL import Image

from evaluation.pictures.heat import grey
from evaluation.report.gallery import HEAT, gallery, overlay
from evaluation.results import AuditResult


def decoded(uri: str) -> np.ndarray:
    with Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as image:
        return np.asarray(image)


def test_a_map_becomes_one_colour_of_the_maps_strength() -> None:
    heat = np.tile(np.linspace(0, 1, 32), (32, 1))
    drawn = decoded(overlay(grey(heat)))
    assert drawn.shape == (32, 32, 4)
    assert (drawn[..., :3] == HEAT).all()
    assert np.allclose(drawn[..., 3], 255 * 0.8 * heat, atol=1)


def test_a_map_of_zeros_and_what_is_no_picture_have_no_overlay() -> None:
    assert overlay(grey(np.zeros((8, 8)))) == ""
    assert overlay("") == overlay("no base64 <") == overlay(base64.b64encode(b"no png").decode()) == ""


def test_pictures_are_numbered_and_named_by_group_and_caption(audit: AuditResult) -> None:
    found = gallery(audit)
    assert len(found.pictures) == len(audit.examples.pictures)
    assert found.cards[1].thumb.number == 1
    assert found.cards[1].thumb.alt == "perceived man: man astronaut"
    assert [own.number for own in found.strips[0].on] == [3, 2, 1, 0]


def test_heat_maps_are_tables_by_group(audit: AuditResult) -> None:
    woman, man = gallery(audit).heat
    assert (woman.group, man.group) == ("woman", "man")
    assert woman.columns == (
        ("a picture of a woman", "eraser off"),
        ("a picture of a woman", "eraser on"),
    )
    assert [line.label for line in woman.lines] == ["perceived woman: woman teacher", "mean of 16 pictures"]
    assert woman.lines[1].cells[0] is not None
    assert woman.lines[1].cells[0].thumb is None
    assert all(cell and cell.overlay for line in woman.lines for cell in line.cells)


def test_without_an_edit_maps_have_one_column_a_prompt(audit: AuditResult) -> None:
    heat = tuple(replace(own, on="") for own in audit.examples.heat)
    tables = gallery(replace(audit, examples=replace(audit.examples, heat=heat))).heat
    assert [len(table.columns) for table in tables] == [1, 1]


def test_what_names_no_kept_picture_is_left_out(audit: AuditResult) -> None:
    found = gallery(replace(audit, examples=replace(audit.examples, pictures={})))
    assert found.pictures == found.cards == ()
    assert found.strips[0].off == ()
    assert found.heat[0].lines[0].label == "noto/0"

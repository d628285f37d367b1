"""One self-contained HTML file that tells an audit to someone who was not there."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from evaluation.report import facts, figures, layout, narrative, overview, wording
from evaluation.report.gallery import gallery
from evaluation.report.grids import Grid
from evaluation.results import AuditResult
from evaluation.writing import write_text

TEMPLATES = Path(__file__).parent / "templates"


def write_report(result: AuditResult, path: Path) -> None:
    """Write ``render_html(result)`` to ``path``; a reader never sees half a file.

    Raises:
        OSError: the folder does not exist or cannot be written.
    """
    write_text(path, render_html(result))


def render_html(result: AuditResult) -> str:
    """The report as one HTML document; no script but its own, no fonts or pictures from elsewhere.

    Everything that comes from ``result`` is escaped. Missing keys and rows leave out what they would fill.
    """
    leakage, cost = layout.leakage_grids(result), layout.cost_grids(result)
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            result=result,
            perceived=wording.perceived(result),
            title=_title(result),
            subtitle=_subtitle(result),
            context=narrative.context(result),
            summary=narrative.summary(result),
            headlines=overview.headline_grid(result),
            tradeoff=overview.tradeoff(result),
            span_text=overview.span_text,
            systems=_systems(result),
            leakage=leakage,
            leakage_figures=_leakage_figures(result, leakage),
            shift=[narrative.leakage(result, split=grid.split) for grid in leakage if grid.split != "test"],
            changes=layout.change_grid(result),
            fitted=layout.fitted_grid(result),
            fitted_sentence=narrative.fitted(result),
            families=layout.family_grids(result),
            family_words=layout.family_words,
            open_families=layout.OPEN_FAMILIES,
            cost=cost,
            cost_figures=_cost_figures(cost),
            own_task=_own_task(result),
            geometry=layout.geometry_grid(result),
            geometry_sentence=narrative.geometry(result),
            gates=facts.gates(result),
            gallery=gallery(result),
            mitigation=narrative.mitigation(result),
            facts=facts,
            curves=_curves(result),
        )
    )


@cache
def environment() -> Environment:
    """Templates with everything escaped, ``wording``, the filter ``keep_together`` and the page's script.

    The page allows that script by its digest, so that no other runs.
    """
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = (TEMPLATES / "links.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    made.globals |= {"wording": wording, "script": Markup(script), "script_digest": digest}
    made.filters["keep_together"] = _keep_together
    return made


def _keep_together(sentence: str) -> str:
    """Intervals and their values never break across lines."""
    return re.sub(r" \[([^\[\], ]+), ([^\[\], ]+)\]", "\u00a0[\\1,\u00a0\\2]", sentence)


def _title(result: AuditResult) -> str:
    if not result.attribute:
        return "What the model retrieves and recognises"
    costs = ", and what suppressing it costs" if result.model.get("eraser") else ""
    return f"Leakage of {wording.perceived(result)}{costs}"


def _subtitle(result: AuditResult) -> list[str]:
    """Model, corpus and date in the line under the title."""
    model, data = result.model, result.data
    parts = (
        model.get("architecture"),
        model.get("image_tower"),
        data.get("name"),
        f"model {str(model['digest'])[:8]}" if model.get("digest") else "",
        result.provenance.get("created"),
    )
    return [str(part) for part in parts if part]


def _systems(result: AuditResult) -> list[tuple[str, str]]:
    """The systems that were measured and what each is there for."""
    measured = wording.ordered((row.system for row in result.rows), wording.SYSTEMS)
    return [(system, wording.SYSTEMS[system]) for system in measured if system in wording.SYSTEMS]


def _own_task(result: AuditResult) -> str:
    """Label of the zero-shot task that recognises the attribute itself, empty if it was not measured."""
    prefix = f"zero_shot/{wording.attribute_name(result)}_top"
    return next((wording.metric_label(row.name) for row in result.select(prefix)), "")


def _leakage_figures(result: AuditResult, leakage: list[Grid]) -> list[figures.Picture]:
    return [
        figures.dot_plot(
            grid,
            axis="balanced accuracy of the attacker",
            caption=f"{wording.split_label(grid.split)}: leakage of {wording.perceived(result)} "
            "by system and attacker.",
            limits=figures.shared_limits(leakage),
        )
        for grid in leakage
    ]


def _cost_figures(cost: list[Grid]) -> list[figures.Picture]:
    drawn = [grid.levels().of_unit("fraction") for grid in cost]
    levels = [grid for grid in drawn if grid.lines]
    return [
        figures.dot_plot(
            grid,
            axis="per cent",
            caption=f"{wording.split_label(grid.split)}: retrieval and classification by system.",
            limits=figures.shared_limits(levels),
        )
        for grid in levels
    ]


def _curves(result: AuditResult) -> list[figures.Picture]:
    curve: list[Any] = result.training.get("curve") or []
    recalls = {"val_i2t_recall_10": "image → text", "val_t2i_recall_10": "text → image"}
    plots = (
        figures.curve_plot(curve, series={"loss": "loss"}, axis="loss", caption="Training loss by epoch."),
        figures.curve_plot(
            curve,
            series=recalls,
            axis="R@10, per cent",
            caption="Validation recall at 10 by epoch.",
            scale=100,
        ),
    )
    return [plot for plot in plots if plot]

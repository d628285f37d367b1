"""What a person sees of two runs in MLflow's own pages: the report in the artifact pane, the comparison."""

from __future__ import annotations

import json
from collections.abc import Callable
from urllib.parse import quote

import mlflow
import pytest
from mlflow.entities import Run
from playwright.sync_api import Frame, Page

from tests.browser.checks import barriers, broken_images, complaints, sticking_out
from tests.browser.trained import Trained

Opened = Callable[..., Page]
PANE = "iframe.mlflow-html-iframe"
OURS = "blob:"  # addresses of what MLflow shows in its frame; its own pages are http:
BROKEN = "<h1>Broken</h1><script>console.error('from the artifact')</script>"
HEADLINE = "test/eraser_on/leakage/gender/embedding/max"
# the page draws only the rows in view: scroll to each metric's place and read the values beside its name
COMPARED = """async places => {
  const found = {}, pause = () => new Promise(done => setTimeout(done, 20));
  const cells = grid => [...grid.querySelectorAll("[role=rowgroup] > div")];
  for (const [metric, place] of places) {
    for (let tries = 0; tries < 500 && !(metric in found); tries++) {
      await pause();
      const [names, values] = document.querySelectorAll("[role=grid]");
      const any = names && cells(names)[0];
      if (!any || !values) continue;
      values.scrollTop = place * any.offsetHeight + tries % 2;  // moves, so that the names follow
      const name = cells(names).find(cell => cell.textContent === metric);
      const beside = cells(values).filter(cell => name && cell.style.top === name.style.top);
      if (beside.length) found[metric] = beside.map(cell => cell.textContent);
    }
  }
  return found;
}"""


@pytest.fixture(scope="module")
def tracked(mlflow_url: str, trained: list[Trained]) -> list[Run]:
    """The two runs as MLflow has them."""
    client = mlflow.MlflowClient(mlflow_url)
    return [client.get_run(run.run_id) for run in trained]


def _artifact(page: Page, uri: str, run: Run, name: str) -> Frame:
    """The frame in which the run's page shows an HTML artifact, once it is there."""
    page.goto(f"{uri}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}/artifacts")
    page.get_by_text(name, exact=True).first.click()
    frame = page.locator(PANE).element_handle().content_frame()
    assert frame is not None
    frame.wait_for_selector("h1")
    return frame


def test_the_artifact_pane_shows_the_report(opened: Opened, mlflow_url: str, tracked: list[Run]) -> None:
    page = opened(1400)
    heard = complaints(page)
    frame = _artifact(page, mlflow_url, tracked[0], "report.html")
    assert frame.locator("figure img").count() >= 4
    assert broken_images(frame) == []
    assert sticking_out(frame) == []
    assert barriers(frame, but=["color-contrast"]) == []
    frame.locator("nav a[href='#limits']").click()
    frame.wait_for_function(
        "() => document.querySelector('#limits').getBoundingClientRect().top < innerHeight"
    )
    assert [line for line in heard if line.startswith(OURS)] == []


def test_the_report_fits_the_pane_of_a_narrow_screen(
    opened: Opened, mlflow_url: str, tracked: list[Run]
) -> None:
    """The frame is 400 px wide there; MLflow's own menus hide most of it, which is not ours to change."""
    frame = _artifact(opened(390), mlflow_url, tracked[0], "report.html")
    assert broken_images(frame) == []
    assert sticking_out(frame) == []


def test_an_error_of_an_artifact_is_told_from_those_of_mlflow(
    opened: Opened, mlflow_url: str, tracked: list[Run]
) -> None:
    """The control of the test above."""
    run = tracked[1]
    mlflow.MlflowClient(mlflow_url).log_text(run.info.run_id, BROKEN, "broken.html")
    page = opened()
    heard = complaints(page)
    _artifact(page, mlflow_url, run, "broken.html")
    page.evaluate("console.error('from the page around it')")
    ours = [line for line in heard if line.startswith(OURS)]
    assert [line.rpartition(": ")[2] for line in ours] == ["from the artifact"]
    assert any("from the page around it" in line for line in heard)


def test_the_comparison_of_two_runs_shows_the_metrics(
    opened: Opened, mlflow_url: str, tracked: list[Run]
) -> None:
    page = opened()
    ids = json.dumps([run.info.run_id for run in tracked])
    experiments = json.dumps([tracked[0].info.experiment_id])
    page.goto(f"{mlflow_url}/#/compare-runs?runs={quote(ids)}&experiments={quote(experiments)}")
    page.get_by_text("Comparing 2 Runs from 1 Experiment").wait_for()
    metrics = ["audit/leakage_max", *(HEADLINE + end for end in ("", "_ci_low", "_ci_high", "_n"))]
    listed = sorted({name for run in tracked for name in run.data.metrics})
    shown = page.evaluate(COMPARED, [[name, listed.index(name)] for name in metrics])
    logged = {name: [run.data.metrics[name] for run in tracked] for name in metrics}
    assert list(shown) == metrics
    for name in metrics:
        assert [float(number) for number in shown[name]] == pytest.approx(logged[name], abs=5e-4)

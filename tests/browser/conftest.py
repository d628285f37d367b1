"""Chromium, and two tiny trainings in a served MLflow store."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from evaluation.compare import PAGE, compare_runs
from evaluation.report.files import REPORT
from tests.browser.trained import Trained, train_two
from tests.clip_lite.tracked_runs import Packages, World

MISSING = (
    "tests/browser needs Chromium, and there is none on PATH: install it with `apt-get install chromium`"
)
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """One browser for the tests of a file.

    Not for the session: while Playwright runs, no other test of the process could use ``asyncio.run``.
    """
    path = shutil.which("chromium")
    if path is None:
        pytest.fail(MISSING, pytrace=False)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=OPTIONS)
        yield browser
        browser.close()


@pytest.fixture
def opened(chromium: Browser) -> Iterator[Callable[..., Page]]:
    """``opened(width, scheme)``: an empty page of that width in a light or dark colour scheme."""
    contexts = []

    def page(width: int = 1400, scheme: str = "light") -> Page:
        context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        return context.new_page()

    yield page
    for context in contexts:
        context.close()


@pytest.fixture(scope="session")
def trained(
    mlflow_url: str, emoji_packages: Packages, text_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> list[Trained]:
    """Two runs that are in the served store: by every metric, and by the fewest."""
    return train_two(World(tmp_path_factory.mktemp("trained"), emoji_packages, text_folder, mlflow_url))


@pytest.fixture(scope="session")
def report(trained: list[Trained]) -> Path:
    """The report of the first run, with every section there is."""
    return trained[0].folder / REPORT


@pytest.fixture(scope="session", params=["report", "comparison"])
def written(
    request: pytest.FixtureRequest, trained: list[Trained], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Each of the pages that the project writes: the report, and the comparison of both runs."""
    if request.param == "report":
        return trained[0].folder / REPORT
    folder = tmp_path_factory.mktemp("compared")
    compare_runs([str(run.folder) for run in trained], folder)
    return folder / PAGE

"""Fixtures of the browser tests."""

import os
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def chromium() -> str:
    """Chromium's path. Without it the browser tests are skipped, but on CI they fail."""
    from browser import find_chromium  # here, so that the other tests do without Playwright

    if path := find_chromium():
        return path
    missing = (
        "Chromium is missing: the browser part is skipped; install Debian's chromium or `playwright install chromium`"
    )
    if os.environ.get("CI") == "true":
        pytest.fail(missing)
    pytest.skip(missing)


@pytest.fixture(scope="session")
def lab(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator["JupyterLab"]:  # noqa: F821
    """One JupyterLab for all browser tests; its notebooks lie in `lab.folder`."""
    from browser import JupyterLab

    with JupyterLab(tmp_path_factory.mktemp("notebooks"), chromium, tmp_path_factory.mktemp("home")) as lab:
        yield lab

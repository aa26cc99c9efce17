"""Fixtures that several rooms need: a trained network, the official CIFAR files, a browser, a JupyterLab."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from browser import JupyterLab

    from ltlab.data import LongTailedData
    from ltlab.train import Result

# A run of all tests starts Python some fifty times: kernels, processes, commands. With bytecode kept, they import
# torch in a third of the time.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Two files are tested side by side, on one thread each; so are the notebooks' kernels. torch reads this at its import.
os.environ.setdefault("OMP_NUM_THREADS", "1")

BROWSER, BOOK = "test_browser.py", "test_book.py"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Two workers; none for a single file, whose tests all run in one process anyway."""
    alone = len(config.args) == 1 and not Path(config.args[0].partition("::")[0]).is_dir()
    return 0 if alone else 2


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take minutes, so that both workers end at about the same time.

    The notebooks are between browser and book, so that one Chromium runs at a time.
    """
    order = {BROWSER: 0, ".ipynb": 1, BOOK: 2}
    items.sort(key=lambda item: order.get(item.path.name, order.get(item.path.suffix, 3)))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what tests measured (`record_property`), also those that ran in another process."""
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            terminalreporter.write_line(f"{name}: {value}")


@pytest.fixture(scope="session")
def plain() -> tuple["LongTailedData", "Result"]:
    """The default data and the default recipe trained on them, once for all tests that look at what was learnt."""
    from ltlab import data, train

    shapes = data.load("shapes-lt")
    return shapes, train.fit("ce", shapes, progress=False, device="cpu", evaluate_every=1000)


@pytest.fixture(scope="session")
def same_bits() -> None:
    """Skip where shapes-lt is not drawn bit for bit as on the machines that measured the shipped rows."""
    import torch

    if (kind := torch.backends.cpu.get_cpu_capability()) not in ("AVX2", "AVX512"):
        pytest.skip(f"a processor with {kind} draws some grey values differently from one with AVX2")


@pytest.fixture(scope="session")
def cifar_root() -> str:
    """The folder of the official CIFAR files. Without them tests are skipped; on CI they fail if LTLAB_DATA is set."""
    root = os.environ.get("LTLAB_DATA")
    if root and all((Path(root) / folder).is_dir() for folder in ("cifar-10-batches-py", "cifar-100-python")):
        return root
    missing = f"no CIFAR-10 and CIFAR-100 under LTLAB_DATA={root}"
    if root and os.environ.get("CI") == "true":
        pytest.fail(f"{missing}; continuous integration has to provide them")
    pytest.skip(missing)


@pytest.fixture(scope="session")
def chromium() -> str:
    """Chromium's path. Without it the browser tests are skipped, but on CI they fail."""
    from browser import find_chromium  # here, so that the other tests do without Playwright

    if path := find_chromium():
        return path
    how = "install Debian's package chromium, or run `playwright install chromium`"
    if os.environ.get("CI") == "true":
        pytest.fail(f"Chromium is missing: {how}")
    pytest.skip(f"Chromium is missing: the browser part is skipped; {how}")


@pytest.fixture(scope="module")  # as one process can run one Playwright, and the book's tests need it next
def lab(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator["JupyterLab"]:
    """One JupyterLab for all browser tests; its notebooks lie in `lab.folder`."""
    from browser import JupyterLab

    with JupyterLab(tmp_path_factory.mktemp("notebooks"), chromium, tmp_path_factory.mktemp("home")) as lab:
        yield lab

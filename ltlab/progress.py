"""The bar that shows how far long work has come."""

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tqdm import tqdm


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    kernel = sys.modules.get("ipykernel.kernelapp")
    return kernel is not None and kernel.IPKernelApp.initialized()


def progress_bar(*, shown: bool = True, **options: Any) -> "tqdm":
    """A bar of tqdm that leaves nothing behind: in a terminal and in a notebook, and none in a log file.

    In a notebook it is text as well. A bar of widgets would stay in the saved file, where it is a dead widget when the
    file is opened again.
    """
    from tqdm import tqdm

    file = sys.stdout if in_notebook() else sys.stderr
    look = {"ncols": 90, "mininterval": 0.3} if in_notebook() else {}
    return tqdm(file=file, disable=not shown or not (in_notebook() or file.isatty()), leave=False, **look, **options)

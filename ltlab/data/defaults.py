"""torch's usual defaults, independent of what the user has set."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def usual_defaults() -> Iterator[None]:
    """float32 and the CPU as default dtype and device within a `with` block or a decorated function.

    `torch.set_default_dtype` and `torch.set_default_device` then change neither pixels nor labels.
    """
    dtype = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with torch.device("cpu"):
            yield
    finally:
        torch.set_default_dtype(dtype)

"""torch's usual defaults, independent of what the user has set."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch


@contextmanager
def usual_defaults() -> Iterator[None]:
    """float32 and the CPU as default dtype and device within a `with` block or a decorated function.

    `torch.set_default_dtype` and `torch.set_default_device` then change nothing that is computed there.
    """
    dtype, device = torch.get_default_dtype(), torch.get_default_device()
    torch.set_default_dtype(torch.float32)
    try:
        with nullcontext() if device.type == "cpu" else torch.device("cpu"):  # a device is asked at every call of torch
            yield
    finally:
        torch.set_default_dtype(dtype)

"""What stands in a slot, as text: short for people, and exact for telling one run from another."""

import hashlib
from collections.abc import Iterator
from functools import partial
from types import CodeType, FunctionType

import numpy as np
import torch
from torch import Tensor, nn

from ..losses import Loss


def describe(slot: object) -> str:
    """What stands in a slot, in one short text: `PowerSampler(q=0.5)`; an empty slot is a dash."""
    if slot is None:
        return "—"
    if isinstance(slot, partial):
        given = [("", argument) for argument in slot.args] + [
            (f"{key}=", value) for key, value in slot.keywords.items()
        ]
        arguments = [f"{key}{describe(value) if callable(value) else repr(value)}" for key, value in given]
        return f"{slot.func.__name__}({', '.join(arguments)})"
    if callable(slot) and hasattr(slot, "__name__"):
        return slot.__name__
    if isinstance(slot, str):
        return slot
    if isinstance(slot, nn.Module) and not isinstance(slot, Loss):  # its own printed form may hide what it holds
        held = {name: describe(value) for name, value in vars(slot).items() if name[0] != "_" and name != "training"}
        tensors = {name: _digest(value) for name, value in (*slot.named_buffers(), *slot.named_parameters())}
        return f"{type(slot).__name__}({', '.join(f'{name}={value}' for name, value in (held | tensors).items())})"
    return type(slot).__name__ if type(slot).__repr__ is object.__repr__ else repr(slot)  # never an address in memory


def contents(slot: object) -> str:
    """What stands in a slot, equal exactly where it trains alike: `describe`, and a digest of what that does not show.

    Not shown are the values of tensors and arrays, what a function of your own does, and the attributes of an object
    without a printed form.
    """
    hidden = list(_hidden(slot))
    return f"{describe(slot)} {hashlib.sha256(repr(hidden).encode()).hexdigest()[:8]}" if hidden else describe(slot)


def _hidden(value: object, shown: bool = True, within: tuple[object, ...] = ()) -> Iterator[str]:
    """The parts of a value that `describe` leaves out, those of its own parts included.

    shown: whether the printed form holds plain values; within: what the value is a part of.
    """
    if isinstance(value, type) or any(value is outer for outer in within):
        return
    parts: list[object] = []
    if isinstance(value, Tensor):
        yield _digest(value)
    elif isinstance(value, np.ndarray):
        yield f"{value.dtype} {value.shape} {hashlib.sha256(value.tobytes()).hexdigest()}"
    elif isinstance(value, str | int | float | None):
        if not shown:
            yield repr(value)
    elif isinstance(value, partial):
        parts = [value.func, *value.args, *value.keywords.values()]
    elif isinstance(value, list | tuple):
        parts = list(value)
    elif isinstance(value, dict):
        parts = list(value.values())
    elif isinstance(value, FunctionType):
        if not value.__module__.startswith("ltlab."):
            yield from _instructions(value.__code__)
            closure = [cell.cell_contents for cell in value.__closure__ or ()]
            parts, shown = [value.__defaults__, value.__kwdefaults__, closure], False
    elif isinstance(value, Loss):
        parts = [*value.parameters(), *value.buffers()]
    elif not isinstance(value, nn.Module) and hasattr(value, "__dict__"):  # `describe` shows all of a module
        parts, shown = list(vars(value).values()), type(value).__repr__ is not object.__repr__
    for part in parts:
        yield from _hidden(part, shown, (*within, value))


def _instructions(code: CodeType) -> Iterator[str]:
    """A function's bytecode with its constants and names: of one version of Python, equal for equal functions."""
    yield f"{code.co_code!r} {code.co_names}"
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _instructions(constant)
        else:
            yield repr(constant)


def _digest(tensor: Tensor) -> str:
    """Shape and eight hex digits, equal exactly where the values are."""
    values = tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy()
    return f"{tuple(tensor.shape)} {hashlib.sha256(values).hexdigest()[:8]}"

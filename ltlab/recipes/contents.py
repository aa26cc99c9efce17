"""What stands in a slot, as text: short for people, and exact for telling one run from another."""

import hashlib
import sys
from collections.abc import Iterable, Iterator
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

    Not shown are the values of tensors and arrays, the attributes of an object without a printed form, and what code
    of your own does: a function or class from outside Python, torch and ltlab, and the functions, classes and constants
    that it names, so that a class which is mended in a notebook's cell is another one. It is told by its bytecode,
    which differs between versions of Python; what code reaches through the name of a module is not looked at.
    """
    hidden = list(_Hidden().of(slot))
    return f"{describe(slot)} {hashlib.sha256(repr(hidden).encode()).hexdigest()[:8]}" if hidden else describe(slot)


CONSTANT = str | int | float | complex | bytes | None
LIBRARIES = {"ltlab", "torch", "torchvision", "numpy", "builtins", *sys.stdlib_module_names} - {"__main__"}


class _Hidden:
    """A walk through all that a value is made of, which yields what `describe` leaves out.

    An object that is met again is the number of its first time: walks end, and tell [a, b, a] from [a, b, b].
    """

    def __init__(self) -> None:
        self.met: dict[int, tuple[int, object]] = {}  # by id; tuples are not among them, as equal ones may be one

    def of(self, value: object, shown: bool = True) -> Iterator[str]:
        """shown: whether the printed form holds plain values."""
        if isinstance(value, CONSTANT):
            yield from [] if shown else [repr(value)]
        elif isinstance(value, Tensor):
            yield _digest(value)
        elif isinstance(value, np.ndarray):
            yield f"{value.dtype} {value.shape} {hashlib.sha256(value.tobytes()).hexdigest()}"
        elif isinstance(value, tuple):
            for part in value:
                yield from self.of(part, shown)
        elif id(value) in self.met:
            yield f"again {self.met[id(value)][0]}"
        else:
            self.met[id(value)] = len(self.met), value
            yield from self._parts(value, shown)

    def _parts(self, value: object, shown: bool) -> Iterator[str]:
        if isinstance(value, FunctionType | type):
            yield from self._code(value)
            return
        yield from self._code(type(value))
        parts: Iterable[object] = ()
        if isinstance(value, partial):
            parts = value.func, *value.args, *value.keywords.values()
        elif isinstance(value, list):
            parts = value
        elif isinstance(value, dict):
            parts = value.items()
        elif isinstance(value, Loss):
            parts = *value.parameters(), *value.buffers()
        elif not isinstance(value, nn.Module) and hasattr(value, "__dict__"):  # `describe` shows all of a module
            parts, shown = vars(value).items(), type(value).__repr__ is not object.__repr__
        for part in parts:
            yield from self.of(part, shown)

    def _code(self, owner: FunctionType | type) -> Iterator[str]:
        """What a function of your own, or the methods and constants of a class of your own, do."""
        if (owner.__module__ or "").partition(".")[0] in LIBRARIES:
            return
        if isinstance(owner, type):
            for base in owner.__bases__:
                yield from self.of(base)
            for name, member in vars(owner).items():
                member = getattr(member, "fget", getattr(member, "__func__", member))  # of properties, static methods
                if isinstance(member, FunctionType) or (isinstance(member, CONSTANT) and not name.startswith("__")):
                    yield name
                    yield from self.of(member, shown=False)
            return
        closure = [cell.cell_contents for cell in owner.__closure__ or ()]
        yield from self._instructions(owner.__code__, owner.__globals__)
        for part in (owner.__defaults__, owner.__kwdefaults__, closure):
            yield from self.of(part, shown=False)

    def _instructions(self, code: CodeType, names: dict[str, object]) -> Iterator[str]:
        """Bytecode with its constants and names, and what functions, classes and constants the names stand for."""
        yield f"{code.co_code!r} {code.co_names}"
        for constant in code.co_consts:
            if isinstance(constant, CodeType):
                yield from self._instructions(constant, names)
            else:
                yield repr(sorted(map(repr, constant)) if isinstance(constant, frozenset) else constant)
        for name in code.co_names:
            if name in names and isinstance(names[name], FunctionType | type | CONSTANT):
                yield from self.of(names[name], shown=False)


def _digest(tensor: Tensor) -> str:
    """Shape and eight hex digits, equal exactly where the values are."""
    values = tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy()
    return f"{tuple(tensor.shape)} {hashlib.sha256(values).hexdigest()[:8]}"

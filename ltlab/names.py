"""Look things up by a name that a person typed."""

import difflib
from collections.abc import Collection, Mapping
from typing import TypeVar

T = TypeVar("T")

MOST_NAMES = 12  # that a message lists; of more, it lists the nearest
LISTED = {"recipe": "; `ltlab recipes` lists all"}


def look_up(kind: str, name: str, known: Mapping[str, T]) -> T:
    """`known[name]`, or a ValueError, see `one_of`."""
    return known[one_of(kind, name, known)]


def one_of(kind: str, name: str, known: Collection[str]) -> str:
    """`name` if it is known; otherwise a ValueError with the kind, the nearest known name, and all of them if few."""
    if isinstance(name, str) and name in known:
        return name
    near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.4)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    if len(known) <= MOST_NAMES:
        raise ValueError(f"unknown {kind} {name!r}{hint} Known: {', '.join(known)}")
    nearest = ", ".join(difflib.get_close_matches(str(name), known, n=MOST_NAMES, cutoff=0))
    raise ValueError(
        f"unknown {kind} {name!r}{hint} Known, of {len(known)} the nearest: {nearest}{LISTED.get(kind, '')}"
    )

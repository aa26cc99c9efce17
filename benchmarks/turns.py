"""Times of several ways that take turns, so that load from elsewhere falls on all alike."""

import random
import time
from collections.abc import Callable


def by_turns(ways: dict[str, Callable[[], object]], turns: int, warm_up: int) -> dict[str, list[float]]:
    """Seconds of every call: each turn calls all ways once, in a new random order; the first `warm_up` do not count."""
    rng = random.Random(0)
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(warm_up + turns):
        for name in rng.sample(list(ways), len(ways)):
            started = time.perf_counter()
            ways[name]()
            if turn >= warm_up:
                times[name].append(time.perf_counter() - started)
    return times

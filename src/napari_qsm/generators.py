"""Running one generator inside another: every long job is a generator that returns its result."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from typing import Any, TypeVar

A = TypeVar("A")
B = TypeVar("B")
T = TypeVar("T")


def relayed(work: Generator[A, None, T], shown: Callable[[A], B]) -> Generator[B, None, T]:
    """Run `work` to its result, handing out what `shown` makes of each of its items.

    ``yield from`` with a change on the way. Whoever closes the outer generator closes `work`, so
    that its memory is freed.

    Parameters
    ----------
    work : generator
        What is run.
    shown : callable
        Turns an item of `work` into one of the outer generator.
    """
    with closing(work):
        while True:
            try:
                item = next(work)
            except StopIteration as done:
                result: T = done.value
                return result
            yield shown(item)


def finished(work: Generator[Any, None, T]) -> T:
    """Run a generator to its end and return its result, whatever it hands out on the way."""
    while True:
        try:
            next(work)
        except StopIteration as done:
            result: T = done.value
            return result

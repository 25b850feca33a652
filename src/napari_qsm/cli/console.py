"""What is printed: lines on stdout, progress on stderr, findings in words."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import TYPE_CHECKING, TypeVar

from rich.console import Console

from napari_qsm.acquisition import Acquisition, InputError

if TYPE_CHECKING:
    from napari_qsm.process import Step

T = TypeVar("T")


def console(*, stderr: bool = False) -> Console:
    """Return a console that prints text as it is."""
    return Console(stderr=stderr, highlight=False, markup=False)


def say(lines: Iterable[str]) -> None:
    """Print lines, none of them broken."""
    out = console()
    for line in lines:
        out.print(line, soft_wrap=True)


def tell(acquisition: Acquisition) -> None:
    """Print what was understood, and refuse what makes a computation senseless."""
    from napari_qsm.preparation.checks import inspect

    for finding in inspect(acquisition):
        if finding.severity == "error":
            raise InputError(finding.text)
        say([f"{finding.severity}: {finding.text}"])


def exhaust(steps: Generator[Step, None, T], label: str) -> T:
    """Run a piece of work under a progress bar; Ctrl-C closes it and so frees its memory."""
    from rich.progress import Progress

    err = console(stderr=True)
    with Progress(console=err, transient=True, disable=not err.is_terminal) as progress:
        task = progress.add_task(label, total=1.0)
        try:
            while True:
                step = next(steps)
                progress.update(task, completed=step.fraction, description=step.message)
        except StopIteration as end:
            made: T = end.value
            return made
        finally:
            steps.close()

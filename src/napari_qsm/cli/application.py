"""The application the commands belong to, and how it ends: a status and at most one sentence."""

from __future__ import annotations

import os
import signal
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from napari_qsm import __version__
from napari_qsm.acquisition import InputError

INTERRUPTED = 130


class _OneSentence(TyperGroup):
    """A command group that ends every failure in one sentence and an exit status."""

    def main(self, *args: Any, **options: Any) -> Any:
        """Run the command line; always leaves through `SystemExit` unless debugging."""
        arguments = options.get("args") or (args[0] if args else None) or sys.argv[1:]
        debug = "--debug" in arguments or bool(os.environ.get("NAPARI_QSM_DEBUG"))
        options["standalone_mode"] = False
        options["obj"] = list(arguments)  # commands write down what was typed
        try:
            status = super().main(*args, **options)
        except Exception as error:
            if debug:
                raise
            text, status = _explain(error)
            typer.echo(text, err=True)
        except KeyboardInterrupt:
            status = INTERRUPTED
        if status == INTERRUPTED:
            typer.echo("Cancelled; nothing was written.", err=True)
        sys.exit(status if isinstance(status, int) else 0)


def _explain(error: Exception) -> tuple[str, int]:
    """Return one sentence about an error and the exit status that belongs to it."""
    if isinstance(error, InputError):
        return _sentence(str(error)), 2
    if hasattr(error, "format_message"):  # a usage error, whichever click typer brings along
        return _sentence(f"{error.format_message().strip().rstrip('.')}; see --help"), 2
    kind, message = type(error).__name__, " ".join(str(error).split())
    if kind in {"OutOfMemoryError", "MemoryError"}:
        return "The memory did not suffice; use a smaller volume or --device cpu.", 1
    shown = f"{kind}: {message}" if message else kind
    return f"napari-qsm failed ({shown.rstrip('.')}); --debug shows where.", 1


def _sentence(text: str) -> str:
    line = " ".join(text.split())
    return line if line.endswith(".") else f"{line}."


app = typer.Typer(
    cls=_OneSentence,
    help="Quantitative susceptibility mapping: from the scanner's files to susceptibility.",
    add_completion=False,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Entry point of ``napari-qsm``."""
    app()


def load_torch() -> None:
    """Import torch, the slowest of all imports, and let Ctrl-C wait for the end of it.

    In the middle of it, an interrupt would abort the process instead of ending it in a sentence.
    """
    pressed: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: pressed.append(number))
    try:
        import torch  # noqa: F401
    finally:
        signal.signal(signal.SIGINT, before)
    if pressed:
        raise KeyboardInterrupt


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"napari-qsm {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Say which.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks (or set NAPARI_QSM_DEBUG).")
    ] = False,
) -> None:
    pass

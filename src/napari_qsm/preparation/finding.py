"""One sentence about a measurement, and how much it matters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Finding:
    """One sentence about an acquisition.

    Parameters
    ----------
    severity : {"error", "warning", "note"}
        An error makes a reconstruction senseless; a warning should be read before it; a note says
        what was assumed or may be of interest.
    text : str
        What was found, what was expected and what to do.
    """

    severity: Severity
    text: str


def error(text: str) -> Finding:
    """Return a finding that makes a reconstruction senseless."""
    return Finding("error", text)


def warning(text: str) -> Finding:
    """Return a finding to be read before going on."""
    return Finding("warning", text)


def note(text: str) -> Finding:
    """Return a finding that says what was assumed or may be of interest."""
    return Finding("note", text)

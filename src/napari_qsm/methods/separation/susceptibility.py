"""The susceptibility that a separation begins with: made by any inversion, or given."""

from __future__ import annotations

from collections.abc import Generator

import torch

from napari_qsm.acquisition import Acquisition, FloatArray, InputError, Quantity
from napari_qsm.methods.registry import Step, find, methods
from napari_qsm.methods.wrapping import Inner

GIVEN = "given"
"""Stands for the susceptibility of the acquisition, instead of an inversion's key."""


def inversions() -> tuple[str, ...]:
    """Return what makes one susceptibility of one field, and the given one."""
    known = methods().values()
    usable = [m.key for m in known if m.orientations == 1 and Quantity.CHI_POS not in m.gives]
    return (*usable, GIVEN)


def susceptibility(
    acquisition: Acquisition, name: str, device: torch.device, *, label: str, share: float
) -> Generator[Step, None, tuple[FloatArray, tuple[str, ...]]]:
    """Return a susceptibility in ppm, zero outside the mask, and notes on how it was made.

    Parameters
    ----------
    acquisition : Acquisition
        With a local field, and a susceptibility if that is to be taken.
    name : str
        Key of an inversion, which runs at its defaults, or `GIVEN`.
    device : torch.device
        Where it works.
    label : str
        Of the separation, for messages.
    share : float
        Part of the whole work that this is.

    Raises
    ------
    InputError
        If a given susceptibility is asked for and there is none.
    """
    if name == GIVEN:
        if Quantity.CHI not in acquisition:
            raise InputError(
                f"{label} was asked to begin with a given susceptibility, and there is none; "
                "choose a map to start from, or an inversion."
            )
        given: FloatArray = acquisition[Quantity.CHI] * acquisition.mask
        return given, ("It begins with the given susceptibility.",)
    inversion = find(name)
    inner = Inner(inversion, label, inversion.parameters(), device)
    maps = yield from inner.part(acquisition, 0.0, share, "the susceptibility")
    notes = (f"{inversion.label}: {note}" for note in maps.provenance.notes)
    return maps[Quantity.CHI], (f"It begins with the susceptibility of {inversion.label}.", *notes)

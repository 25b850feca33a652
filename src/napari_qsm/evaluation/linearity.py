"""How maps follow the strength of a lesion: its own share of the data, scaled and read back."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from napari_qsm.acquisition import Acquisition, FloatArray, InputError, Maps, Quantity
from napari_qsm.generators import relayed
from napari_qsm.methods.registry import Method
from napari_qsm.methods.separation.shared import Separating, relaxivity_of
from napari_qsm.physics.dipole import DipoleConvolution
from napari_qsm.process import Parameters, Step

STRENGTHS = (0.5, 1.0, 1.5, 2.0, 3.0)
"""1 is the lesion as it was measured; methods that learned are tried beyond it."""

MINOR = 0.1
"""A source below this part of the other one has no slope worth telling: it is nearly nothing."""

PADDING = 1.5
"""Of the dipole convolution that makes the lesion's field, relative to the volume."""


@dataclass(frozen=True)
class Response:
    """How one map follows the strength of a lesion.

    Parameters
    ----------
    quantity : Quantity
        CHI_POS and CHI_NEG of methods that separate, CHI of others.
    source : float
        Mean in the region of what was simulated for strength 1, in ppm.
    values : tuple[float, ...]
        Mean of the map in the region for each strength, in ppm.
    slope : float
        Of the line that fits `values` best, over ``strength * source``: 1 where the map follows.
        Not a number where next to nothing was simulated (`MINOR`).
    """

    quantity: Quantity
    source: float
    values: tuple[float, ...]
    slope: float


@dataclass(frozen=True)
class Linearity:
    """The responses of a method's maps to the strength of a lesion.

    Parameters
    ----------
    label : str
        Of the method.
    strengths : tuple[float, ...]
        Ascending.
    responses : tuple[Response, ...]
        One for each map.
    voxels : int
        Size of the region.
    notes : tuple[str, ...]
        What was simulated and what was left as it was.
    """

    label: str
    strengths: tuple[float, ...]
    responses: tuple[Response, ...]
    voxels: int
    notes: tuple[str, ...]

    def table(self) -> str:
        """Return the means as the text of a CSV file, one strength a line, slopes in the last."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        heads = (
            f"{one.quantity.key} {what} [ppm]"
            for one in self.responses
            for what in ("simulated", "found")
        )
        writer.writerow(["strength", *heads])
        for index, strength in enumerate(self.strengths):
            pairs = ((strength * one.source, one.values[index]) for one in self.responses)
            writer.writerow([f"{strength:g}", *(f"{v:.6g}" for pair in pairs for v in pair)])
        slopes = ("" if math.isnan(one.slope) else f"{one.slope:.4g}" for one in self.responses)
        writer.writerow(["slope", *(cell for slope in slopes for cell in ("", slope))])
        return text.getvalue()


def linearity(
    method: Method[Any],
    acquisition: Acquisition,
    region: NDArray[np.bool_],
    parameters: Parameters | None = None,
    device: torch.device | str = "cpu",
    *,
    strengths: Sequence[float] = STRENGTHS,
) -> Generator[Step, None, Linearity]:
    """Scale what a lesion adds to the data, reconstruct, and read the lesion back.

    The maps of the data as they are (strength 1) say what the lesion L is: ``l = chi L``. For a
    strength s the data become ``f + (s - 1) D (l+ - l-)`` and
    ``R2' + (s - 1) (Dr+ l+ + Dr- l-)``, the same for R2*; neither rate goes below 0. Whatever the
    method chooses from the data it chooses once, for strength 1.

    Parameters
    ----------
    method : Method
        Any that inverts one orientation; one that separates answers for both kinds of sources.
    acquisition : Acquisition
        What it is given.
    region : (X, Y, Z) array of bool
        The lesion.
    parameters : Parameters, optional
        Of the method.
    device : torch.device
        Where to work.
    strengths : sequence of float
        Two or more different ones, none below 0.

    Yields
    ------
    Step
        Often.

    Raises
    ------
    InputError
        If the region has another shape or no voxel in the mask, there are too few strengths, or
        the acquisition lacks what the method needs.
    """
    method.check(acquisition)
    inside = _region(acquisition, region)
    asked = _strengths(strengths)
    chosen = method.parameters() if parameters is None else parameters
    order = [1.0, *(s for s in asked if s != 1.0)]
    share = 1 / len(order)
    maps = yield from _run(method, acquisition, chosen, device, "strength 1", 0.0, share)
    own = {k: v for k, v in maps.provenance.chosen.items() if k in type(chosen).model_fields}
    chosen = chosen.model_copy(update=own)
    yield Step(share, f"{method.label}: simulating the lesion")
    lesion = _Lesion(method, acquisition, inside, chosen, maps)
    found = {1.0: lesion.means(maps)}
    for index, strength in enumerate(order[1:], start=1):
        scaled = lesion.scaled(acquisition, strength)
        told = f"strength {strength:g} ({index + 1} of {len(order)})"
        maps = yield from _run(method, scaled, chosen, device, told, index * share, share)
        found[strength] = lesion.means(maps)
    responses = tuple(
        lesion.response(quantity, asked, tuple(found[s][quantity] for s in asked))
        for quantity in lesion.sources
    )
    return Linearity(method.label, asked, responses, int(inside.sum()), lesion.notes)


class _Lesion:
    """What a lesion is, by the maps of a method, and what it adds to the data."""

    def __init__(
        self,
        method: Method[Any],
        acquisition: Acquisition,
        inside: NDArray[np.bool_],
        parameters: Parameters,
        maps: Maps,
    ) -> None:
        self._inside, mask = inside, acquisition.mask
        told: list[str] = []
        separates = Quantity.CHI_POS in method.gives
        quantities = (Quantity.CHI_POS, Quantity.CHI_NEG) if separates else (Quantity.CHI,)
        kept = {q: np.where(inside, maps[q], np.float32(0)) for q in quantities}
        self.sources = {q: float(kept[q][inside].mean()) for q in quantities}
        if separates:
            chi = kept[Quantity.CHI_POS] - kept[Quantity.CHI_NEG]
            known = parameters if isinstance(parameters, Separating) else Separating()
            relaxivity = relaxivity_of(acquisition, known, told)
            self._rate: FloatArray | None = np.asarray(
                relaxivity.positive * kept[Quantity.CHI_POS]
                + relaxivity.negative * kept[Quantity.CHI_NEG],
                np.float32,
            )
        else:
            chi, self._rate = kept[Quantity.CHI], None
            # Maps are relative to their mean in the mask, which moves with the lesion.
            self.sources[Quantity.CHI] -= float(chi.sum(dtype=np.float64)) / np.count_nonzero(mask)
        dipole = DipoleConvolution(acquisition.grid, padding=PADDING)
        with torch.inference_mode():
            self._field: FloatArray = dipole(torch.from_numpy(chi)).numpy() * mask
        what = "field and rates" if separates else "field"
        self.notes = (
            *told,
            f"The {what} of the lesion were simulated from the maps of strength 1 and scaled; "
            "magnitude, noise, mask and everything around the lesion are as they were.",
        )

    def scaled(self, acquisition: Acquisition, strength: float) -> Acquisition:
        """Return the data with another strength of the lesion."""
        more = np.float32(strength - 1)
        field = acquisition[Quantity.LOCAL_FIELD] + more * self._field
        volumes: dict[Quantity, NDArray[Any]] = {Quantity.LOCAL_FIELD: field}
        if self._rate is not None:
            for quantity in (Quantity.R2PRIME, Quantity.R2STAR):
                if quantity in acquisition:
                    volumes[quantity] = np.maximum(acquisition[quantity] + more * self._rate, 0)
        return replace(acquisition, volumes={**acquisition.volumes, **volumes})

    def means(self, maps: Maps) -> dict[Quantity, float]:
        """Return the means of maps in the lesion."""
        return {q: float(maps[q][self._inside].mean(dtype=np.float64)) for q in self.sources}

    def response(
        self, quantity: Quantity, strengths: tuple[float, ...], values: tuple[float, ...]
    ) -> Response:
        """Return how one map followed."""
        source = self.sources[quantity]
        largest = max(abs(other) for other in self.sources.values())
        told = abs(source) > MINOR * largest
        slope = float(np.polyfit(strengths, values, 1)[0]) / source if told else math.nan
        return Response(quantity, source, values, slope)


def _region(acquisition: Acquisition, region: NDArray[np.bool_]) -> NDArray[np.bool_]:
    if region.shape != acquisition.grid.shape:
        raise InputError(
            f"The region has shape {region.shape} and the field {acquisition.grid.shape}; choose "
            "a region on the grid of the field."
        )
    inside: NDArray[np.bool_] = region.astype(bool) & acquisition.mask
    if not inside.any():
        raise InputError("The region has no voxel inside the mask; paint or choose a lesion there.")
    return inside


def _strengths(given: Sequence[float]) -> tuple[float, ...]:
    asked = tuple(sorted({float(s) for s in given}))
    if len(asked) < 2 or asked[0] < 0 or not math.isfinite(asked[-1]):
        shown = ", ".join(f"{s:g}" for s in asked) or "none"
        raise InputError(
            f"The strengths are {shown} where two or more different ones, none below 0, were "
            "expected; 1 is the lesion as it was measured."
        )
    return asked


def _run(
    method: Method[Any],
    acquisition: Acquisition,
    parameters: Parameters,
    device: torch.device | str,
    told: str,
    begin: float,
    share: float,
) -> Generator[Step, None, Maps]:
    """Reconstruct as a part of the whole."""
    running = method(acquisition, parameters, device)

    def part(step: Step) -> Step:
        return Step(begin + share * step.fraction, f"{told}: {step.message}")

    return (yield from relayed(running, part))

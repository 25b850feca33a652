"""What the methods that separate sources share: Dr, R2', the zero of chi, and the maps made."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from napari_qsm.acquisition import Acquisition, FloatArray, Maps, Provenance, Quantity
from napari_qsm.generators import relayed
from napari_qsm.methods.registry import Parameters, Step, parameter
from napari_qsm.methods.workspace import Workspace
from napari_qsm.physics.relaxation import USUAL_STRENGTH, Relaxivity
from napari_qsm.preparation.noise import field_noise
from napari_qsm.preparation.r2prime import NOMINAL_R2, found_r2prime

T = TypeVar("T")

USUAL_DR = 114.0
"""Dr in Hz/ppm at 3 T: what chi-sepnet and later versions of the chi-separation toolbox take."""

RATES = (Quantity.R2PRIME, Quantity.R2STAR)
"""What a separation needs one of, the best one first."""

USES = (Quantity.MASK, Quantity.R2PRIME, Quantity.R2STAR, Quantity.R2)
"""What every separation takes into account."""

GIVES = (
    Quantity.CHI_POS,
    Quantity.CHI_NEG,
    Quantity.CHI,
    Quantity.RESIDUAL,
    Quantity.RESIDUAL_R2PRIME,
)
"""What every separation makes."""

DOUBT = 0.1
"""Relative error of Dr: half of what the published 114 and 137 Hz/ppm differ by."""

BISECTIONS = 40
"""Halvings of the interval that the zero of chi lies in."""

ROUNDING = 1e-7
"""ppm by which chi may exceed R2' for nothing."""

SAMPLE = 100_000
"""Voxels it is looked for in."""


class Separating(Parameters):
    """Parameters of every separation."""

    dr_positive: float = parameter(
        USUAL_DR,
        "R2' that 1 ppm of paramagnetic susceptibility makes at 3 T (Dr+). It grows with B0, which "
        "is taken into account. Shin et al. found 137.",
        low=1.0,
        high=1000.0,
        log=True,
        unit="Hz/ppm",
    )
    dr_negative: float | None = parameter(
        None,
        "The same of diamagnetic susceptibility (Dr-). By itself that of paramagnetic.",
        low=1.0,
        high=1000.0,
        log=True,
        unit="Hz/ppm",
        typical=USUAL_DR,
    )
    nominal_r2: float = parameter(
        NOMINAL_R2,
        "R2 that is taken off R2* where neither R2' nor R2 is known.",
        low=0.0,
        high=100.0,
        unit="1/s",
    )


def relaxivity_of(acquisition: Acquisition, parameters: Separating, notes: list[str]) -> Relaxivity:
    """Return Dr at the B0 of an acquisition, noted."""
    positive, negative = parameters.dr_positive, parameters.dr_negative
    usual = Relaxivity(positive, positive if negative is None else negative)
    strength = acquisition.field_strength
    if strength is None:
        notes.append(f"B0 is not known, so Dr was taken for {USUAL_STRENGTH:g} T.")
        strength = USUAL_STRENGTH
    made = usual.at(strength)
    told = _figures(made)
    if strength != USUAL_STRENGTH:
        told += f" at {strength:g} T, in proportion from {_figures(usual)} at {USUAL_STRENGTH:g} T"
    notes.append(f"Relaxation by susceptibility: {told}.")
    return made


def _figures(relaxivity: Relaxivity) -> str:
    if relaxivity.positive == relaxivity.negative:
        return f"Dr = {relaxivity.positive:.4g} Hz/ppm for both kinds"
    return f"Dr+ = {relaxivity.positive:.4g} and Dr- = {relaxivity.negative:.4g} Hz/ppm"


class SourceSpace(Workspace):
    """A workspace whose susceptibility has a zero of its own, as sources >= 0 have.

    Parameters
    ----------
    acquisition : Acquisition
        With a local field, and R2' or R2*.
    device : torch.device
        Where to work.
    label : str
        Name of the method, for messages.
    parameters : Separating
        Of the method.
    """

    def __init__(
        self, acquisition: Acquisition, device: torch.device, label: str, parameters: Separating
    ) -> None:
        super().__init__(acquisition, device, label)
        self.r2prime, told = found_r2prime(acquisition, parameters.nominal_r2)
        """In 1/s, on the acquisition's grid."""
        self.notes += told
        self.relaxivity = relaxivity_of(acquisition, parameters, self.notes)

    def rate(self) -> Tensor:
        """R2' in 1/s, padded, zero outside the mask."""
        return self.place(self.r2prime)

    def rate_error(self) -> tuple[float, float]:
        """Return the error of R2' in 1/s, and what part of it is noise.

        ``sigma^2 = noise^2 + (DOUBT rms)^2``: the noise is read off neighbours where none of it was
        clipped, and what susceptibility makes of R2' is known no better than Dr.
        """
        rate = self.r2prime[self._box]
        noise = field_noise(rate, self._mask & (rate > 0))
        power = float(np.square(rate).sum(dtype=np.float64)) / self._count
        return math.hypot(noise, DOUBT * math.sqrt(power)), noise

    def _referenced(self, padded: Tensor) -> tuple[Tensor, float]:
        """Return a padded tensor in the mask as it is."""
        return self._masked(padded), 0.0

    def separated(self, sources: Sources) -> Generator[Step, None, Maps]:
        """Return the maps of two sources (ppm, padded): they, their difference, both residuals.

        The residuals are ``D (chi+ - chi-) - f`` and ``Dr+ chi+ + Dr- chi- - R2'``.
        """
        chi = sources.difference
        yield self.step(0.98, "computing the residuals", lambda: chi)
        field = self.dipole(chi).sub_(self.field())
        yield self.step(0.99, "computing the residuals", lambda: chi)
        decay = self.relaxivity.rate(sources.positive, sources.negative).sub_(self.rate())
        volumes = {
            Quantity.CHI_POS: sources.positive,
            Quantity.CHI_NEG: sources.negative,
            Quantity.CHI: chi,
            Quantity.RESIDUAL: field,
            Quantity.RESIDUAL_R2PRIME: decay,
        }
        maps: dict[Quantity, FloatArray] = {q: self.restore(v) for q, v in volumes.items()}
        self.notes.append(
            "Susceptibility is chi+ less chi-, both 0 or more, and so relative to what has neither."
        )
        provenance = Provenance(notes=tuple(dict.fromkeys(self.notes)), chosen=self.chosen)
        return Maps(self._acquisition.grid, {**maps, **self.extras}, provenance)


def after(work: Generator[Step, None, T], begun: float) -> Generator[Step, None, T]:
    """Run the last part of a whole, of which the fraction `begun` is done before."""

    def part(step: Step) -> Step:
        return replace(step, fraction=begun + (1 - begun) * step.fraction)

    return (yield from relayed(work, part))


@dataclass
class Sources:
    """chi+ and chi- in ppm (X, Y, Z), both >= 0."""

    positive: Tensor
    negative: Tensor

    @property
    def difference(self) -> Tensor:
        """Susceptibility."""
        return self.positive - self.negative


def zero_of(chi: Tensor, rate: Tensor, relaxivity: Relaxivity, region: Tensor) -> float:
    """Return what to add to a susceptibility so that as little as possible exceeds R2'.

    A constant makes no field, so inversions leave it open; but ``-R2'/Dr- <= chi <= R2'/Dr+``, and
    where nothing relaxes chi is zero. The shift c minimises the sum of squares by which ``chi + c``
    lies outside, which is convex; of several the one nearest to 0 is taken.

    Parameters
    ----------
    chi : (X, Y, Z) tensor
        In ppm.
    rate : (X, Y, Z) tensor
        R2' in 1/s.
    relaxivity : Relaxivity
        At the B0 of the data.
    region : (X, Y, Z) tensor of bool
        Where it counts.
    """
    inside, decay = _some(chi[region]), _some(rate[region])
    if not len(inside):
        return 0.0
    above = inside - decay / relaxivity.positive - ROUNDING
    below = inside + decay / relaxivity.negative + ROUNDING

    def slope(shift: float) -> float:
        return float((above + shift).clamp_(min=0).sum() + (below + shift).clamp_(max=0).sum())

    start = slope(0.0)
    if start == 0:
        return 0.0
    near, far = 0.0, -float(below.min() if start < 0 else above.max())
    for _ in range(BISECTIONS):
        middle = (near + far) / 2
        if slope(middle) * start > 0:
            near = middle
        else:
            far = middle
    return far


def _some(values: Tensor) -> Tensor:
    return values[:: max(1, len(values) // SAMPLE)]

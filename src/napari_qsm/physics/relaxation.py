"""How fast a signal decays: R2* from magnitudes at several echo times, and R2' of its sources.

Functions of a signal take tensors with the echoes first and work on every voxel at once.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

DETECTABLE = 2.0
"""Signal over noise from which on the logarithm's mean is off by less than 0.03."""

REWEIGHTINGS = 3


def arlo(signal: Tensor, spacing: float) -> Tensor:
    """Auto-regression on linear operations: R2* in closed form from equally spaced echoes.

    Of an exponential, the integral over two spacings is T2* times the drop over them. With
    Simpson's rule ``S_i = spacing / 3 (m_i + 4 m_(i+1) + m_(i+2))`` and ``d_i = m_i - m_(i+2)``,
    the fit of one against the other that counts errors of both alike is
    ``T2* = (sum S^2 + a sum S d) / (a sum d^2 + sum S d)`` with ``a = spacing / 3``. Without
    noise it is exact but for Simpson's rule: T2* is too long by a factor of
    ``x (cosh x + 2) / (3 sinh x)`` with ``x = spacing R2*``, 1 + x^4 / 180 for small x.

    Parameters
    ----------
    signal : (E, ...) tensor
        Magnitudes of three echoes or more, in any unit.
    spacing : float
        Time between echoes in s.

    Returns
    -------
    (...) tensor
        R2* in 1/s; negative where the signal grows, not finite where it is 0 throughout.

    Notes
    -----
    Reference: Pei et al. 2015, doi:10.1002/mrm.25137.
    """
    a = spacing / 3
    integral = (signal[:-2] + 4 * signal[1:-1] + signal[2:]).mul_(a)
    drop = signal[:-2] - signal[2:]
    mixed = (integral * drop).sum(0)
    rate: Tensor = (a * drop.square().sum(0) + mixed) / (integral.square().sum(0) + a * mixed)
    return rate


def log_linear(signal: Tensor, times: Tensor, noise: float = 0.0) -> Tensor:
    """Fit a line to the logarithm of the signal, echoes weighted by their squared signal.

    The logarithm of a magnitude has noise ``sigma / A``, so it counts ``A^2``. That A is taken
    from the fit itself and renewed: with measured weights echoes lifted by noise would count
    more. Noise moves the mean of ``ln m`` by ``E1(A^2 / 2 sigma^2) / 2`` only, which is nothing
    down to ``A = 2 sigma``; echoes whose fitted signal is lower are left out, but never the
    brightest two.

    Parameters
    ----------
    signal : (E, ...) tensor
        Magnitudes.
    times : (E,) tensor
        Ascending echo times in s.
    noise : float
        sigma of real and imaginary part in the unit of the signal; 0 to keep all echoes.

    Returns
    -------
    (...) tensor
        R2* in 1/s; not finite where fewer than two echoes have a signal.
    """
    logarithm = signal.log().nan_to_num_(neginf=0.0)
    present = signal > 0
    weights = signal.square()
    away = times.reshape(-1, *[1] * (signal.ndim - 1))
    for attempt in range(1 + REWEIGHTINGS):
        total = weights.sum(0)
        middle = (weights * away).sum(0) / total
        level = (weights * logarithm).sum(0) / total
        leverage = weights * (away - middle)
        slope = (leverage * logarithm).sum(0) / (leverage * (away - middle)).sum(0)
        if attempt < REWEIGHTINGS:
            fitted = (level + slope.clamp(max=0) * (away - middle)).exp()
            weights = fitted.square() * _audible(fitted, present, noise)
    rate: Tensor = -slope
    return rate


def _audible(fitted: Tensor, present: Tensor, noise: float) -> Tensor:
    """Say which echoes stand out of the noise; the first two that are present always count."""
    first = present.cumsum(0) <= 2
    return present & (first | (fitted > DETECTABLE * noise))


def exponential(
    signal: Tensor, times: Tensor, rate: Tensor, *, noise: float = 0.0, iterations: int = 10
) -> Tensor:
    """Fit ``A exp(-R2* t)`` to the signal by damped Gauss-Newton steps, each voxel with its own.

    Given the noise, the mean of a magnitude with that noise is fitted instead, so that the noise
    floor of late echoes is explained rather than taken for slow decay (`magnitude_mean`).

    Parameters
    ----------
    signal : (E, ...) tensor
        Magnitudes.
    times : (E,) tensor
        Echo times in s.
    rate : (...) tensor
        R2* to start from, in 1/s; finite.
    noise : float
        sigma of real and imaginary part in the unit of the signal; 0 for none.
    iterations : int
        Steps; one that would raise the misfit is not taken and the next one is shorter.

    Returns
    -------
    (...) tensor
        R2* in 1/s.
    """
    away = times.reshape(-1, *[1] * (signal.ndim - 1))
    fastest = 4 / float(times.min())
    decay = (-rate * away).exp()
    amplitude = (decay * signal).sum(0) / decay.square().sum(0)
    damping = torch.full_like(rate, 1e-3)
    model, steepness = magnitude_mean(amplitude * decay, noise)
    misfit = (signal - model).square().sum(0)
    for _ in range(iterations):
        left = signal - model
        by_amplitude = steepness * decay
        by_rate = by_amplitude * away * -amplitude
        step = _damped_step(by_amplitude, by_rate, left, damping)
        trial = (amplitude + step[0]).clamp_(min=0), (rate + step[1]).clamp_(-fastest, fastest)
        faded = (-trial[1] * away).exp()
        predicted, steeper = magnitude_mean(trial[0] * faded, noise)
        missed = (signal - predicted).square().sum(0)
        better = missed < misfit
        damping = torch.where(better, damping / 10, damping * 10)
        amplitude, rate = (
            torch.where(better, new, old) for new, old in zip(trial, (amplitude, rate), strict=True)
        )
        decay, model, steepness = (
            torch.where(better, new, old)
            for new, old in zip((faded, predicted, steeper), (decay, model, steepness), strict=True)
        )
        misfit = torch.where(better, missed, misfit)
    return rate


def _damped_step(
    first: Tensor, second: Tensor, left: Tensor, damping: Tensor
) -> tuple[Tensor, Tensor]:
    """Solve the two normal equations, their diagonal raised by a part `damping` of itself."""
    f = first.square().sum(0) * (1 + damping)
    s = second.square().sum(0) * (1 + damping)
    mixed = (first * second).sum(0)
    pull_f, pull_s = (first * left).sum(0), (second * left).sum(0)
    determinant = f * s - mixed.square()
    inverse = torch.where(determinant > 0, 1 / determinant, 0)
    return (s * pull_f - mixed * pull_s) * inverse, (f * pull_s - mixed * pull_f) * inverse


def magnitude_mean(signal: Tensor, noise: float) -> tuple[Tensor, Tensor]:
    """Mean of the magnitude of a signal with complex noise, and its derivative by the signal.

    The mean of Rice's distribution, ``sigma sqrt(pi / 2) L(-x)`` with ``x = A^2 / 2 sigma^2`` and
    ``L(-x) = exp(-x/2) ((1 + x) I0(x/2) + x I1(x/2))``: about ``A + sigma^2 / 2 A`` for strong
    signals, ``1.253 sigma`` for none. Reference: Rice 1944,
    doi:10.1002/j.1538-7305.1944.tb00874.x.
    """
    if noise <= 0:
        return signal, torch.ones_like(signal)
    ratio = signal / noise
    x = ratio.square() / 2
    zeroth, first = torch.special.i0e(x / 2), torch.special.i1e(x / 2)
    mean = noise * math.sqrt(math.pi / 2) * ((1 + x) * zeroth + x * first)
    slope: Tensor = math.sqrt(math.pi / 8) * ratio * (zeroth + first)
    return mean, slope


USUAL_STRENGTH = 3.0
"""B0 in T that relaxivities are stated for."""


@dataclass(frozen=True)
class Relaxivity:
    """How much R2' susceptibility makes: ``R2' = Dr+ chi+ + Dr- chi-``.

    ``chi+ >= 0`` is the susceptibility of paramagnetic sources and ``chi- >= 0`` the magnitude of
    that of diamagnetic ones, so that ``chi = chi+ - chi-``, everything in ppm. Whoever reads or
    writes a signed chi- converts it at the edge.

    Parameters
    ----------
    positive, negative : float
        Dr+ and Dr- in Hz/ppm, that is 1/s of R2' per ppm, at the B0 of the data; above 0.

    Notes
    -----
    Reference: Shin et al. 2021, doi:10.1016/j.neuroimage.2021.118371.
    """

    positive: float
    negative: float

    @property
    def mean(self) -> float:
        """``Dr = (Dr+ + Dr-) / 2``, by which R2' becomes a susceptibility in ppm."""
        return (self.positive + self.negative) / 2

    @property
    def shares(self) -> tuple[float, float]:
        """``Dr+ / Dr`` and ``Dr- / Dr``; both 1 where both kinds relax alike."""
        return self.positive / self.mean, self.negative / self.mean

    def at(self, field_strength: float) -> "Relaxivity":
        """Return the relaxivity at another B0 in T for one at 3 T; it is proportional to B0."""
        scale = field_strength / USUAL_STRENGTH
        return Relaxivity(self.positive * scale, self.negative * scale)

    def rate(self, positive: Tensor, negative: Tensor) -> Tensor:
        """R2' in 1/s of chi+ and chi- in ppm."""
        return self.positive * positive + self.negative * negative

    def separated(self, chi: Tensor, rate: Tensor) -> tuple[Tensor, Tensor]:
        """Separate a susceptibility in ppm by R2' in 1/s, voxel by voxel: chi+ and chi-.

        ``chi+ = (R2' + Dr- chi) / (Dr+ + Dr-)`` and ``chi- = (R2' - Dr+ chi) / (Dr+ + Dr-)``,
        neither below zero: where chi is more than R2' allows, one kind is all there is.
        """
        total = self.positive + self.negative
        positive = (rate + self.negative * chi).div_(total)
        negative = (rate - self.positive * chi).div_(total)
        return positive.clamp_(min=0), negative.clamp_(min=0)

"""The digital head as a scanner sends it: wrapped phase of several echoes, skull and all.

`scan` measures a head with everything around it, `raw_head` draws and scans one, and
`sample_raw_head` does both for a named case. `napari_qsm.training.phantom` measures the same heads
without surroundings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from napari_qsm.acquisition import (
    Acquisition,
    FloatArray,
    Grid,
    InputError,
    Maps,
    Provenance,
    Quantity,
)
from napari_qsm.physics.dipole import DipoleConvolution
from napari_qsm.physics.units import radians_per_ppm
from napari_qsm.training.phantom import CASES, SAMPLE_SEED, Head, digital_head
from napari_qsm.training.skull import SURROUNDING_LABEL, SURROUNDINGS, Scene, surrounded
from napari_qsm.training.tissues import LABEL, R2PRIME_PER_PPM, region_masks

ECHO_TIMES = (0.004, 0.012, 0.020, 0.028)

OFFSET_RMS = 2.0
"""How far the receiver's phase strays from its mean over the brain, in rad."""

GAIN_RMS = 0.15
"""How far the logarithm of the receiver's gain strays over the brain."""


@dataclass(frozen=True, eq=False)
class RawPhantom:
    """A raw measurement with its truth.

    Parameters
    ----------
    acquisition : Acquisition
        PHASE (rad, wrapped) and MAGNITUDE with echoes last, echo times and B0. There is no mask.
    truth : Maps
        CHI in ppm relative to CSF, LOCAL_FIELD (of sources in the brain alone), TOTAL_FIELD, R2STAR
        and MASK, zero outside the brain; OFFSET and LABELS everywhere.
    field : (X, Y, Z) array
        The field in ppm that turns the spins of each voxel, also outside the brain, where fat's
        chemical shift is part of it.
    noise : float
        Standard deviation of the noise in one channel of the signal.
    """

    acquisition: Acquisition
    truth: Maps
    field: FloatArray
    noise: float

    @cached_property
    def regions(self) -> Mapping[str, NDArray[np.bool_]]:
        """Masks as in `napari_qsm.training.phantom.Phantom`, and the surroundings by name."""
        labels = self.truth[Quantity.LABELS].astype(np.uint8)
        around = {name: labels == label for name, label in SURROUNDING_LABEL.items()}
        return MappingProxyType(region_masks(labels) | around)


def scan(
    head: Head,
    *,
    echo_times: Sequence[float] = ECHO_TIMES,
    field_strength: float = 3.0,
    snr: float = 80.0,
    receiver: bool = True,
    seed: int = 0,
) -> RawPhantom:
    """Measure a head in its skull with a multi-echo spoiled gradient echo.

    The field of all voxels is shimmed, ``f = d * chi - h``, where h is the harmonic polynomial of
    second order (nine terms) closest to it over the brain. The signal of echo t is
    ``S = c S0 exp(-t R2* + i 2 pi gamma f t) prod_a sinc(g_a t / 2 pi)`` plus complex white noise,
    with R2* = R2 + k B0 |chi| inside the brain as in `napari_qsm.training.phantom.simulate`, and g
    the phase's change across a voxel in unit time, to the side where it is smaller. The receiver's
    sensitivity c is smooth and strays by 2 rad and 15 % over the brain (root mean square).

    Parameters
    ----------
    head : Head
        From `napari_qsm.training.phantom.digital_head`.
    echo_times : sequence of float
        In s.
    field_strength : float
        B0 in T.
    snr : float
        Median white matter signal in the first echo over the noise of one channel; ``inf`` for
        none.
    receiver : bool
        Whether the receiver adds a phase and shades the image; otherwise c = 1.
    seed : int
        Of noise and receiver.
    """
    scene = surrounded(head)
    coil, noise = (np.random.default_rng([seed, head.seed, part]) for part in range(2))
    local, field = _fields(scene)
    field += scene.shift
    iron = np.float32(R2PRIME_PER_PPM * field_strength) * scene.brain
    rate = scene.rate + iron * np.abs(scene.chi)
    gain, offset = _receiver(scene, coil) if receiver else (np.ones_like(field), 0 * field)
    signal = _Signal(scene.water * gain, rate, field, offset, field_strength)
    white = scene.labels == LABEL["white matter"]
    level = float(np.median(np.abs(signal.at(min(echo_times)))[white])) / snr
    shape = (*scene.grid.shape, len(echo_times))
    phase, magnitude = np.empty(shape, np.float32), np.empty(shape, np.float32)
    for index, time in enumerate(echo_times):
        echo = torch.from_numpy(signal.at(time) + _white_noise(scene.grid.shape, level, noise))
        magnitude[..., index], phase[..., index] = echo.abs().numpy(), echo.angle().numpy()

    source = f"digital head, seed {head.seed}"
    acquisition = Acquisition(
        grid=scene.grid,
        volumes={Quantity.PHASE: phase, Quantity.MAGNITUDE: magnitude},
        field_strength=field_strength,
        echo_times=tuple(echo_times),
        sources=dict.fromkeys((Quantity.PHASE, Quantity.MAGNITUDE), source),
        notes=("Simulated: the digital head with skull, scalp and air around its brain.",),
    )
    truth = _truth(head, scene, local, field, offset, rate)
    return RawPhantom(acquisition, truth, field, level)


def raw_head(
    voxel_size: float | Sequence[float] = 1.0,
    *,
    seed: int = 0,
    tilt: tuple[float, float] = (0.0, 0.0),
    lesions: Sequence[str] = ("haemorrhage", "calcification"),
    echo_times: Sequence[float] = ECHO_TIMES,
    field_strength: float = 3.0,
    snr: float = 80.0,
    receiver: bool = True,
) -> RawPhantom:
    """Draw a head and scan it: `digital_head`, then `scan`; one seed for both.

    Raises
    ------
    InputError
        If a voxel size is out of range or a lesion unknown.
    """
    return scan(
        digital_head(voxel_size, seed=seed, tilt=tilt, lesions=lesions),
        echo_times=echo_times,
        field_strength=field_strength,
        snr=snr,
        receiver=receiver,
        seed=seed,
    )


def sample_raw_head(
    kind: str = "haemorrhage",
    voxel_size: float | Sequence[float] = 1.0,
    *,
    seed: int = SAMPLE_SEED,
    tilt: tuple[float, float] = (0.0, 0.0),
) -> RawPhantom:
    """Draw and scan a sample case at 3 T, four echoes, SNR 80: one of `CASES`.

    Raises
    ------
    InputError
        If `kind` is unknown or the voxel size out of range.
    """
    if kind not in CASES:
        raise InputError(f"There is no sample head '{kind}'; there are {', '.join(CASES)}.")
    return raw_head(voxel_size, seed=seed, tilt=tilt, lesions=CASES[kind])


def _fields(scene: Scene) -> tuple[FloatArray, FloatArray]:
    """Field of the sources in the brain, and of everything after the shim, in ppm everywhere.

    Around the grid there is air. Fields do not feel a susceptibility that is the same everywhere,
    so the surroundings enter relative to air, and the brain with CSF's; what the brain has beyond
    that is the source of the local field.
    """
    air = np.float32(SURROUNDINGS[0].chi)
    operator = DipoleConvolution(scene.grid, kernel="cuboid", padding=2.0)
    inside = np.where(scene.brain, scene.chi, 0)
    local: FloatArray = operator(torch.from_numpy(inside)).numpy()
    outside = scene.chi - inside
    outside -= air
    field: FloatArray = operator(torch.from_numpy(outside)).numpy()
    del operator
    field += local
    _shim(field, scene.brain, scene.grid)
    return local, field


def _axes(grid: Grid) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Positions along the voxel axes from the middle of the grid in units of 100 mm."""
    x, y, z = (
        ((np.arange(n) - (n - 1) / 2) * size / 100).astype(np.float32)
        for n, size in zip(grid.shape, grid.voxel_size, strict=True)
    )
    return x[:, None, None], y[:, None], z


def _shim(field: FloatArray, brain: NDArray[np.bool_], grid: Grid) -> None:
    """Take the closest harmonic polynomial of second order over the brain out of a field.

    The nine terms span the same space however the axes are turned, so B0 may be oblique to them.
    """
    x, y, z = _axes(grid)
    one = np.ones((1, 1, 1), np.float32)
    terms = (one, x, y, z, x * y, y * z, z * x, x * x - y * y, 2 * z * z - x * x - y * y)
    few = np.flatnonzero(brain)[:: max(1, np.count_nonzero(brain) // 100_000)]
    places = np.unravel_index(few, field.shape)
    design = np.stack([np.broadcast_to(t, field.shape)[places] for t in terms], axis=1)
    weights = np.linalg.lstsq(design.astype(np.float64), field[places], rcond=None)[0]
    for weight, term in zip(weights, terms, strict=True):
        field -= np.float32(weight) * term


def _receiver(scene: Scene, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Gain and phase of a receiver: random polynomials of second order in the position.

    They are not harmonic, so a background removal cannot take the phase for a field from outside.
    """
    x, y, z = _axes(scene.grid)
    terms = (x, y, z, x * x, y * y, z * z, x * y, y * z, z * x)
    made = []
    for spread in (GAIN_RMS, OFFSET_RMS):
        total = np.zeros(scene.grid.shape, np.float32)
        for weight, term in zip(rng.uniform(-1, 1, len(terms)), terms, strict=True):
            total += np.float32(weight) * term
        within = total[scene.brain].astype(np.float64)
        total -= np.float32(within.mean())
        total *= np.float32(spread / within.std())
        made.append(total)
    gain, offset = made
    offset += np.float32(rng.uniform(-np.pi, np.pi))
    return np.exp(gain), offset


class _Signal:
    """The signal without noise, evaluated where there is anything that gives one."""

    def __init__(
        self,
        strength: FloatArray,
        rate: FloatArray,
        field: FloatArray,
        offset: FloatArray,
        field_strength: float,
    ) -> None:
        self.shape = field.shape
        self.there = np.flatnonzero(strength)
        self.field_strength = field_strength
        self.slopes = [_slope(field, axis).ravel()[self.there] for axis in range(3)]
        self.strength, self.rate, self.field, self.offset = (
            volume.ravel()[self.there] for volume in (strength, rate, field, offset)
        )

    def at(self, time: float) -> NDArray[np.complex64]:
        """Complex signal after `time` s."""
        radians = np.float32(radians_per_ppm(self.field_strength, time))
        strength = self.strength * np.exp(np.float32(-time) * self.rate)
        for slope in self.slopes:
            strength *= np.abs(np.sinc(slope * (radians / np.float32(2 * np.pi))))
        angle = torch.from_numpy(self.offset + radians * self.field)
        signal = np.zeros(self.shape, np.complex64)
        signal.ravel()[self.there] = torch.polar(torch.from_numpy(strength), angle).numpy()
        return signal


def _slope(field: FloatArray, axis: int) -> FloatArray:
    """Change of a field across a voxel: the smaller of those to both sides, 0 at a peak.

    A voxel at a border must not fan out by the jump of the field behind it.
    """
    ahead = np.diff(field, axis=axis, append=np.take(field, [-1], axis=axis))
    behind = np.roll(ahead, 1, axis=axis)
    slope: FloatArray = np.clip(ahead, np.minimum(behind, 0), np.maximum(behind, 0))
    return slope


def _white_noise(
    shape: tuple[int, int, int], level: float, rng: np.random.Generator
) -> NDArray[np.complex64]:
    channels = rng.standard_normal((*shape, 2), dtype=np.float32)
    channels *= np.float32(level)
    return channels.view(np.complex64)[..., 0]


def _truth(
    head: Head,
    scene: Scene,
    local: FloatArray,
    field: FloatArray,
    offset: FloatArray,
    rate: FloatArray,
) -> Maps:
    inside = {
        Quantity.CHI: scene.chi,
        Quantity.LOCAL_FIELD: local,
        Quantity.TOTAL_FIELD: field,
        Quantity.R2STAR: rate,
    }
    volumes: dict[Quantity, NDArray[Any]] = {q: v * scene.brain for q, v in inside.items()}
    volumes |= {Quantity.MASK: scene.brain, Quantity.OFFSET: offset, Quantity.LABELS: scene.labels}
    provenance = Provenance(method="digital head", parameters={"seed": head.seed})
    return Maps(scene.grid, volumes, provenance)

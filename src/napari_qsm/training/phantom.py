"""The digital head: a brain whose susceptibility is known, and what a scanner would measure of it.

`digital_head` draws a head, `simulate` measures it, `sample_head` does both for a named case.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

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
from napari_qsm.training.anatomy import Anatomy, Points, Sampling, Warp, allen_head
from napari_qsm.training.lesions import LESIONS
from napari_qsm.training.tissues import (
    LABEL,
    R2PRIME_PER_PPM,
    TISSUES,
    by_label,
    region_masks,
)
from napari_qsm.training.veins import venous_tree, volume_share

REPETITION_TIME = 0.045
FLIP_ANGLE = 8.0
"""Of the simulated spoiled gradient echo, in s and degrees: low enough for fluid to be bright."""

VOXEL_SIZES_MM = (0.4, 8.0)


@dataclass(frozen=True, eq=False)
class Head:
    """A head before it is measured.

    Parameters
    ----------
    grid : Grid
        Where it lies; voxel axes follow the head (x right, y front, z up before tilting).
    labels : (X, Y, Z) array of uint8
        Tissue at the centre of each voxel, `napari_qsm.training.tissues.LABEL`; 0 is outside.
    chi : (X, Y, Z) array
        Susceptibility in ppm relative to CSF, zero outside the mask.
    water : (X, Y, Z) array
        Gradient-echo signal at TE = 0 in units of pure water at full recovery.
    r2 : (X, Y, Z) array
        Irreversible transverse relaxation in 1/s.
    seed : int
        What it was drawn with.
    """

    grid: Grid
    labels: NDArray[np.uint8]
    chi: FloatArray
    water: FloatArray
    r2: FloatArray
    seed: int

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Brain with its CSF."""
        inside: NDArray[np.bool_] = self.labels > 0
        return inside


@dataclass(frozen=True, eq=False)
class Phantom:
    """A measurement with its truth.

    Parameters
    ----------
    acquisition : Acquisition
        LOCAL_FIELD in ppm, MAGNITUDE, MASK, B0 and the echo time: what a method is given.
    truth : Maps
        CHI in ppm relative to CSF, and LABELS.
    field : (X, Y, Z) array
        The field in ppm without noise, zero outside the mask.
    noise : (X, Y, Z) array
        Standard deviation of the noise in the field in ppm.
    regions : mapping of str to (X, Y, Z) array of bool
        Every tissue of the table by name, and "white matter", "grey matter", "deep grey matter",
        "csf", "veins", "haemorrhage" and "calcification". Absent lesions have no entry.
    """

    acquisition: Acquisition
    truth: Maps
    field: FloatArray
    noise: FloatArray
    regions: Mapping[str, NDArray[np.bool_]]


def digital_head(
    voxel_size: float | Sequence[float] = 1.0,
    *,
    seed: int = 0,
    tilt: tuple[float, float] = (0.0, 0.0),
    lesions: Sequence[str] = ("haemorrhage", "calcification"),
    veins: bool = True,
    variation: float = 2.0,
    spread: float = 1.0,
    anatomy: Anatomy | None = None,
    parts: int = 3,
) -> Head:
    """Draw a head with a known susceptibility.

    The shipped anatomy is warped, every tissue gets a mean drawn about the value of the table and a
    smooth texture, lesions and veins are drawn in. Voxels average parts of about 0.5 mm, so borders
    show partial volume.

    Parameters
    ----------
    voxel_size : float or three floats
        In mm, 0.4 to 8.
    seed : int
        The same seed gives the same head, byte for byte.
    tilt : tuple[float, float]
        Nod (about the left-right axis) and lean (about the front-back axis) in degrees. Voxels stay
        aligned with the head, so B0 becomes oblique to them.
    lesions : sequence of str
        Any of "haemorrhage" and "calcification".
    veins : bool
        Whether to draw veins.
    variation : float
        Root mean square in mm by which this head departs from the atlas.
    spread : float
        Factor on how far the tissues' means depart from the table.
    anatomy : Anatomy, optional
        What is warped, instead of the shipped head.
    parts : int
        Most parts that a side of a voxel is cut into for partial volume; each costs time.

    Raises
    ------
    InputError
        If a voxel size is out of range or a lesion unknown.
    """
    size = _checked_size(voxel_size)
    for name in lesions:
        if name not in LESIONS:
            raise InputError(f"There is no lesion '{name}'; there are {', '.join(LESIONS)}.")
    # One stream for each part: leaving one out changes no other.
    warping, filling, placing, growing = (np.random.default_rng([seed, part]) for part in range(4))
    anatomy = allen_head() if anatomy is None else anatomy
    sampling = Sampling(anatomy, Warp(anatomy, variation, warping), size)
    drawn = [LESIONS[name](placing) for name in lesions]
    painters = [lesion.painter(sampling) for lesion in drawn]

    tables = _drawn_tables(filling, spread)
    maps = np.zeros((len(tables), *sampling.shape), dtype=np.float32)
    offsets = list(sampling.subvoxels(parts))
    for offset in offsets:
        labels = sampling.labels(offset)
        for paint in painters:
            paint(labels, offset)
        for total, table in zip(maps, tables, strict=True):
            total += table[labels]
    maps /= len(offsets)

    labels = sampling.labels(np.zeros(3))
    for paint in painters:
        paint(labels, np.zeros(3))
    if veins:
        share = volume_share(venous_tree(anatomy, growing), sampling)
        share[(labels == 0) | (labels >= LABEL["vein"])] = 0  # they stop at the brain and at blood
        for total, table in zip(maps, tables, strict=True):
            total += share * (table[LABEL["vein"]] - total)
        labels[share > 0.5] = LABEL["vein"]

    chi, texture, water, r2 = maps
    chi += texture * _smooth_noise(sampling.shape, size, filling)
    for volume in (chi, water, r2):
        volume[labels == 0] = 0
    return Head(_grid(sampling, tilt), labels, chi, water, r2, seed)


def simulate(
    head: Head,
    *,
    field_strength: float = 3.0,
    echo_time: float = 0.020,
    snr: float = 80.0,
    seed: int = 0,
) -> Phantom:
    """Measure a head with one gradient echo, background field already removed.

    The field is that of the voxels inside the mask, each a uniformly magnetised cuboid, with CSF's
    susceptibility outside: ``f = d * chi``. The signal is
    ``|S| = S0 exp(-TE (R2 + k B0 |chi|)) prod_a sinc(g_a TE / 2 pi)`` with k of Shin et al. 2021
    and the sinc for spins that fan out along the phase gradient g of a voxel. Complex white noise n
    is added; the field's noise is its angle, ``arg(1 + n / |S|) / (2 pi gamma B0 TE)``, of standard
    deviation ``1 / (SNR 2 pi gamma B0 TE)`` where the voxel's own SNR is well above 1.

    Parameters
    ----------
    head : Head
        From `digital_head`.
    field_strength, echo_time : float
        B0 in T and TE in s.
    snr : float
        Median white matter signal over the noise of one channel; ``inf`` for none.
    seed : int
        Of the noise.
    """
    mask = head.mask
    field = field_inside(head.chi, mask, head.grid)

    scale = radians_per_ppm(field_strength, echo_time)
    rate = head.r2 + R2PRIME_PER_PPM * field_strength * np.abs(head.chi)
    signal = head.water * np.exp(-echo_time * rate)
    for gradient in np.gradient(field):
        signal *= np.abs(np.sinc(gradient * (scale / (2 * np.pi))))
    field *= mask
    level = float(np.median(signal[head.labels == LABEL["white matter"]])) / snr

    rng = np.random.default_rng([seed, head.seed])
    real, imaginary = (level * rng.standard_normal(mask.shape, dtype=np.float32) for _ in range(2))
    magnitude = np.hypot(signal + real, imaginary) * mask
    noisy = (field + np.arctan2(imaginary, signal + real) / scale) * mask
    # A phase that is all noise is spread evenly over a turn.
    spread = np.minimum(level / np.maximum(signal, 1e-6), np.pi / np.sqrt(3))

    source = f"digital head, seed {head.seed}"
    acquisition = Acquisition(
        grid=head.grid,
        volumes={
            Quantity.LOCAL_FIELD: noisy,
            Quantity.MAGNITUDE: magnitude,
            Quantity.MASK: mask,
        },
        field_strength=field_strength,
        echo_times=(echo_time,),
        sources=dict.fromkeys((Quantity.LOCAL_FIELD, Quantity.MAGNITUDE, Quantity.MASK), source),
        notes=(
            "Simulated: the field comes from inside the mask only; truth and field are relative "
            "to CSF.",
        ),
    )
    truth = Maps(
        grid=head.grid,
        volumes={Quantity.CHI: head.chi, Quantity.LABELS: head.labels},
        provenance=Provenance(method="digital head", parameters={"seed": head.seed}),
    )
    noise = (spread / scale * mask).astype(np.float32)
    return Phantom(acquisition, truth, field, noise, MappingProxyType(region_masks(head.labels)))


def orientations(
    phantom: Phantom, directions: Sequence[Sequence[float]], *, seed: int = 0
) -> Phantom:
    """Measure the head of a phantom in further orientations, registered without an error.

    Each field is that of the same susceptibility in another B0, with noise of its own of the same
    deviation in every voxel. The magnitude is that of the phantom: what dephasing takes from it
    depends on B0, but it serves as a weight only.

    Parameters
    ----------
    phantom : Phantom
        The first orientation.
    directions : sequence of three numbers each
        B0 of the further ones along the voxel axes, of any length.
    seed : int
        Of the noise; each orientation draws from a stream of its own, whatever the others are.

    Returns
    -------
    Phantom
        Its acquisition has one in `Acquisition.others` for each direction.
    """
    first = phantom.acquisition
    grids = [first.grid.with_b0(direction) for direction in directions]
    others = []
    for number, grid in enumerate(grids, start=2):
        field = field_inside(phantom.truth[Quantity.CHI], first.mask, grid)
        rng = np.random.default_rng([seed, number])
        field += phantom.noise * rng.standard_normal(grid.shape, dtype=np.float32)
        volumes = {**first.volumes, Quantity.LOCAL_FIELD: field * first.mask}
        others.append(replace(first, grid=grid, volumes=volumes))
    return replace(phantom, acquisition=replace(first, others=tuple(others)))


CASES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "healthy": (),
        "haemorrhage": ("haemorrhage",),
        "calcification": ("calcification",),
        "haemorrhage and calcification": ("haemorrhage", "calcification"),
    }
)
"""The sample cases by name, with the lesions each one has."""

SAMPLE_SEED = 74
"""A head whose structures all lie near the table's values."""


def sample_head(
    kind: str = "haemorrhage",
    voxel_size: float | Sequence[float] = 1.0,
    *,
    seed: int = SAMPLE_SEED,
    tilt: tuple[float, float] = (0.0, 0.0),
) -> Phantom:
    """Draw and measure a sample case at 3 T, TE 20 ms, SNR 80: one of `CASES`.

    Raises
    ------
    InputError
        If `kind` is unknown or the voxel size out of range.
    """
    if kind not in CASES:
        raise InputError(f"There is no sample head '{kind}'; there are {', '.join(CASES)}.")
    return simulate(digital_head(voxel_size, seed=seed, tilt=tilt, lesions=CASES[kind]), seed=seed)


def _checked_size(voxel_size: float | Sequence[float]) -> Points:
    size = np.broadcast_to(np.asarray(voxel_size, dtype=np.float64), (3,)).copy()
    low, high = VOXEL_SIZES_MM
    if not ((size >= low) & (size <= high)).all():
        raise InputError(
            f"The voxel size {size.tolist()} mm is out of range; choose {low:g} to {high:g} mm."
        )
    return size


def _drawn_tables(rng: np.random.Generator, spread: float) -> tuple[FloatArray, ...]:
    """Per label: this head's mean chi, its texture (ppm), signal at TE = 0, and R2."""
    half = 1 / np.sqrt(2)  # half of the variance between heads, half within the structure
    departure = rng.standard_normal(len(TISSUES)).clip(-2, 2) * (half * spread)
    return (
        by_label([t.chi + t.spread * d for t, d in zip(TISSUES, departure, strict=True)]),
        by_label([t.spread * half for t in TISSUES]),
        by_label([t.water.signal(REPETITION_TIME, FLIP_ANGLE) for t in TISSUES]),
        by_label([t.water.r2 for t in TISSUES]),
    )


def _smooth_noise(
    shape: tuple[int, int, int], size: Points, rng: np.random.Generator
) -> FloatArray:
    """Noise of unit variance with structure of about 3 mm and about 10 mm in equal parts."""
    total = np.zeros(shape, dtype=np.float32)
    for width in (1.2, 4.0):
        white = rng.standard_normal(shape, dtype=np.float32)
        smooth = ndimage.gaussian_filter(white, width / size, mode="wrap", truncate=3.0)
        total += smooth * np.float32(np.sqrt(0.5) / smooth.std())
    return total


def _grid(sampling: Sampling, tilt: tuple[float, float]) -> Grid:
    """Grid of a head turned about the atlas origin, which lies at the isocentre."""
    nod, lean = np.radians(tilt)
    about_x = np.array([[1, 0, 0], [0, np.cos(nod), -np.sin(nod)], [0, np.sin(nod), np.cos(nod)]])
    about_y = np.array(
        [[np.cos(lean), 0, np.sin(lean)], [0, 1, 0], [-np.sin(lean), 0, np.cos(lean)]]
    )
    turn = about_y @ about_x
    affine = np.eye(4)
    affine[:3, :3] = turn * sampling.voxel_size
    affine[:3, 3] = turn @ sampling.start
    return Grid(sampling.shape, affine)


def field_inside(susceptibility: FloatArray, mask: NDArray[np.bool_], grid: Grid) -> FloatArray:
    """Field in ppm in the box around the mask, of what lies inside the mask."""
    (box,) = ndimage.find_objects(mask.astype(np.uint8))
    chi = torch.from_numpy(np.ascontiguousarray(susceptibility[box]))
    x, y, z = chi.shape
    cropped = Grid((x, y, z), grid.affine, grid.b0_direction)
    field = np.zeros_like(susceptibility)
    field[box] = DipoleConvolution(cropped, kernel="cuboid", padding=2.0)(chi).numpy()
    return field

"""Whom networks learn from, and on whom they are tested: random heads, measured at random.

A population is a few ranges; a case is one draw of it, the same for the same seed. What makes
measured fields differ from clean ones is in it: noise that follows the signal, errors that no
susceptibility explains, remnants of the background, eroded masks and slabs whose field comes
from outside as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from scipy import ndimage

from napari_qsm.acquisition import Acquisition, FloatArray, Grid, Quantity
from napari_qsm.physics.dipole import DipoleConvolution
from napari_qsm.physics.units import radians_per_ppm
from napari_qsm.preparation.noise import field_spread
from napari_qsm.surroundings import bounding_box
from napari_qsm.training.anatomy import ANATOMIES
from napari_qsm.training.phantom import Head, digital_head, field_inside
from napari_qsm.training.sources import (
    geometry,
    paint_lesions,
    paint_vessels,
    rough_field,
    smooth_field,
)
from napari_qsm.training.tissues import LABEL, R2PRIME_PER_PPM

Range = tuple[float, float]

FIRST_HEAD = 500_000
"""Added to a case's seed for its anatomy, so that sample heads are new to every network."""


class Population(BaseModel):
    """The ranges a case is drawn from; part of a recipe.

    Parameters
    ----------
    anatomy : str
        Whose head is deformed: a name of `napari_qsm.training.anatomy.ANATOMIES`.
    geometry : float
        Share of cases without any anatomy.
    lesions : mapping of str to float
        Share of cases that have lesions of a kind.
    voxel_size : (float, float)
        In mm.
    anisotropy : float
        Largest ratio of the slice thickness to the other sides.
    tilt : float
        Largest angle between B0 and the third voxel axis in degrees.
    deformation : (float, float)
        Root mean square in mm of the departure from the atlas.
    spread : (float, float)
        Factor on the spread of the tissues' means.
    texture : (float, float)
        Root mean square in ppm of fine structure within the tissues of a head.
    contrast : (float, float)
        Factor on what is weaker than about 0.05 ppm: grey against white matter.
    vessels : (int, int)
        Fewest and most small veins besides the venous tree.
    parts : int
        Most parts that a side of a voxel is cut into for partial volume.
    error : (float, float)
        Root mean square error of the field over the spread of the field; logarithms are spread
        evenly. The spread is one that a haematoma does not decide:
        `napari_qsm.preparation.noise.field_spread`.
    rim : float
        How much larger errors are at the border of the mask than deep inside, less one.
    slabs : float
        Share of cases cut to a slab.
    erosion : int
        Most voxels that the mask is eroded by.
    field_strength, echo_time : (float, float)
        In T and s; they decide how fast the signal fades around strong sources.
    inverted : float
        Share of cases with the sign of all susceptibility turned round.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    anatomy: Literal["allen", "icbm"] = "allen"
    geometry: float = 0.25
    lesions: dict[str, float] = {
        "microbleeds": 0.25,
        "haemorrhage": 0.2,
        "calcification": 0.15,
        "cyst": 0.1,
    }
    voxel_size: Range = (0.9, 1.6)
    anisotropy: float = 1.4
    tilt: float = 15.0
    deformation: Range = (1.0, 5.0)
    spread: Range = (0.7, 2.0)
    texture: Range = (0.0, 0.04)
    contrast: Range = (0.15, 1.0)
    vessels: tuple[int, int] = (0, 800)
    parts: int = 1
    error: Range = (0.08, 0.8)
    rim: float = 2.0
    slabs: float = 0.45
    erosion: int = 3
    field_strength: Range = (1.5, 7.0)
    echo_time: Range = (0.012, 0.030)
    inverted: float = 0.1


@dataclass(frozen=True)
class Lattice:
    """Voxels of a case and their B0, known without drawing it.

    Parameters
    ----------
    voxel_size : tuple[float, float, float]
        Sides in mm.
    tilt : tuple[float, float]
        How far B0 nods and leans from the third axis, in degrees.
    """

    voxel_size: tuple[float, float, float]
    tilt: tuple[float, float]

    @property
    def b0_direction(self) -> tuple[float, float, float]:
        """Unit vector of B0 in voxel axes."""
        return b0_direction(self.tilt)


@dataclass(frozen=True, eq=False)
class Case:
    """One measurement of one head, with its truth.

    Parameters
    ----------
    acquisition : Acquisition
        LOCAL_FIELD in ppm, MASK, MAGNITUDE and FIELD_NOISE.
    chi : (X, Y, Z) array
        Susceptibility in ppm, with a mean of zero in the mask and zero outside.
    lesions : (X, Y, Z) array of bool
        Where lesions are.
    seed : int
        It was drawn with.
    """

    acquisition: Acquisition
    chi: FloatArray
    lesions: NDArray[np.bool_]
    seed: int


@dataclass(frozen=True, eq=False)
class Subject:
    """Susceptibility before it is measured: on a grid, with the signal at the echo time."""

    grid: Grid
    chi: FloatArray
    mask: NDArray[np.bool_]
    lesions: NDArray[np.bool_]
    water: FloatArray
    r2: FloatArray


def draw(population: Population, seed: int) -> Case:
    """Draw one case; the same seed gives the same case."""
    choices, painting, measuring, masking = (_stream(seed, part) for part in range(4))
    subject = _subject(population, seed, choices, painting)
    mask = visible(subject.mask, population, masking)
    box = bounding_box(mask)
    measured = measurement(subject, mask, population, measuring)
    inside, chi = mask[box], subject.chi[box]
    truth = (chi - chi[inside].mean(dtype=np.float64)).astype(np.float32) * inside
    x, y, z = inside.shape
    acquisition = Acquisition(
        grid=Grid((x, y, z), subject.grid.affine, subject.grid.b0_direction),
        volumes={quantity: volume[box] for quantity, volume in measured.items()},
    )
    return Case(acquisition, truth, subject.lesions[box] & inside, seed)


def lattice(population: Population, seed: int) -> Lattice:
    """Return voxel size and tilt of a case."""
    return drawn_lattice(population, _stream(seed, 0))


def drawn_lattice(population: Population, rng: np.random.Generator) -> Lattice:
    """Draw voxel size and tilt."""
    side = float(rng.uniform(*population.voxel_size))
    thick = side * float(rng.uniform(1, population.anisotropy))
    nod, lean = (rng.uniform(-1, 1, 2) * population.tilt / np.sqrt(2)).tolist()
    return Lattice((side, side, thick), (nod, lean))


def _stream(seed: int, part: int) -> np.random.Generator:
    """Return the random numbers of a part of a case; voxels and B0 are the first of part 0."""
    return np.random.default_rng([seed, part, 5])


def _subject(
    population: Population, seed: int, rng: np.random.Generator, painting: np.random.Generator
) -> Subject:
    voxels = drawn_lattice(population, rng)
    if rng.random() < population.geometry:
        sizes = np.array(voxels.voxel_size)
        x, y, z = (int(n) for n in rng.integers(88, 128, 3))
        chi, mask = geometry((x, y, z), sizes, painting)
        grid = Grid(mask.shape, np.diag([*sizes, 1.0]), voxels.b0_direction)
        texture = smooth_field(mask.shape, sizes, 6.0, painting)
        water = (0.8 * np.exp(0.2 * texture)).astype(np.float32)
        r2 = np.full(mask.shape, 15.0, dtype=np.float32)
        nothing = np.zeros(mask.shape, dtype=bool)
        subject = Subject(grid, chi, mask, nothing, water, r2)
    else:
        head = digital_head(
            voxels.voxel_size,
            seed=FIRST_HEAD + seed,
            tilt=voxels.tilt,
            lesions=(),
            variation=rng.uniform(*population.deformation),
            spread=rng.uniform(*population.spread),
            anatomy=ANATOMIES[population.anatomy](),
            parts=population.parts,
        )
        chi = _enriched(head, population, painting)
        kinds = tuple(k for k, share in population.lesions.items() if rng.random() < share)
        sizes = np.array(head.grid.voxel_size)
        tissue = head.labels > LABEL["subarachnoid CSF"]
        touched = paint_lesions(chi, head.mask, tissue, sizes, kinds, painting)
        subject = Subject(head.grid, chi, head.mask, touched, head.water, head.r2)
    if rng.random() < population.inverted:
        np.negative(subject.chi, out=subject.chi)
    return subject


def _enriched(head: Head, population: Population, rng: np.random.Generator) -> FloatArray:
    """Return a head's susceptibility with another contrast, fine texture and small vessels."""
    sizes = np.array(head.grid.voxel_size)
    weak = 1 / (1 + np.square(head.chi / 0.05))
    chi = head.chi * (1 + (rng.uniform(*population.contrast) - 1) * weak)
    rough = rough_field(chi.shape, sizes, (0.5, 1.2, 3.0), rng)
    chi = (chi + rough * rng.uniform(*population.texture)).astype(np.float32)
    low, high = population.vessels
    paint_vessels(chi, head.mask, sizes, int(rng.integers(low, high + 1)), rng)
    if population.parts == 1:  # what averaging parts of voxels would have softened
        chi = ndimage.gaussian_filter(chi, 0.4) * head.mask
    result: FloatArray = chi.astype(np.float32)
    return result


def b0_direction(tilt: tuple[float, float]) -> tuple[float, float, float]:
    """B0 in the axes of a head turned like `napari_qsm.training.phantom.digital_head` turns it."""
    nod, lean = np.radians(tilt)
    return (
        float(-np.sin(lean)),
        float(np.cos(lean) * np.sin(nod)),
        float(np.cos(lean) * np.cos(nod)),
    )


def visible(
    mask: NDArray[np.bool_], population: Population, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Return the mask a user would have: eroded, or a slab of it."""
    layers = int(rng.integers(0, population.erosion + 1))
    seen = ndimage.binary_erosion(mask, iterations=layers) if layers else mask.copy()
    if rng.random() < population.slabs:
        axis = int(rng.integers(3))
        (part,) = ndimage.find_objects(seen.any(axis=tuple(a for a in range(3) if a != axis)) * 1)
        extent = part[0].stop - part[0].start
        wide = int(extent * rng.uniform(0.35, 0.7))
        first = part[0].start + int(rng.integers(0, extent - wide + 1))
        kept = np.zeros(seen.shape[axis], dtype=bool)
        kept[first : first + wide] = True
        seen &= np.expand_dims(kept, tuple(a for a in range(3) if a != axis))
    result: NDArray[np.bool_] = seen
    return result


def measurement(
    subject: Subject,
    mask: NDArray[np.bool_],
    population: Population,
    rng: np.random.Generator,
) -> dict[Quantity, NDArray[Any]]:
    """Return what is measured of a subject in a mask."""
    field = field_inside(subject.chi, subject.mask, subject.grid)
    size = field_spread(field[mask])
    low, high = np.log(population.error)
    error = float(np.exp(rng.uniform(low, high))) * size
    noise, texture, residue = np.sqrt(rng.dirichlet([1.0, 0.8, 0.7])) * error

    strength, time = rng.uniform(*population.field_strength), rng.uniform(*population.echo_time)
    rate = subject.r2 + R2PRIME_PER_PPM * strength * np.abs(subject.chi)
    sizes = np.array(subject.grid.voxel_size)
    shading = np.exp(0.15 * smooth_field(mask.shape, sizes, 25.0, rng))
    signal = np.maximum(subject.water * shading * np.exp(-time * rate), 1e-4)
    relative = np.median(signal[mask]) / signal
    # A phase that is all noise is spread evenly over a turn.
    ceiling = np.pi / np.sqrt(3) / radians_per_ppm(strength, time)
    deviation = np.minimum(noise * relative, ceiling).astype(np.float32) * mask

    errors = texture * rough_field(mask.shape, sizes, (0.5, 1.2, 3.0, 6.0), rng)
    errors += residue * _harmonic(mask, subject.grid, rng)
    depth = ndimage.distance_transform_edt(mask, sampling=sizes).astype(np.float32)
    rising = 1 + rng.uniform(0, population.rim) * np.exp(-depth / rng.uniform(2, 5))
    deviation = np.minimum(deviation * rising, ceiling).astype(np.float32)
    measured = field + rising * errors
    measured += deviation * rng.standard_normal(mask.shape, dtype=np.float32)
    level = np.median(signal[mask]) * float(noise) * radians_per_ppm(strength, time)
    magnitude = signal + level * rng.standard_normal(mask.shape, dtype=np.float32)
    return {
        Quantity.LOCAL_FIELD: (measured * mask).astype(np.float32),
        Quantity.MASK: mask,
        Quantity.MAGNITUDE: (np.abs(magnitude) * mask).astype(np.float32),
        Quantity.FIELD_NOISE: np.where(mask, np.maximum(deviation, 1e-6), 0).astype(np.float32),
    }


def _harmonic(mask: NDArray[np.bool_], grid: Grid, rng: np.random.Generator) -> FloatArray:
    """Return a field of random sources outside a mask, of unit root mean square inside."""
    sizes = np.array(grid.voxel_size)
    sources = smooth_field(mask.shape, sizes, 3.0, rng) * ~mask
    operator = DipoleConvolution(grid, padding=1.25)
    field: FloatArray = operator(torch.from_numpy(sources)).numpy()
    field -= field[mask].mean()
    field /= max(float(field[mask].std()), 1e-12)
    return field

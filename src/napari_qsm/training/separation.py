"""Heads whose iron and myelin are known apart, measured with relaxation rates.

The same machinery as `napari_qsm.training.population`, beside it: every case has chi_pos and
chi_neg (both >= 0, ppm, relative to CSF), their field, and ``R2' = Dr+ chi_pos + Dr- chi_neg`` as
the difference of two rates that were measured with errors. Everything random comes from streams of
its own, so no case of the plain population changes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from scipy import ndimage

from napari_qsm.acquisition import Acquisition, FloatArray, Grid, Quantity
from napari_qsm.methods.separation.shared import USUAL_DR
from napari_qsm.physics.relaxation import USUAL_STRENGTH
from napari_qsm.surroundings import bounding_box
from napari_qsm.training.anatomy import ANATOMIES
from napari_qsm.training.myelin import MEANS, SPREAD
from napari_qsm.training.phantom import Head, digital_head, field_inside
from napari_qsm.training.population import (
    Lattice,
    Population,
    Range,
    Subject,
    drawn_lattice,
    measurement,
    visible,
)
from napari_qsm.training.sources import paint_lesions, paint_vessels, rough_field, smooth_field
from napari_qsm.training.tissues import LABEL, R2PRIME_PER_PPM, by_label

RELAXIVITY: Final = USUAL_DR / USUAL_STRENGTH
"""Dr in 1/s per ppm and tesla that methods assume."""

FASTEST: Final = 500.0
"""Largest rate in 1/s that a fit reports."""

FIRST_ECHO: Final = 0.006
"""Time in s that a voxel must live for its decay to be measured well."""

FIRST_HEAD: Final = 700_000
"""Added to a case's seed for its anatomy."""


class Separation(BaseModel):
    """The ranges that iron, myelin and relaxation are drawn from.

    Parameters
    ----------
    population : Population
        Heads, lesions and the field; `geometry`, `contrast` and `inverted` have no part here.
    strength : float
        Factor on the susceptibility of lesions: with 0.3 haematomas reach 1.2 ppm and
        calcifications 0.6 ppm, which leaves room to test beyond.
    iron, myelin : (float, float)
        Factor of a head on the magnitude of its nuclei's iron and on all its diamagnetic parts.
    relaxivity : (float, float)
        Factor of a head on Dr; the method that separates does not know it.
    imbalance : float
        Largest logarithm of Dr+ over Dr-, either way.
    rate_error : (float, float)
        Standard deviation of R2* in 1/s where the signal is the mask's median.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    population: Population = Population(
        lesions={"microbleeds": 0.3, "haemorrhage": 0.3, "calcification": 0.3, "cyst": 0.1},
        voxel_size=(1.6, 2.2),
        anisotropy=1.3,
        vessels=(0, 500),
        texture=(0.0, 0.024),
        error=(0.08, 0.6),
        slabs=0.3,
        field_strength=(2.8, 3.2),
    )
    strength: float = 0.3
    iron: Range = (0.8, 1.25)
    myelin: Range = (0.7, 1.3)
    relaxivity: Range = (0.8, 1.25)
    imbalance: float = 0.2
    rate_error: Range = (0.3, 2.0)


@dataclass(frozen=True, eq=False)
class SeparatedCase:
    """One measurement of one head whose sources are known.

    Parameters
    ----------
    acquisition : Acquisition
        LOCAL_FIELD, MASK, MAGNITUDE, FIELD_NOISE, R2STAR, R2 and R2PRIME, and B0.
    chi_pos, chi_neg : (X, Y, Z) arrays
        In ppm, both >= 0, relative to CSF and zero outside the mask.
    field_error : (X, Y, Z) array
        What the measured field has and that of all sources of the head has not, in ppm.
    lesions : (X, Y, Z) array of bool
        Where lesions are.
    seed : int
        It was drawn with.
    """

    acquisition: Acquisition
    chi_pos: FloatArray
    chi_neg: FloatArray
    field_error: FloatArray
    lesions: NDArray[np.bool_]
    seed: int

    @property
    def chi(self) -> FloatArray:
        """``chi_pos - chi_neg`` in ppm, relative to CSF."""
        return self.chi_pos - self.chi_neg


def lattice(separation: Separation, seed: int) -> Lattice:
    """Return voxel size and tilt of a case."""
    return drawn_lattice(separation.population, np.random.default_rng([seed, 0, 6]))


def draw_separated(
    separation: Separation, seed: int, voxels: Lattice | None = None
) -> SeparatedCase:
    """Draw one case; the same seed gives the same case, in voxels of its own if none are given."""
    streams = [np.random.default_rng([seed, part, 6]) for part in range(1, 6)]
    choices, painting, measuring, masking, relaxing = streams
    strength = float(choices.uniform(*separation.population.field_strength))
    population = separation.population.model_copy(update={"field_strength": (strength,) * 2})
    head = _head(population, voxels or lattice(separation, seed), seed, choices)
    positive, negative = _sources(head, separation, painting)
    touched = _with_lesions(positive, negative, head, separation, choices, painting)
    chi = positive - negative
    unseen = 2 * np.minimum(positive, negative)  # what both sources together are beyond |chi|
    rate = (head.r2 + R2PRIME_PER_PPM * strength * unseen).astype(np.float32)
    subject = Subject(head.grid, chi, head.mask, touched, head.water, rate)
    mask = visible(head.mask, population, masking)
    volumes = measurement(subject, mask, population, measuring)
    volumes |= _rates(head, positive, negative, separation, strength, mask, relaxing)
    error = (volumes[Quantity.LOCAL_FIELD] - field_inside(chi, head.mask, head.grid)) * mask
    box = bounding_box(mask)
    inside = mask[box]
    x, y, z = inside.shape
    acquisition = Acquisition(
        grid=Grid((x, y, z), head.grid.affine, head.grid.b0_direction),
        volumes={quantity: volume[box] for quantity, volume in volumes.items()},
        field_strength=strength,
    )
    positive, negative, error = (v[box] * inside for v in (positive, negative, error))
    return SeparatedCase(acquisition, positive, negative, error, touched[box] & inside, seed)


def _head(population: Population, voxels: Lattice, seed: int, rng: np.random.Generator) -> Head:
    return digital_head(
        voxels.voxel_size,
        seed=FIRST_HEAD + seed,
        tilt=voxels.tilt,
        lesions=(),
        variation=rng.uniform(*population.deformation),
        spread=rng.uniform(*population.spread),
        anatomy=ANATOMIES[population.anatomy](),
        parts=population.parts,
    )


def _sources(
    head: Head, separation: Separation, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Return chi_pos and chi_neg of a head, with texture and small veins, in ppm.

    Tissue that was drawn with less susceptibility than its myelin takes away has no iron left:
    then it has more myelin. Texture is iron in one head and myelin in another; veins take the
    place of whatever was there.
    """
    population, sizes, shape = separation.population, np.array(head.grid.voxel_size), head.chi.shape
    factors = 1 + SPREAD * rng.standard_normal(len(MEANS)).clip(-2, 2)
    table = by_label((np.array(MEANS) * factors * rng.uniform(*separation.myelin)).tolist())
    uneven = rough_field(shape, sizes, (1.2, 4.0, 10.0), rng)
    negative = table[head.labels] * (1 + 0.2 * uneven).clip(0.2)
    fluid = head.labels <= LABEL["subarachnoid CSF"]
    texture = rough_field(shape, sizes, (0.5, 1.2, 3.0), rng) * rng.uniform(*population.texture)
    texture[fluid] *= 0.2
    own = (head.chi - _tissue_means(head)).clip(-0.05, 0.05)  # its texture, not its veins
    nuclei = np.where(head.chi > 0.03, np.float32(rng.uniform(*separation.iron)), np.float32(1))
    myelin = np.float32(rng.uniform(0.2, 0.8)) * texture + np.float32(rng.uniform(0, 0.6)) * own
    positive = head.chi * nuclei + texture + negative - myelin
    negative = negative - myelin
    lacking = np.maximum(np.maximum(-positive, -negative), 0)
    positive, negative = positive + lacking, negative + lacking
    low, high = population.vessels
    count = int(rng.integers(low, high + 1))
    paint = partial(paint_vessels, inside=head.mask, voxel_size=sizes, count=count)
    added, left = _painted(head, paint, int(rng.integers(2**31)))
    positive, negative = positive * left + added, negative * left
    if population.parts == 1:  # what averaging parts of voxels would have softened
        positive, negative = (ndimage.gaussian_filter(v, 0.4) for v in (positive, negative))
    return (positive * head.mask).astype(np.float32), (negative * head.mask).astype(np.float32)


def _tissue_means(head: Head) -> FloatArray:
    """Return every voxel's mean susceptibility over all of its tissue."""
    labels = head.labels.ravel()
    totals = np.bincount(labels, weights=head.chi.ravel())
    means: FloatArray = (totals / np.maximum(np.bincount(labels), 1)).astype(np.float32)
    return means[head.labels]


def _painted(head: Head, paint: Callable[..., None], seed: int) -> tuple[FloatArray, FloatArray]:
    """Return what a painter adds, and which share it leaves of what was there.

    Painting is affine, ``m -> l m + a``: on zeros it gives a, on ones ``l + a``.
    """
    added = np.zeros(head.chi.shape, dtype=np.float32)
    both = head.mask.astype(np.float32)
    for volume in (added, both):
        paint(volume, rng=np.random.default_rng(seed))
    return added, (both - added).clip(0, 1)


def _with_lesions(
    positive: FloatArray,
    negative: FloatArray,
    head: Head,
    separation: Separation,
    choices: np.random.Generator,
    painting: np.random.Generator,
) -> NDArray[np.bool_]:
    """Draw lesions in place: iron of blood into chi_pos, calcium into chi_neg; return where.

    They push aside both sources of the tissue they lie in.
    """
    shares = separation.population.lesions.items()
    kinds = tuple(kind for kind, share in shares if choices.random() < share)
    sizes, tissue = np.array(head.grid.voxel_size), head.labels > LABEL["subarachnoid CSF"]
    touched: list[NDArray[np.bool_]] = []

    def paint(chi: FloatArray, rng: np.random.Generator) -> None:
        touched.append(paint_lesions(chi, head.mask, tissue, sizes, kinds, rng))

    added, left = _painted(head, paint, int(painting.integers(2**31)))
    added *= separation.strength
    for volume, signed in ((positive, added), (negative, -added)):
        volume *= left
        volume += np.maximum(signed, 0)
    return touched[0]


def _rates(
    head: Head,
    positive: FloatArray,
    negative: FloatArray,
    separation: Separation,
    strength: float,
    mask: NDArray[np.bool_],
    rng: np.random.Generator,
) -> dict[Quantity, NDArray[Any]]:
    """Return R2*, R2 and R2' in 1/s as they are measured.

    Errors grow where the signal dies before it is sampled; R2* has, besides noise, what the field
    of air adds near the border, and R2 the scale error of its refocusing pulses.
    """
    sizes, shape = np.array(head.grid.voxel_size), mask.shape
    relaxivity = RELAXIVITY * strength * float(np.exp(rng.uniform(*np.log(separation.relaxivity))))
    half = np.exp(rng.uniform(-0.5, 0.5) * separation.imbalance)
    reversible = relaxivity * (half * positive + negative / half)
    r2 = head.r2 * (1 + 0.08 * smooth_field(shape, sizes, 4.0, rng)).clip(0.5)
    r2star = r2 + reversible
    gone = np.exp((FIRST_ECHO * (r2star - np.median(r2star[mask]))).clip(-1, 3))
    noise = float(np.exp(rng.uniform(*np.log(separation.rate_error)))) * gone
    depth = ndimage.distance_transform_edt(mask, sampling=sizes)
    near = rng.uniform(0, 3) * np.exp(-depth / rng.uniform(4, 10))
    near *= np.square(smooth_field(shape, sizes, 15.0, rng))
    fast = r2star + near + noise * rng.standard_normal(shape, dtype=np.float32)
    slow = r2 * rng.uniform(0.93, 1.07) + 0.5 * noise * rng.standard_normal(shape, dtype=np.float32)
    fast, slow = (
        np.where(mask, rate.clip(0, FASTEST), 0).astype(np.float32) for rate in (fast, slow)
    )
    return {
        Quantity.R2STAR: fast,
        Quantity.R2: slow,
        Quantity.R2PRIME: np.maximum(fast - slow, 0),
    }

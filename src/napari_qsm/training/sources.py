"""Sources of susceptibility by the dozen: bleeds, stones, cysts, and bare geometry.

Bodies are signed distances with soft edges, painted into a susceptibility map in small boxes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_qsm.acquisition import FloatArray

Points = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Body:
    """A turned ellipsoid, cuboid or tube.

    Parameters
    ----------
    shape : str
        ``"ellipsoid"``, ``"cuboid"`` or ``"tube"`` (a cylinder along its third axis).
    centre, radii : (3,) arrays
        In mm from the first voxel's centre, and half widths in mm.
    turn : (3, 3) array
        Rotation from the volume's axes to the body's own.
    edge : float
        Width in mm over which it fades out.
    """

    shape: str
    centre: Points
    radii: Points
    turn: Points
    edge: float

    def share(
        self, voxel_size: Points, shape: tuple[int, ...]
    ) -> tuple[tuple[slice, ...], FloatArray]:
        """Return a box of a volume and how much of each of its voxels the body fills, 0 to 1."""
        reach = np.linalg.norm(self.radii) if self.shape != "ellipsoid" else self.radii.max()
        low = np.floor((self.centre - reach - self.edge) / voxel_size).astype(int).clip(0)
        high = (np.ceil((self.centre + reach + self.edge) / voxel_size).astype(int) + 1).clip(0)
        box = tuple(slice(a, min(b, n)) for a, b, n in zip(low, high, shape, strict=True))
        axes = [
            np.arange(part.start, max(part.stop, part.start)) * size - middle
            for part, size, middle in zip(box, voxel_size, self.centre, strict=True)
        ]
        position = np.stack(np.meshgrid(*axes, indexing="ij")).reshape(3, -1)
        own = np.abs(self.turn @ position) / self.radii[:, None]
        if self.shape == "ellipsoid":
            distance = np.sqrt((own**2).sum(0))
        elif self.shape == "cuboid":
            distance = own.max(0)
        else:
            distance = np.maximum(np.hypot(own[0], own[1]), own[2])
        depth = (1 - distance) * self.radii.min()
        width = max(self.edge, float(voxel_size.mean()))
        filled = np.clip(0.5 + depth / width, 0, 1).astype(np.float32)
        return box, filled.reshape([len(axis) for axis in axes])


def random_body(
    rng: np.random.Generator,
    centre: Points,
    radius: float,
    *,
    shapes: tuple[str, ...] = ("ellipsoid",),
    elongation: float = 0.4,
) -> Body:
    """Draw a body about `radius` mm wide; its axes differ by ``exp(elongation N(0, 1))``."""
    turn, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    shape = shapes[int(rng.integers(len(shapes)))]
    radii = radius * np.exp(elongation * rng.standard_normal(3).clip(-2, 2))
    if shape == "tube":
        radii = np.array([1.0, 1.0, rng.uniform(3, 8)]) * max(radius / 3, 0.6)
    return Body(shape, centre, radii, turn, edge=float(rng.choice([0.0, 0.15 * radius])))


@dataclass(frozen=True)
class Kind:
    """How sources of one kind are drawn.

    Parameters
    ----------
    count : tuple[int, int]
        Fewest and most in a head that has them.
    radius : tuple[float, float]
        In mm; logarithms are spread evenly.
    strength : tuple[float, float]
        Magnitude of the susceptibility in ppm; logarithms are spread evenly.
    sign : int
        1 or -1; 0 draws either.
    lobes : int
        Bodies that one source is made of, at most.
    """

    count: tuple[int, int]
    radius: tuple[float, float]
    strength: tuple[float, float]
    sign: int = 1
    lobes: int = 1


KINDS = {
    "microbleeds": Kind((1, 12), (1.0, 4.0), (0.15, 3.0)),
    "haemorrhage": Kind((1, 2), (5.0, 16.0), (0.2, 4.0), lobes=6),
    "calcification": Kind((1, 4), (1.5, 6.0), (0.2, 2.0), sign=-1, lobes=3),
    "cyst": Kind((1, 3), (3.0, 12.0), (0.01, 0.05), sign=0),
}
"""Lesions: magnitudes of haematomas after Chang et al. 2016, doi:10.1002/jmri.25143."""


def paint_lesions(
    chi: FloatArray,
    inside: NDArray[np.bool_],
    tissue: NDArray[np.bool_],
    voxel_size: Points,
    kinds: tuple[str, ...],
    rng: np.random.Generator,
) -> NDArray[np.bool_]:
    """Draw lesions into `chi` (ppm, changed in place) at random places in tissue; return where.

    From there they may spread all over the mask `inside`. Within a source the susceptibility is
    uneven by a tenth or so, as clots are.
    """
    places = np.argwhere(tissue)
    touched = np.zeros(chi.shape, dtype=bool)
    for name in kinds:
        kind = KINDS[name]
        for _ in range(int(rng.integers(kind.count[0], kind.count[1] + 1))):
            strength = _log_uniform(rng, *kind.strength) * (kind.sign or rng.choice([-1, 1]))
            heart = places[rng.integers(len(places))] * voxel_size
            radius = _log_uniform(rng, *kind.radius)
            for lobe in range(int(rng.integers(1, kind.lobes + 1))):
                step = rng.standard_normal(3) * radius * 0.6 if lobe else np.zeros(3)
                body = random_body(rng, heart + step, radius * (0.7 if lobe else 1.0))
                box, share = body.share(voxel_size, chi.shape)
                value = strength * (1 + 0.1 * rng.standard_normal())
                chi[box] += share * (value - chi[box])
                touched[box] |= share > 0.5
    chi *= inside
    touched &= inside
    return touched


def geometry(
    shape: tuple[int, int, int], voxel_size: Points, rng: np.random.Generator
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Draw a body full of random bodies, with no anatomy: susceptibility in ppm, and its mask.

    Ellipsoids, cuboids and tubes of all sizes on a smooth background, sharp or blurred, or clouds
    of structures of all sizes: the training set of DeepQSM in kind (Bollmann et al. 2019,
    doi:10.1016/j.neuroimage.2019.03.060).
    """
    mask = _egg(shape, voxel_size, rng)
    if rng.random() < 0.3:
        widths = (0.7, 1.5, 3.0, 6.0, 12.0)
        cloud = rough_field(shape, voxel_size, widths, rng) * _log_uniform(rng, 0.015, 0.06)
        return cloud.astype(np.float32) * mask, mask
    chi = smooth_field(shape, voxel_size, float(rng.uniform(4, 20)), rng) * rng.uniform(0, 0.02)
    spread = _log_uniform(rng, 0.03, 0.15)
    places = np.argwhere(mask)
    for _ in range(int(rng.integers(40, 200))):
        centre = places[rng.integers(len(places))] * voxel_size
        body = random_body(
            rng, centre, _log_uniform(rng, 1.5, 16.0), shapes=("ellipsoid", "cuboid", "tube")
        )
        box, share = body.share(voxel_size, shape)
        chi[box] += share * (spread * rng.standard_t(4) - rng.uniform(0.3, 1) * chi[box])
    if rng.random() < 0.5:
        chi = ndimage.gaussian_filter(chi, rng.uniform(0.3, 2.0) / voxel_size)
    return chi.astype(np.float32) * mask, mask


def _egg(
    shape: tuple[int, int, int], voxel_size: Points, rng: np.random.Generator
) -> NDArray[np.bool_]:
    extent = np.array(shape) * voxel_size
    whole = Body("ellipsoid", extent / 2, extent * rng.uniform(0.36, 0.48, 3), np.eye(3), edge=0.0)
    mask = np.zeros(shape, dtype=bool)
    box, share = whole.share(voxel_size, shape)
    mask[box] = share > 0.5
    return mask


def paint_vessels(
    chi: FloatArray,
    inside: NDArray[np.bool_],
    voxel_size: Points,
    count: int,
    rng: np.random.Generator,
) -> None:
    """Draw `count` straight small vessels into `chi` (ppm, changed in place) anywhere in a mask.

    Medullary and cortical veins, 0.4 to 1.6 mm wide and 4 to 24 mm long, of 0.1 to 0.45 ppm; one
    thinner than a voxel fills a part of it. They make the few strong voxels of measured maps.
    """
    places = np.argwhere(inside)
    side = float(np.prod(voxel_size) ** (1 / 3))
    for place in places[rng.integers(len(places), size=count)]:
        radius = _log_uniform(rng, 0.2, 0.8)
        turn, _ = np.linalg.qr(rng.standard_normal((3, 3)))
        radii = np.array([max(radius, side / 2)] * 2 + [rng.uniform(2, 12)])
        vessel = Body("tube", place * voxel_size, radii, turn, edge=0.0)
        box, share = vessel.share(voxel_size, chi.shape)
        filled = min(1.0, (2 * radius / side) ** 2)
        chi[box] += filled * share * (rng.uniform(0.1, 0.45) - chi[box])
    chi *= inside


def rough_field(
    shape: tuple[int, ...], voxel_size: Points, widths: tuple[float, ...], rng: np.random.Generator
) -> FloatArray:
    """Return noise of unit variance with structure of several widths (mm) in random parts."""
    total = np.zeros(shape, dtype=np.float32)
    for width, share in zip(widths, rng.dirichlet(np.ones(len(widths))), strict=True):
        total += np.float32(np.sqrt(share)) * smooth_field(shape, voxel_size, width, rng)
    return total


def smooth_field(
    shape: tuple[int, ...], voxel_size: Points, width: float, rng: np.random.Generator
) -> FloatArray:
    """Return smooth noise of unit variance with structure `width` mm wide (standard deviation)."""
    white = rng.standard_normal(shape, dtype=np.float32)
    smooth = ndimage.gaussian_filter(white, width / voxel_size, mode="wrap", truncate=3.0)
    field: FloatArray = smooth / np.float32(max(smooth.std(), 1e-12))
    return field


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))

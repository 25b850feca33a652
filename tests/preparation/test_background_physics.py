"""What a removal of the background owes to physics: outside sources go, inside ones stay."""

from functools import cache

import numpy as np
import pytest
import torch

from napari_qsm.acquisition import Acquisition, Grid, Quantity
from napari_qsm.evaluation.metrics import nrmse
from napari_qsm.generators import finished
from napari_qsm.physics.dipole import DipoleConvolution
from napari_qsm.preparation.registry import Place, find, stages
from napari_qsm.training.phantom import digital_head
from napari_qsm.training.raw_head import scan

KEYS = list(stages(Place.BACKGROUND))
HARMONIC_KEYS = [key for key in KEYS if key != "pdf"]
GRIDS = {
    "cubic": Grid((56, 60, 54), np.diag([1.5, 1.5, 1.5, 1.0])),
    "anisotropic and oblique": Grid(
        (70, 74, 42), np.diag([1.2, 1.2, 2.0, 1.0]), b0_direction=(0.3, -0.4, 0.87)
    ),
}
RADII = np.array([27.0, 30.0, 26.0])  # of the ellipsoid that is the brain, in mm
AIR = [((0, 37, -8), 6, 9.0), ((-29, -4, -22), 5, 9.0), ((29, -4, -22), 5, 9.0)]
BONE = [((0, 0, 36), 5, -2.0)]
every_grid = pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)


def run(key, acquisition, **settings):
    stage = find(key)
    return finished(stage(acquisition, stage.with_settings(settings)))


def axes(grid):
    """Coordinates in mm about the middle of the volume."""
    return np.meshgrid(
        *[
            (np.arange(n) - (n - 1) / 2) * size
            for n, size in zip(grid.shape, grid.voxel_size, strict=True)
        ],
        indexing="ij",
    )


def brain(grid):
    return sum((a / r) ** 2 for a, r in zip(axes(grid), RADII, strict=True)) < 1


def measured(grid, field, more=()):
    mask = brain(grid)
    return Acquisition(grid, {Quantity.TOTAL_FIELD: field * mask, Quantity.MASK: mask} | dict(more))


def harmonic(grid):
    """A bit of every harmonic polynomial of low degree; the parts cannot cancel."""
    x, y, z = (a / 30 for a in axes(grid))
    return 0.5 + x - 0.7 * y + 0.3 * z + x**2 - y**2 + 0.4 * (2 * z**2 - x**2 - y**2) + x * y * z


def field_of(grid, spheres):
    """Field of spheres (centre and radius in mm, ppm), cuboid by cuboid."""
    chi = np.zeros(grid.shape, np.float32)
    for centre, radius, value in spheres:
        away = sum((a - c) ** 2 for a, c in zip(axes(grid), centre, strict=True)) ** 0.5
        chi += value * np.clip((radius - away) / min(grid.voxel_size) + 0.5, 0, 1)
    return DipoleConvolution(grid, kernel="cuboid", padding=2.0)(torch.from_numpy(chi)).numpy(), chi


@cache
def outside(name):
    field, chi = field_of(GRIDS[name], AIR + BONE)
    assert not (chi.astype(bool) & brain(GRIDS[name])).any()
    return field


def left(maps, field):
    """What is left of a background, as a part of it where the result counts."""
    kept = maps[Quantity.MASK]
    return maps[Quantity.LOCAL_FIELD][kept].std() / field[kept].std()


@every_grid
@pytest.mark.parametrize("key", HARMONIC_KEYS)
def test_harmonic_polynomials_go_to_rounding(key, grid):
    maps = run(key, measured(grid, harmonic(grid)))
    assert maps[Quantity.MASK].any()
    assert np.abs(maps[Quantity.LOCAL_FIELD]).max() < 2e-6


@every_grid
def test_pdf_takes_what_a_shim_makes_to_rounding_and_the_rest_to_percents(grid):
    """Dipoles in a finite room make other polynomials only nearly, and the fit stops early."""
    x, y, z = (a / 30 for a in axes(grid))
    shim = harmonic(grid) - x * y * z + 0.2 * x * y - 0.3 * z * x
    assert np.abs(run("pdf", measured(grid, shim))[Quantity.LOCAL_FIELD]).max() < 1e-5
    cubic = x * y * z + 0.5 * (x**3 - 3 * x * y**2)
    assert left(run("pdf", measured(grid, cubic)), cubic) < 0.03


MOST_LEFT = {"sharp": 1e-3, "resharp": 2e-3, "vsharp": 2e-3, "ismv": 1e-3, "lbv": 2e-4, "pdf": 0.03}
"""Measured on both grids: 4e-4, 9e-4, 9e-4, 6e-4, 1e-4 and 1.4e-2."""


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("key", KEYS)
def test_the_field_of_air_and_bone_outside_goes(key, name):
    field = outside(name)
    maps = run(key, measured(GRIDS[name], field))
    assert left(maps, field) < MOST_LEFT[key]


@every_grid
@pytest.mark.parametrize("key", KEYS)
def test_a_compact_source_inside_stays(key, grid):
    """Its field is no harmonic function around it, whatever the method takes for background."""
    field, _ = field_of(grid, [((5, -4, 3), 2.5, 1.0)])
    maps = run(key, measured(grid, field))
    kept = maps[Quantity.MASK]
    strong = kept & (np.abs(field) > 0.02 * np.abs(field).max())
    lost = np.linalg.norm((maps[Quantity.LOCAL_FIELD] - field)[strong])
    assert lost < {"pdf": 0.15, "vsharp": 0.10}.get(key, 0.05) * np.linalg.norm(field[strong])


@pytest.mark.parametrize(("sphere", "radius"), [(3.0, 26.0), (5.0, 26.0), (4.0, 20.0)])
def test_resharp_loses_what_a_projection_on_harmonic_fields_must(sphere, radius):
    """Of a sphere amid a ball: of ``a^3/3 r^-3 Y`` the part ``7 / (2 R^5) r^2 Y``.

    ``Y = 3 cos^2 - 1``, a and R are the radii. Voxels at the edge that few means reach are free to
    follow the field, as if R were a little less.
    """
    grid = GRIDS["cubic"]
    x, y, z = axes(grid)
    field, _ = field_of(grid, [((0, 0, 0), sphere, 1.0)])
    mask = x**2 + y**2 + z**2 < radius**2
    acquisition = Acquisition(grid, {Quantity.TOTAL_FIELD: field, Quantity.MASK: mask})
    maps = run("resharp", acquisition, radius=1.5, regularization=1e-7, tolerance=1e-3)
    kept = maps[Quantity.MASK]
    lost = (field - maps[Quantity.LOCAL_FIELD])[kept]
    harmonic = (2 * z**2 - x**2 - y**2)[kept]
    share = float(lost @ harmonic) / float(harmonic @ harmonic)
    assert 1 < share / (7 / (2 * radius**5) * sphere**3 / 3) < 1.3
    assert np.linalg.norm(lost - share * harmonic) < 0.1 * np.linalg.norm(lost)


@every_grid
@pytest.mark.parametrize("key", HARMONIC_KEYS)
def test_it_is_linear(key, grid):
    one, _ = field_of(grid, [((5, -4, 3), 3, 1.0)])
    other = outside(next(n for n, g in GRIDS.items() if g is grid))
    strict = {"tolerance": 1e-6} if "tolerance" in find(key).parameters.model_fields else {}
    parts = [run(key, measured(grid, f), **strict)[Quantity.LOCAL_FIELD] for f in (one, other)]
    both = run(key, measured(grid, 2 * one - 3 * other), **strict)[Quantity.LOCAL_FIELD]
    np.testing.assert_allclose(both, 2 * parts[0] - 3 * parts[1], atol=2e-5 * np.abs(both).max())


@pytest.mark.parametrize("key", KEYS)
def test_a_field_of_the_other_sign_and_size_gives_that(key):
    grid, field = GRIDS["cubic"], outside("cubic")
    maps = run(key, measured(grid, field))
    scaled = run(key, measured(grid, -4 * field))
    np.testing.assert_array_equal(scaled[Quantity.LOCAL_FIELD], -4 * maps[Quantity.LOCAL_FIELD])


def test_pdf_follows_b0():
    """The first step, dipoles along their own B0, takes most of a sphere's field."""
    grid = GRIDS["anisotropic and oblique"]
    field, _ = field_of(grid, AIR[:1])
    right = left(run("pdf", measured(grid, field), max_iterations=1), field)
    turned = measured(grid.with_b0((1.0, 0.0, 0.0)), field)
    assert right < 0.8 * left(run("pdf", turned, max_iterations=1), field)


def test_pdf_listens_less_where_the_field_is_noisy():
    grid, field = GRIDS["cubic"], outside("cubic")
    x, y, _ = axes(grid)
    noisy = brain(grid) & (x > 12) & (y > 0)
    noise = np.random.default_rng(0).normal(0, 0.3, grid.shape) * noisy
    sigma = {Quantity.FIELD_NOISE: np.where(noisy, 9e-3, 1e-3)}
    blind = run("pdf", measured(grid, field + noise))
    aware = run("pdf", measured(grid, field + noise, sigma))
    calm = blind[Quantity.MASK] & (x < 8)
    error = [m[Quantity.LOCAL_FIELD][calm].std() for m in (blind, aware)]
    assert error[1] < 0.6 * error[0]
    assert any("squared field noise" in n for n in aware.provenance.notes)
    assert any("count the same" in n for n in blind.provenance.notes)


WORST = {"sharp": 26, "resharp": 26, "vsharp": 27, "pdf": 38, "lbv": 18, "ismv": 23}
"""Percent; measured: 22.0, 22.3, 23.3, 33.1, 14.5 and 19.5."""
LEAST_KEPT = {"sharp": 0.6, "resharp": 0.7, "vsharp": 0.75, "pdf": 0.8, "lbv": 0.6, "ismv": 0.65}


@cache
def head():
    return scan(digital_head(2.5, seed=74, lesions=("haemorrhage",)), echo_times=(0.02,))


@pytest.mark.parametrize("key", KEYS)
def test_the_shipped_settings_serve_a_head_with_air_and_bone(key):
    """On the raw digital head, from its true field, against what sources in the brain make."""
    truth = head().truth
    acquisition = Acquisition(
        head().acquisition.grid, {q: truth[q] for q in (Quantity.TOTAL_FIELD, Quantity.MASK)}
    )
    maps = run(key, acquisition)
    kept = maps[Quantity.MASK]
    assert nrmse(maps[Quantity.LOCAL_FIELD], truth[Quantity.LOCAL_FIELD], kept) < WORST[key]
    assert kept.sum() > LEAST_KEPT[key] * truth[Quantity.MASK].sum()

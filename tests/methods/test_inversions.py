"""The mathematics of TKD, Tikhonov and TV, each against something known exactly."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from napari_qsm.acquisition import Acquisition, Grid, InputError, Quantity
from napari_qsm.evaluation.metrics import nrmse
from napari_qsm.generators import finished
from napari_qsm.methods.inversion.tkd import truncated_inverse
from napari_qsm.methods.registry import find
from napari_qsm.methods.workspace import Workspace
from napari_qsm.physics import fourier
from napari_qsm.physics.dipole import DipoleConvolution
from napari_qsm.physics.gradient import Gradient
from napari_qsm.solvers.iteration import DivergenceError

AFFINE = np.diag([1.0, 1.2, 1.5, 1.0])


def reconstruct(key, measured, **settings):
    method = find(key)
    return finished(method(measured, method.with_settings(settings)))


def periodic(values):
    """An acquisition without mask: its field fills the grid."""
    grid = Grid(values.shape, AFFINE, b0_direction=(0.0, 0.6, 0.8))
    return Acquisition(grid, {Quantity.LOCAL_FIELD: values})


@pytest.fixture
def unpadded(monkeypatch):
    """Work on exactly the grid, so that the periodic mathematics holds to rounding."""
    monkeypatch.setattr(Workspace.__init__, "__kwdefaults__", {"padding": 1.0})


@pytest.fixture
def scene(unpadded):
    """Random susceptibility without mean on a smooth odd grid, its operator and its field."""
    shape = (15, 9, 21)
    measured = periodic(np.zeros(shape))
    A = DipoleConvolution(measured.grid, padded_shape=shape, dtype=torch.float64)
    chi = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 0.1
    return A, chi - chi.mean()


def filtered(values, symbol):
    return fourier.volume(fourier.spectrum(values) * symbol, values.shape)


def close(maps, expected, tolerance):
    got = torch.from_numpy(maps[Quantity.CHI].copy()).double()
    assert float((got - expected).norm() / expected.norm()) < tolerance


@pytest.mark.parametrize("variant", ["clamped", "zeroed"])
def test_tkd_recovers_what_lies_above_the_threshold(scene, variant):
    A, chi = scene
    chi = filtered(chi, (A.spectrum.abs() > 0.15).double())
    measured = periodic(A(chi).numpy())
    maps = reconstruct("tkd", measured, threshold=0.15, variant=variant, correct_psf=False)
    close(maps, chi, 5e-6)
    assert np.abs(maps[Quantity.RESIDUAL]).max() < 1e-6


@pytest.mark.parametrize("correct_psf", [False, True])
def test_tkd_answers_a_point_with_its_inverse_kernel(scene, correct_psf):
    A, _ = scene
    point = torch.zeros(A.shape, dtype=torch.float64)
    point[0, 0, 0] = 1
    maps = reconstruct("tkd", periodic(point.numpy()), threshold=0.2, correct_psf=correct_psf)
    inverse = torch.where(A.spectrum.abs() > 0.2, 1 / A.spectrum, A.spectrum.sign() / 0.2)
    inverse[0, 0, 0] = 0
    if correct_psf:
        inverse /= filtered(point, inverse * A.spectrum)[0, 0, 0]
    close(maps, filtered(point, inverse), 5e-6)


def test_truncated_inverse_has_no_zero_frequency():
    symbol = torch.tensor([0.0, 0.05, -0.05, 0.3, -0.3])
    clamped = truncated_inverse(symbol, 0.1, "clamped")
    torch.testing.assert_close(clamped, torch.tensor([0, 10, -10, 1 / 0.3, -1 / 0.3]))
    zeroed = truncated_inverse(symbol, 0.1, "zeroed")
    torch.testing.assert_close(zeroed, torch.tensor([0, 0, 0, 1 / 0.3, -1 / 0.3]))


@pytest.mark.parametrize("regularizer", ["gradient", "identity"])
def test_tikhonov_solves_the_dense_normal_equations(unpadded, regularizer):
    """On 5 x 6 x 4 voxels against a matrix, with the mean left free as the operator leaves it."""
    shape = (5, 6, 4)
    values = np.random.default_rng(0).standard_normal(shape)
    measured = periodic(values)
    A = DipoleConvolution(measured.grid, padded_shape=shape, dtype=torch.float64)
    basis = torch.eye(values.size, dtype=torch.float64).reshape(-1, *shape)
    dipole = A(basis).reshape(values.size, -1)
    G = Gradient(measured.grid.voxel_size)
    slopes = G(basis).reshape(values.size, -1) if regularizer == "gradient" else torch.eye(
        values.size, dtype=torch.float64
    )  # fmt: skip
    normal = dipole @ dipole.T + 0.02 * slopes @ slopes.T
    right = dipole @ torch.from_numpy(values).flatten()
    expected = (torch.linalg.pinv(normal, hermitian=True) @ right).reshape(shape)
    maps = reconstruct("tikhonov", measured, regularization=0.02, regularizer=regularizer)
    close(maps, expected - expected.mean(), 2e-5)


def test_tikhonov_trades_residual_for_roughness(scene):
    A, chi = scene
    measured = periodic(A(chi).numpy() + 0.01)
    residuals, sizes = [], []
    for regularization in (1e-4, 1e-3, 1e-2, 1e-1):
        maps = reconstruct("tikhonov", measured, regularization=regularization)
        residuals.append(np.linalg.norm(maps[Quantity.RESIDUAL]))
        sizes.append(np.linalg.norm(maps[Quantity.CHI]))
    assert residuals == sorted(residuals)
    assert sizes == sorted(sizes, reverse=True)


@dataclass(frozen=True)
class Head:
    """A small head with a known susceptibility."""

    measured: Acquisition
    chi: np.ndarray


@pytest.fixture(scope="module")
def head():
    shape = (40, 44, 36)
    rng = np.random.default_rng(0)
    x, y, z = np.meshgrid(*[(np.arange(n) - n / 2 + 0.5) / (n / 2) for n in shape], indexing="ij")

    def ball(centre, radii):
        return sum(((a - c) / r) ** 2 for a, c, r in zip((x, y, z), centre, radii)) < 1  # noqa: B905

    mask = ball((0, 0, 0), (0.8, 0.85, 0.8))
    chi = np.where(ball((0, 0, 0), (0.65, 0.7, 0.65)), -0.03, 0.02)
    magnitude = np.ones(shape)
    for side in (-1, 1):
        chi[ball((0.3 * side, 0.1, 0), (0.12, 0.25, 0.2))] = 0.1
        chi[ball((0.2 * side, -0.3, -0.2), (0.15, 0.1, 0.12))] = 0.18
    bleed = ball((-0.4, -0.3, 0.3), (0.1, 0.1, 0.12))
    chi[bleed], magnitude[bleed] = 0.5, 0.2
    chi[~mask] = 0
    grid = Grid(shape, np.eye(4), b0_direction=(0.2, 0.0, 0.98))
    A = DipoleConvolution(grid, kernel="cuboid", padding=2.0, dtype=torch.float64)
    field = A(torch.from_numpy(chi)).numpy() + 0.001 / magnitude * rng.standard_normal(shape)
    volumes = {Quantity.LOCAL_FIELD: field * mask, Quantity.MASK: mask,
               Quantity.MAGNITUDE: magnitude}  # fmt: skip
    return Head(Acquisition(grid, volumes, 3.0, (0.01,)), chi)


def error(head, key, **settings):
    maps = reconstruct(key, head.measured, **settings)
    return nrmse(maps[Quantity.CHI], head.chi, head.measured.mask)


def test_tv_beats_the_closed_forms_at_their_defaults(head):
    tv = error(head, "tv")
    assert tv < 0.75 * error(head, "tkd")
    assert tv < 0.75 * error(head, "tikhonov")
    assert tv < 40


def test_weights_help_where_the_magnitude_is_low(head):
    assert error(head, "tv", weights="magnitude") < error(head, "tv", weights="none")


def test_tv_says_which_weights_ran(head):
    def notes(measured, weights):
        maps = reconstruct("tv", measured, weights=weights, max_iterations=1)
        return " ".join(maps.provenance.notes)

    assert "the same everywhere, being zero" in notes(head.measured, "none")
    assert "squared magnitude" in notes(head.measured, "magnitude")
    bare = Acquisition(
        head.measured.grid,
        {q: head.measured[q] for q in (Quantity.LOCAL_FIELD, Quantity.MASK)},
    )
    assert "everywhere in the mask." in notes(bare, "auto")
    with pytest.raises(InputError, match="weight by the magnitude, which is not there"):
        notes(bare, "magnitude")
    noise = np.where(head.measured.mask, 0.002, 0.0)
    known = head.measured.with_volumes({Quantity.FIELD_NOISE: noise})
    assert "noise variance" in notes(known, "auto")


def test_what_a_method_chose_repeats_its_run(head):
    chosen = reconstruct("tv", head.measured, max_iterations=2)
    assert set(chosen.provenance.chosen) == {"regularization"}
    again = reconstruct("tv", head.measured, max_iterations=2, **chosen.provenance.chosen)
    np.testing.assert_array_equal(again[Quantity.CHI], chosen[Quantity.CHI])
    assert not again.provenance.chosen


def test_lambda_follows_the_noise_and_is_noted(head):
    def used(factor):
        scaled = head.measured.with_volumes(
            {Quantity.LOCAL_FIELD: factor * head.measured[Quantity.LOCAL_FIELD]}
        )
        maps = reconstruct("tv", scaled, max_iterations=1)
        note = next(n for n in maps.provenance.notes if n.startswith("lambda = "))
        return float(note.split()[2])

    assert used(3.0) == pytest.approx(3 * used(1.0), rel=0.01)


def test_tv_starts_from_a_given_susceptibility_and_saves_iterations(head):
    settings = {"weights": "none", "regularization": 1e-4}
    cold = reconstruct("tv", head.measured, **settings)
    warm_start = head.measured.with_volumes({Quantity.CHI: cold[Quantity.CHI]})

    def iterations(measured):
        maps = reconstruct("tv", measured, **settings | {"regularization": 1.5e-4})
        return int(next(n for n in maps.provenance.notes if n.startswith("Converged")).split()[2])

    assert iterations(warm_start) < 0.85 * iterations(head.measured)
    warm = reconstruct("tv", warm_start, **settings)
    difference = np.linalg.norm(warm[Quantity.CHI] - cold[Quantity.CHI])
    assert difference < 0.03 * np.linalg.norm(cold[Quantity.CHI])
    assert any("Started from" in note for note in warm.provenance.notes)


def test_stopping_early_is_noted(head):
    maps = reconstruct("tv", head.measured, max_iterations=2)
    assert any("iterations allowed" in note for note in maps.provenance.notes)


def test_cropping_to_the_mask_changes_nothing_but_the_frame(head):
    """A head in a larger empty volume gives the same map."""
    pad = ((5, 9), (0, 4), (7, 0))
    volumes = {q: np.pad(v, pad) for q, v in head.measured.volumes.items()}
    grid = Grid(volumes[Quantity.MASK].shape, np.eye(4), head.measured.grid.b0_direction)
    larger = reconstruct("tkd", Acquisition(grid, volumes))[Quantity.CHI]
    crop = tuple(slice(a, n - b) for (a, b), n in zip(pad, larger.shape, strict=True))
    np.testing.assert_array_equal(larger[crop], reconstruct("tkd", head.measured)[Quantity.CHI])


def test_divergence_is_a_sentence(head):
    field = head.measured[Quantity.LOCAL_FIELD] * np.float32(1e38)
    with pytest.raises(DivergenceError, match="finite"):
        reconstruct("tv", head.measured.with_volumes({Quantity.LOCAL_FIELD: field}))

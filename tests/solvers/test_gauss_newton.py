"""Gauss-Newton with reweighting: parabolas from above, descent, optimality, conjugate gradients."""

from itertools import islice, pairwise

import numpy as np
import pytest
import torch

from napari_qsm.generators import finished
from napari_qsm.physics.dipole import DipoleConvolution
from napari_qsm.physics.gradient import Gradient
from napari_qsm.solvers.conjugate_gradient import conjugate_gradient
from napari_qsm.solvers.fourier import inverse_normal
from napari_qsm.solvers.gauss_newton import Misfit, gauss_newton
from napari_qsm.solvers.iteration import DivergenceError
from napari_qsm.solvers.penalties import SmoothedNorm, Uniformity

SHAPE = (12, 10, 9)
G = Gradient((1.0, 1.2, 1.5))
SCALE = 16.0


class Lattice:
    shape = SHAPE
    voxel_size = G.voxel_size
    b0_direction = (0.0, 0.6, 0.8)


D = DipoleConvolution(Lattice(), padded_shape=SHAPE, dtype=torch.float64)
E2 = G.spectrum(SHAPE, dtype=torch.float64)


def noise(seed, size=1.0):
    values = np.random.default_rng(seed).standard_normal(SHAPE)
    return size * torch.from_numpy(values)


class Problem:
    """A noisy field of random boxes, weights that vary, and a tenth of all edges spared."""

    def __init__(self, *, scale=SCALE, weight=1e-4, smoothing=1e-3, data=None):
        rng = np.random.default_rng(0)
        chi = torch.zeros(SHAPE, dtype=torch.float64)
        for x, y, z in rng.integers(0, 6, (6, 3)):
            chi[x : x + 4, y : y + 3, z : z + 3] += 0.1 * rng.standard_normal()
        self.data = D(chi) + noise(1, 0.003) if data is None else data
        self.weights = torch.from_numpy(rng.uniform(0, 2, SHAPE))
        self.spared = torch.from_numpy((rng.uniform(size=(3, *SHAPE)) > 0.1).astype(float))
        self.scale, self.weight, self.smoothing = scale, weight, smoothing

    def misfit(self, start):
        return Misfit(D(start) - self.data, self.weights.clone(), scale=self.scale)

    def norm(self):
        return SmoothedNorm(G, self.spared.clone(), weight=self.weight, smoothing=self.smoothing)

    def value(self, chi):
        residual = D(chi) - self.data
        if self.scale is None:
            misfit = residual.square() / 2
        else:
            misfit = (1 - (self.scale * residual).cos()) / self.scale**2
        return float((self.weights * misfit).sum()) + self.norm().value(chi)

    def slope(self, chi):
        return D(self.misfit(chi).slope()) + finished(self.norm().pull(chi, torch.zeros_like(chi)))

    def inverse(self):
        stiffness = 0.2 * self.weight / self.smoothing / float(self.weights.mean())
        return inverse_normal(D.spectrum, E2, stiffness)

    def iterates(self, start=None, penalties=(), misfit=None):
        start = torch.zeros(SHAPE, dtype=torch.float64) if start is None else start.clone()
        misfit = misfit or self.misfit(start)
        running = gauss_newton(misfit, [self.norm(), *penalties], D.spectrum, self.inverse(), start)
        return (iterate for iterate in running if iterate.complete)

    def after(self, iterations, **start):
        *_, last = islice(self.iterates(**start), iterations)
        return last.estimate.clone()


@pytest.mark.parametrize("scale", [None, SCALE])
def test_the_slope_is_the_derivative_of_the_objective(scale):
    problem = Problem(scale=scale)
    chi, direction = noise(2, 0.05), noise(3)
    step = 1e-6
    ahead, behind = (problem.value(chi + sign * step * direction) for sign in (1, -1))
    expected = float((problem.slope(chi) * direction).sum())
    assert (ahead - behind) / (2 * step) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("scale", [None, SCALE])
def test_the_parabola_lies_above_the_objective_and_touches_it(scale):
    problem = Problem(scale=scale)
    chi = noise(2, 0.05)
    norm, misfit = problem.norm(), problem.misfit(chi)
    slope = D(misfit.slope()) + finished(norm.pull(chi, torch.zeros_like(chi)))
    here = problem.value(chi)
    for seed in range(5, 25):
        direction = noise(seed, 10.0 ** (seed % 5 - 4))
        bend = finished(norm.curvatures([direction])) + finished(misfit.curvatures([D(direction)]))
        above = here + float((slope * direction).sum()) + float(bend) / 2
        assert problem.value(chi + direction) <= above * (1 + 1e-12)


def test_curvatures_are_those_of_one_symmetric_positive_operator():
    problem = Problem()
    norm, misfit = problem.norm(), problem.misfit(noise(2))
    finished(norm.pull(noise(2, 0.05), noise(3)))
    directions = [noise(seed) for seed in range(3)]
    bends = [
        finished(norm.curvatures(directions)),
        finished(misfit.curvatures([D(d) for d in directions])),
        finished(Uniformity(problem.weights > 1, weight=2.0).curvatures(directions)),
    ]
    for bend in bends:
        torch.testing.assert_close(bend, bend.T)
        assert float(torch.linalg.eigvalsh(bend).min()) > 0
    weights = problem.spared / (G(noise(2, 0.05)).square() + problem.smoothing**2).sqrt()
    expected = problem.weight * float((weights * G(directions[0]) * G(directions[1])).sum())
    assert float(bends[0][0, 1]) == pytest.approx(expected, rel=1e-10)


def test_with_a_fixed_hessian_the_iterates_are_those_of_conjugate_gradients():
    """A smoothing far above every gradient makes the norm quadratic."""
    problem = Problem(scale=None, smoothing=1e4, weight=100.0)
    curvature = problem.weight / problem.smoothing

    def hessian(x):
        yield
        return D(problem.weights * D(x)) + curvature * G.H(problem.spared * G(x))

    def preconditioner(x):
        yield
        return torch.fft.irfftn(torch.fft.rfftn(x) * problem.inverse(), s=SHAPE)

    right = D(problem.weights * problem.data)
    running = conjugate_gradient(hessian, right, preconditioner=preconditioner)
    expected = (i.estimate for i in running if i.complete and i.iteration)
    for want, got in islice(zip(expected, problem.iterates(), strict=False), 8):
        assert float((got.estimate - want).norm() / want.norm()) < 1e-8


@pytest.mark.parametrize("scale", [None, SCALE])
def test_the_objective_falls_with_every_iteration_to_where_its_gradient_vanishes(scale):
    problem = Problem(scale=scale)
    values, estimate = [], None
    for iterate in islice(problem.iterates(), 250):
        estimate = iterate.estimate
        values.append(problem.value(estimate))
    assert all(after <= before * (1 + 1e-12) for before, after in pairwise(values))
    start = torch.zeros(SHAPE, dtype=torch.float64)
    assert float(problem.slope(estimate).norm() / problem.slope(start).norm()) < 1e-6
    here = problem.value(estimate)
    for seed in range(10):
        for size in (1e-2, -1e-2, 1e-4, -1e-4):
            assert problem.value(estimate + noise(seed, size)) > here


def test_the_preconditioner_saves_most_iterations():
    problem = Problem()
    best = problem.value(problem.after(200))

    def needed(inverse):
        problem.inverse = lambda: inverse
        for iterate in problem.iterates():
            if problem.value(iterate.estimate) < 1.001 * best:
                return iterate.iteration
        return None

    with_it, without = problem.inverse(), torch.ones_like(D.spectrum)
    assert 2 * needed(with_it) < needed(without)


def test_whole_turns_are_not_seen():
    problem = Problem()
    turns = torch.from_numpy(np.random.default_rng(0).integers(-3, 4, SHAPE)).double()
    turned = Problem(data=problem.data + turns * (2 * np.pi / SCALE))
    expected = problem.after(15)
    assert float((turned.after(15) - expected).norm() / expected.norm()) < 1e-9


def test_what_has_no_weight_is_not_looked_at():
    problem, other = Problem(), Problem()
    problem.weights[:4] = other.weights[:4] = 0
    other.data[:4] = 1e3
    torch.testing.assert_close(problem.after(10), other.after(10), rtol=0, atol=1e-12)


def test_a_region_can_be_held_to_one_value():
    problem = Problem()
    region = torch.zeros(SHAPE, dtype=torch.bool)
    region[3:7, 3:7, 3:7] = True
    free = problem.after(60)[region].std()
    held = problem.after(60, penalties=[Uniformity(region, weight=100.0)])[region].std()
    assert float(held) < 0.02 * float(free)


def test_outliers_lose_their_weight_and_the_rest_keeps_its_own():
    residual = noise(0)
    residual[2, 3, 4] = residual[11, 0, 0] = 300.0
    region = torch.ones(SHAPE, dtype=torch.bool)
    region[8:] = False
    misfit = Misfit(residual, torch.ones_like(residual))
    rho = 300.0 / (6 * float(misfit.distances()[region].std(correction=0)))
    assert misfit.discount_outliers(region) == 1
    ratio = misfit.weights / misfit.weights[0, 0, 0]
    assert float(ratio[2, 3, 4]) == pytest.approx(rho**-4, rel=1e-6)
    assert int((ratio < 1).sum()) == 1
    assert float(misfit.weights.mean()) == pytest.approx(1.0)
    even = Misfit(torch.zeros(SHAPE), torch.ones(SHAPE))
    assert even.discount_outliers(region) == 0


def test_a_start_at_the_minimum_stays_there():
    problem = Problem()
    best = problem.after(200)
    assert next(problem.iterates(best)).change < 1e-3
    assert next(problem.iterates()).change == 1


def test_nothing_comes_of_nothing_and_nan_is_refused():
    empty = Problem(data=torch.zeros(SHAPE, dtype=torch.float64))
    first = next(empty.iterates())
    assert first.change == 0
    assert not first.estimate.any()
    broken = Problem(data=torch.full(SHAPE, torch.nan, dtype=torch.float64))
    with pytest.raises(DivergenceError, match="finite"):
        next(broken.iterates())

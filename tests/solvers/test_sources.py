"""Two maps >= 0 by ADMM: exact without noise, and at the minimum of what it says it minimises."""

import numpy as np
import pytest
import torch

from napari_qsm.acquisition import Grid
from napari_qsm.generators import finished
from napari_qsm.physics.dipole import DipoleConvolution
from napari_qsm.physics.gradient import Gradient
from napari_qsm.physics.relaxation import Relaxivity
from napari_qsm.physics.separation import SourceOperator
from napari_qsm.solvers.admm import admm
from napari_qsm.solvers.data_terms import LeastSquares
from napari_qsm.solvers.fourier import SplitStep
from napari_qsm.solvers.iteration import until_converged
from napari_qsm.solvers.sources import SourceNormal, SourceSplit

SHAPE = (9, 7, 15)
EQUAL, UNEQUAL = Relaxivity(114.0, 114.0), Relaxivity(114.0, 30.0)
either = pytest.mark.parametrize("relaxivity", [EQUAL, UNEQUAL], ids=["equal", "unequal"])


class Problem:
    """Field, R2' / Dr, weights and everything the solver is made of, in double precision."""

    def __init__(self, relaxivity, noise=0.0, seed=0):
        rng = np.random.default_rng(seed)
        grid = Grid(SHAPE, np.diag([1.0, 1.2, 1.5, 1.0])).with_b0((0.3, -0.2, 1.0))
        dipole = DipoleConvolution(grid, dtype=torch.float64)
        self.phi = SourceOperator(dipole, relaxivity.shares)
        self.gradient = Gradient(grid.voxel_size)
        drawn = torch.from_numpy(0.1 * rng.random((2, *SHAPE)))
        kinds = torch.from_numpy(rng.integers(0, 3, SHAPE))  # both, paramagnetic, diamagnetic alone
        self.truth = drawn * torch.stack((kinds != 2, kinds != 1))
        _, rate, field = self.phi(self.truth)
        self.field = field + noise * torch.from_numpy(rng.standard_normal(SHAPE))
        self.rate = rate + 10 * noise * torch.from_numpy(rng.standard_normal(SHAPE))
        self.weights = torch.from_numpy(0.5 + rng.random(SHAPE))

    def solve(self, balance, strength, iterations, penalties, selection=None):
        """Return chi+ and chi-; `penalties` are those of field, gradient and sign."""
        mu, rho, sign = penalties
        symbol = self.phi.dipole.spectrum
        prior = torch.full_like(symbol, sign / rho)
        gradient = self.gradient if strength else None
        if strength:
            prior += self.gradient.spectrum(SHAPE, dtype=torch.float64)
        self.split = SourceSplit(
            torch.zeros(2, *SHAPE, dtype=torch.float64),
            barrier=sign / rho,
            gradient=gradient,
            threshold=strength / rho,
            selection=selection,
        )
        normal = SourceNormal(
            symbol,
            prior,
            self.rate,
            balance=balance,
            imbalance=self.phi.shares[0] - 1,
            ratio=rho / mu,
            penalty=mu,
        )
        term = LeastSquares(self.field, self.weights, penalty=mu)
        step = SplitStep(term, symbol, normal, shape=torch.Size(SHAPE))
        start = torch.zeros(2, *SHAPE, dtype=torch.float64)
        running = until_converged(
            admm(self.split, step, start, counting=2), tolerance=1e-15, max_iterations=iterations
        )
        finished(running)
        return self.split.sources()

    def misfits(self, sources):
        _, rate, field = self.phi(sources)
        return field - self.field, rate - self.rate

    def objective(self, sources, balance, strength, selection=1.0):
        field, rate = self.misfits(sources)
        data = (self.weights * field.square()).sum() + balance * rate.square().sum()
        edges = (selection * self.gradient(sources).abs()).sum()
        return float(data / 2 + strength * edges)

    def slope(self, sources, balance):
        """Gradient of the data terms."""
        field, rate = self.misfits(sources)
        rows = torch.stack((torch.zeros_like(field), balance * rate, self.weights * field))
        return self.phi.H(rows)


@either
def test_without_noise_the_sources_are_found(relaxivity):
    """To 6e-14 and 2e-9 (measured); two thirds of the voxels are of one kind, which fixes zero."""
    problem = Problem(relaxivity)
    found = problem.solve(1.0, 0.0, 1500, (0.1, 0.01, 0.01))
    error = (found - problem.truth).abs().max() / problem.truth.max()
    assert float(error) < 1e-6


@either
def test_the_solution_fulfils_the_conditions_of_its_optimum(relaxivity):
    """Signs alone: no slope where there is a source, none downwards where there is none."""
    problem, balance = Problem(relaxivity, noise=0.01), 0.02
    found = problem.solve(balance, 0.0, 3000, (0.15, 0.02, 0.02))
    slope = problem.slope(found, balance)
    size = float(problem.slope(torch.zeros_like(found), balance).abs().max())
    present = found > 0
    assert 0.1 < float(present.double().mean()) < 0.9  # both cases are met
    assert float(slope[present].abs().max()) < 1e-6 * size
    assert float(slope[~present].min()) > -1e-6 * size


@either
@pytest.mark.parametrize("edges", [False, True])
def test_variation_and_signs_are_at_their_common_optimum(relaxivity, edges):
    """With a dual p of the variation, |p| <= lambda and p = lambda sign(G x), what is left of the
    slope may push against the signs only."""
    problem, balance, strength, rho = Problem(relaxivity, noise=0.01), 0.02, 2e-4, 0.05
    selection = torch.ones(3, *SHAPE, dtype=torch.float64)
    if edges:
        selection[:, ::3] = 0
    found = problem.solve(balance, strength, 6000, (0.15, rho, 0.02), selection)
    slope = problem.slope(found, balance)
    size = float(problem.slope(torch.zeros_like(found), balance).abs().max())
    for source, variation, push in zip(found, problem.split._variations, slope, strict=True):
        kept = variation._split
        dual = rho * kept.clamp(-strength / rho, strength / rho) * selection
        jump = problem.gradient(source)
        flat = (jump.abs() < 1e-9) | (selection == 0)
        torch.testing.assert_close(
            dual[~flat], strength * jump[~flat].sign(), rtol=1e-4, atol=1e-4 * strength
        )
        push = push + problem.gradient.H(dual)
        present = source > 0
        assert float(push[present].abs().max()) < 1e-5 * size
        assert float(push[~present].min()) > -1e-5 * size
    assert float((problem.gradient(found).abs() < 1e-9).double().mean()) > 0.05


@either
def test_nothing_near_the_solution_is_better(relaxivity):
    problem, balance, strength = Problem(relaxivity, noise=0.01), 0.02, 2e-4
    found = problem.solve(balance, strength, 2000, (0.15, 0.05, 0.02))
    best = problem.objective(found, balance, strength)
    rng = np.random.default_rng(1)
    for size in (1e-1, 1e-2, 1e-3):
        for _ in range(10):
            step = torch.from_numpy(size * 0.1 * rng.standard_normal(found.shape))
            assert problem.objective((found + step).clamp(min=0), balance, strength) > best
    assert problem.objective(problem.truth, balance, strength) > best
    # The closed form of the true susceptibility, with R2' as it is:
    chi = problem.truth[0] - problem.truth[1]
    closed = torch.stack(relaxivity.separated(chi, problem.rate * relaxivity.mean))
    assert problem.objective(closed, balance, strength) > best


def test_a_flipped_field_exchanges_the_sources():
    problem = Problem(EQUAL, noise=0.01)
    first = problem.solve(0.02, 2e-4, 30, (0.15, 0.05, 0.02)).clone()
    problem.field = -problem.field
    second = problem.solve(0.02, 2e-4, 30, (0.15, 0.05, 0.02))
    assert torch.equal(first.flip(0), second)


@either
def test_an_anchor_is_all_that_counts_where_it_weighs_everything(relaxivity):
    problem = Problem(relaxivity)
    symbol = problem.phi.dipole.spectrum
    chi = problem.truth[0] - problem.truth[1]
    normal = SourceNormal(
        symbol,
        torch.full_like(symbol, 1e-9),
        problem.rate,
        balance=1.0,
        imbalance=problem.phi.shares[0] - 1,
        ratio=1e-9,
        penalty=1.0,
        anchor=(chi, torch.full_like(symbol, 1e9)),
    )
    solving = normal(torch.zeros_like(problem.truth), torch.zeros_like(symbol, dtype=torch.cdouble))
    difference, total = finished(solving)
    torch.testing.assert_close(difference, chi, rtol=0, atol=1e-8)
    torch.testing.assert_close(total, problem.truth.sum(0), rtol=0, atol=1e-8)

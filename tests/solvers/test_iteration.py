"""The stopping rule, the guard, and that closing closes everything."""

import gc
import weakref

import pytest
import torch

from napari_qsm.generators import finished, relayed
from napari_qsm.solvers.gradient_descent import gradient_descent
from napari_qsm.solvers.iteration import DivergenceError, Iterate, ratio_of_norms, until_converged

INF = float("inf")


def quadratic(scale):
    def gradient(x):
        yield
        return scale * (x - 1)

    return gradient


def run(iterates, **rule):
    running = until_converged(iterates, **rule)
    seen = []
    return finished(relayed(running, seen.append)), seen


def test_gradient_descent_reaches_the_minimum_and_stops_there():
    start = torch.zeros(3, dtype=torch.float64)
    last, seen = run(gradient_descent(quadratic(1.0), start, step=0.5), tolerance=1e-6,
                     max_iterations=100)  # fmt: skip
    torch.testing.assert_close(last.estimate, torch.ones_like(start), atol=2e-6, rtol=0)
    assert last.iteration < 30
    assert sum(not i.complete for i in seen) == last.iteration  # one pause in each


def test_it_stops_after_the_allowed_iterations():
    last, _ = run(gradient_descent(quadratic(1.0), torch.zeros(3), step=1e-3), tolerance=1e-9,
                  max_iterations=7)  # fmt: skip
    assert last.iteration == 7


def test_divergence_is_said_and_not_returned():
    iterates = gradient_descent(quadratic(1.0), torch.zeros(3), step=1e9)
    with pytest.raises(DivergenceError, match="finite"):
        run(iterates, tolerance=1e-6, max_iterations=100)


def test_closing_the_rule_closes_the_solver():
    closed = []

    def solver():
        try:
            while True:
                yield Iterate(0, torch.zeros(1))
        finally:
            closed.append(True)

    running = until_converged(solver(), tolerance=1e-3, max_iterations=5)
    next(running)
    running.close()
    assert closed


def test_a_cancelled_solver_lets_go_of_its_volumes():
    start = torch.zeros(3)
    gone = weakref.ref(start)
    running = until_converged(gradient_descent(quadratic(1.0), start, step=0.1), tolerance=1e-9,
                              max_iterations=9)  # fmt: skip
    del start
    next(running)
    running.close()
    del running
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize(
    ("update", "estimate", "expected"),
    [(0.0, 0.0, 0.0), (1.0, 0.0, INF), (1.0, 2.0, 0.5), (1.0, INF, INF), (1.0, float("nan"), INF)],
)
def test_ratio_of_norms(update, estimate, expected):
    assert ratio_of_norms(torch.tensor([update]), torch.tensor([estimate])) == expected

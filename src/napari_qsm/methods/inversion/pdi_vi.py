"""PDI-VI: a probabilistic network brought to the posterior of one patient, without labels."""

from collections.abc import Generator
from typing import Literal

import torch
from torch import Tensor

from napari_qsm.acquisition import Acquisition, InputError, Quantity
from napari_qsm.methods.frame import FrameChoice, frame_parameter, in_frame
from napari_qsm.methods.guard import watched
from napari_qsm.methods.learned import (
    Seen,
    estimate,
    opened,
    origin,
    precision_parameter,
    weights_parameter,
)
from napari_qsm.methods.registry import Reconstruction, Step, method, parameter
from napari_qsm.methods.variational import (
    Estimator,
    Posterior,
    Problem,
    figures_told,
    problem,
)
from napari_qsm.methods.workspace import Workspace
from napari_qsm.networks.editing import Edited, editable, edited
from napari_qsm.networks.inverter import Inverter
from napari_qsm.networks.precision import Precision
from napari_qsm.networks.weights import Card

DISCLAIMER = (
    "Sigma is the standard deviation of the posterior in each voxel by itself, given the field's "
    "error and the prior, times nothing: errors that voxels share, such as streaks, and a wrong "
    "prior are not in it, so it is too small, by a sixth to a half where it can be computed. What "
    "the trained network had learned of its own errors, in lesions above all, is no longer in it; "
    "for that look at PDI's."
)


class PDIVI(Posterior):
    """Parameters of PDI-VI."""

    weights: str = weights_parameter("pdi")
    start: Literal["trained", "random"] = parameter(
        "trained",
        "Begin with the trained weights, or with random ones of the same network (PDI-VI0), which "
        "takes several times as many iterations.",
    )
    edit: Edited = parameter("all", "Which weights are changed for this patient.")
    iterations: int = parameter(
        30, "Steps that change the weights; each goes over the whole volume.", low=1, high=1000
    )
    rate: float = parameter(
        1e-3,
        "Learning rate: how far the first steps go; the last ones go a twentieth of that.",
        low=1e-5,
        high=1e-2,
        log=True,
    )
    estimator: Estimator = parameter(
        "analytic",
        "Take expectations in closed form, or over samples (mc), which is slower and noisier.",
    )
    samples: int = parameter(5, "Samples of an expectation, for mc alone.", low=1, high=50)
    floor: float = parameter(
        0.0,
        "Standard deviation that sigma cannot go below; the network's own is 1 ppb.",
        low=0.0,
        high=0.02,
        unit="ppm",
    )
    seed: int = parameter(0, "Of random weights and samples.", low=0, high=999_999)
    precision: Precision = precision_parameter()
    frame: FrameChoice = frame_parameter()


@method(
    key="pdi_vi",
    label="PDI-VI",
    summary="A network's map and its uncertainty, adapted to this field under MEDI's prior.",
    parameters=PDIVI,
    references=("10.59275/j.melba.2021-bbf2", "10.1002/mrm.22816"),
    uses=(Quantity.MASK, Quantity.MAGNITUDE, Quantity.FIELD_NOISE),
    gives=(Quantity.CHI, Quantity.SIGMA, Quantity.RESIDUAL),
    tuning="regularization",
    odd=False,
)
def pdi_vi(acquisition: Acquisition, parameters: PDIVI, device: torch.device) -> Reconstruction:
    """Minimise the free energy of ``N(mu(f), sigma(f)^2)`` over the weights of the network.

    Per field f, with ``W = m / sigma_b`` and everything in ppm::

        -sum log sigma + lambda / sigma_b^2 E |M G chi|_1 + E |W (D chi - f)|^2 / 2

    which is Kullback and Leibler's distance from the posterior under MEDI's prior up to a constant.
    M is 0 at edges of the magnitude, G the gradient in 1/mm, m the mask. lambda, in ppm mm, is that
    of MEDI with the linear data term: there the data have a weight of 1, here ``1 / sigma_b^2``.

    References: Zhang et al. 2021 for the network and its adaptation, Liu et al. 2011 for the prior.

    Raises
    ------
    InputError
        If there are no such weights or they give no standard deviation.
    """
    network, card = opened(parameters.weights, device, "pdi")
    if not network.design.uncertain:
        raise InputError(
            f"The weights '{card.key}' give no standard deviation, which PDI-VI adapts; choose "
            "weights of a network with two decoders."
        )

    def reconstruct(measured: Acquisition) -> Reconstruction:
        return _adapted(measured, network, card, parameters, device)

    return (yield from in_frame(acquisition, card, parameters.frame, reconstruct, device, "PDI-VI"))


def _adapted(
    acquisition: Acquisition,
    network: Inverter,
    card: Card,
    parameters: PDIVI,
    device: torch.device,
) -> Reconstruction:
    with Workspace(acquisition, device, "PDI-VI") as space:
        yield space.step(0.0, "opening the network")
        _begin(network, card, parameters, space)
        made, view = yield from problem(acquisition, space, network, parameters, share=0.25)
        yield from _adapt(made, view, network, parameters, space)
        del made
        network.requires_grad_(False)
        found = yield from estimate(
            space, network, view, fraction=0.95, precision=parameters.precision
        )
        mean = view.padded(found.mean, space)
        assert found.sigma is not None
        sigma = torch.sqrt(found.sigma.square() + parameters.floor**2)
        spread = view.padded(sigma, space)
        space.extras[Quantity.SIGMA] = space.restore(spread)
        space.notes.append(DISCLAIMER)
        yield from watched(space, view, mean, spread, card)
        return (yield from space.finish(mean))


def _begin(network: Inverter, card: Card, parameters: PDIVI, space: Workspace) -> None:
    """Leave a network as it was trained, or draw its weights anew; noted."""
    if parameters.start == "trained":
        space.notes.append(origin(card))
        return
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(parameters.seed)
        fresh = Inverter(network.design)
    space.notes.append(
        f"The network is that of the weights '{card.key}', begun at random (PDI-VI0)."
    )
    network.load_state_dict(fresh.state_dict())


def _adapt(
    made: Problem, view: Seen, network: Inverter, parameters: PDIVI, space: Workspace
) -> Generator[Step, None, None]:
    """Change the network step by step; what that did is noted."""
    samples = parameters.samples if parameters.estimator == "mc" else 0
    torch.manual_seed(parameters.seed)
    last = torch.zeros(view.shape, device=space.device)
    first: dict[str, float] = {}

    def objective() -> tuple[Tensor, dict[str, float]]:
        nonlocal last
        loss, figures, last = made.loss(
            network, samples=samples, floor=parameters.floor, precision=parameters.precision
        )
        return loss, figures

    weights = editable(network, parameters.edit)
    total, figures = parameters.iterations, first
    running = edited(
        objective,
        weights,
        network,
        made.energy,
        rate=parameters.rate,
        iterations=total,
        settling=True,
    )
    for now in running:
        if now.complete:
            figures = dict(now.figures)
            first = first or figures
        told = f"iteration {now.iteration} of {total}"
        if figures:
            told += f", residual {figures['residual']:.2f} times the error"
        shown = {"iteration": float(now.iteration), **figures} if now.complete else {}
        fraction = 0.25 + 0.7 * now.iteration / total
        preview = None if not now.iteration else lambda: _padded(last, space)
        yield space.step(fraction, told, preview, **shown)
    space.notes.append(figures_told(first, figures))


def _padded(inside: Tensor, space: Workspace) -> Tensor:
    whole = torch.zeros(space.shape, device=inside.device)
    whole[tuple(slice(0, n) for n in inside.shape)] = inside
    return whole

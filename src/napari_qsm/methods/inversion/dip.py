"""DIP and MoDIP: an untrained network as the prior, changed for one case."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from napari_qsm.acquisition import Acquisition, Quantity
from napari_qsm.methods.axes import in_order
from napari_qsm.methods.learned import Seen, seen
from napari_qsm.methods.per_case import Measured, Plan, Proposal, fitted, measured
from napari_qsm.methods.phase import phase_scale_parameter
from napari_qsm.methods.registry import Parameters, Reconstruction, method, parameter
from napari_qsm.methods.workspace import Workspace
from napari_qsm.networks.consistency import Descent, average, blurred, roughness
from napari_qsm.networks.inverter import Design, Inverter
from napari_qsm.networks.unet import Architecture

ROUGH = 0.5
"""Weight of the residual's fine structure beside the residual, as in MoDIP."""

LEVELS = 4
"""Resolutions of the plain network; MoDIP's has 2."""


class DIP(Parameters):
    """Parameters of deep image priors."""

    variant: Literal["modip", "dip"] = parameter(
        "modip",
        "A tiny network whose output goes through steps of gradient descent, or a larger network "
        "alone.",
    )
    iterations: int = parameter(
        100, "Stop after this many changes of the network.", low=1, high=1000, log=True
    )
    rate: float = parameter(
        4e-3, "Learning rate: how much one iteration changes the network.", low=1e-5, high=3e-2,
        log=True,
    )  # fmt: skip
    width: int = parameter(12, "Features at full resolution.", low=2, high=64)
    steps: int = parameter(
        10, "Steps of gradient descent that follow the network (MoDIP).", low=0, high=100
    )
    variation: float = parameter(
        0.1,
        "Weight of the map's variation relative to the field's misfit: low values leave noise and "
        "streaks, high ones flatten.",
        low=0.0,
        high=1.0,
    )
    discrepancy: float = parameter(
        0.0,
        "Stop once the residual is this many times the field's error (tau); 0 for never, since "
        "gradient steps alone bring it there.",
        low=0.0,
        high=5.0,
        alias="tau",
    )
    patience: int = parameter(
        0,
        "Stop when so many iterations have not made the maps scatter less; 0 for never.",
        low=0,
        high=200,
    )
    memory: float = parameter(
        0.8, "Part of the average of all maps that the next one leaves.", low=0.0, high=0.99
    )
    phase_scale: float | None = phase_scale_parameter()
    seed: int = parameter(0, "Of the random weights the network begins with.", low=0, high=2**31)


def untrained(parameters: DIP, device: torch.device) -> Inverter:
    """Return the network of a variant, the same for the same seed."""
    if parameters.variant == "modip":
        architecture = Architecture(widths=(parameters.width, 2 * parameters.width))
    else:
        widths = tuple(parameters.width * 2**level for level in range(LEVELS))
        architecture = Architecture(widths=widths, convolutions=1, upsampling="nearest")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(parameters.seed)
        network = Inverter(Design(architecture=architecture)).to(device)
    if device.type == "cpu":
        network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return network


def _modip(
    network: Inverter,
    view: Seen,
    space: Workspace,
    case: Measured,
    descent: nn.Module,
    variation: float,
) -> Proposal:
    """Return ``mean |r| + 1/2 mean |L r|``, r the weighted residual after the descent."""
    estimate = descent(view.padded(network(view.inputs).mean, space)) * case.region
    predicted = case.dipole(estimate)
    residual = (predicted - case.field) * case.weights.sqrt()
    loss = average(residual.abs() + ROUGH * blurred(residual).abs(), case.region)
    rough = roughness(estimate, space.voxel_size, case.region)
    return Proposal(estimate, predicted, (loss + variation * rough) / case.spread)


def _dip(
    network: Inverter, view: Seen, space: Workspace, case: Measured, variation: float
) -> Proposal:
    """Return the misfit of phases and the map's variation, in units of the field's spread."""
    estimate = view.padded(network(view.inputs).mean, space)
    predicted = case.dipole(estimate)
    rough = roughness(estimate, space.voxel_size, case.region) / case.spread
    return Proposal(estimate, predicted, case.misfit(predicted) + variation * rough)


@method(
    key="dip",
    label="DIP",
    summary="An untrained network, fitted to this one field through the physics (MoDIP, DIP).",
    parameters=DIP,
    references=("10.1016/j.neuroimage.2024.120583", "10.48550/arXiv.1711.10925"),
    uses=(Quantity.MASK, Quantity.MAGNITUDE, Quantity.FIELD_NOISE),
    tuning="iterations",
    odd=False,
)
def dip(acquisition: Acquisition, parameters: DIP, device: torch.device) -> Reconstruction:
    """Fit an untrained network g of the field b: ``chi = g(b)``, or that after gradient steps.

    What keeps streaks and noise out is that networks learn structure before noise, and that they
    are stopped in time. MoDIP lets the output of a small network run through K steps of gradient
    descent (`napari_qsm.networks.consistency.Descent`), which leave to the network what the physics
    does not determine, and makes the absolute residual and its Laplacian small. DIP takes a larger
    network alone, with the misfit of phases, ``|W (exp(i s A chi) - exp(i s b))|^2 / s^2``. Both
    add the map's variation. No training is needed, for any voxel size and direction of B0.
    References: Xiong et al. 2024; Ulyanov et al. 2018.
    """
    return (yield from in_order(acquisition, lambda one: _fitted(one, parameters, device)))


def _fitted(acquisition: Acquisition, parameters: DIP, device: torch.device) -> Reconstruction:
    with Workspace(acquisition, device, "DIP") as space:
        yield space.step(0.0, "preparing")
        plain = parameters.variant == "dip"
        case = yield from measured(
            acquisition, space, nonlinear=plain, stated_scale=parameters.phase_scale
        )
        network = untrained(parameters, device)
        view = yield from seen(acquisition, network, space, share=0.01)
        descent = Descent(case.dipole, case.field, case.weights, steps=parameters.steps)
        plan = Plan(
            rate=parameters.rate,
            iterations=parameters.iterations,
            discrepancy=parameters.discrepancy,
            patience=parameters.patience,
            memory=parameters.memory,
        )

        def propose() -> Proposal:
            if plain:
                return _dip(network, view, space, case, parameters.variation)
            return _modip(network, view, space, case, descent, parameters.variation)

        changed = list(network.parameters())
        space.notes.append(f"The network began with the random weights of seed {parameters.seed}.")
        result = yield from fitted(
            space, propose, case, changed, network, case.dipole, descent, plan=plan, begun=0.01
        )
        return (yield from space.finish(result))

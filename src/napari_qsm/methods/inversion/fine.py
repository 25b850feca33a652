"""FINE: a trained network changed until its map explains the field of the case."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch

from napari_qsm.acquisition import Acquisition, Quantity
from napari_qsm.methods.edges import spared
from napari_qsm.methods.frame import FrameChoice, frame_parameter, in_frame
from napari_qsm.methods.guard import watched
from napari_qsm.methods.learned import opened, origin, seen, weights_parameter
from napari_qsm.methods.per_case import Plan, Proposal, fitted, measured
from napari_qsm.methods.phase import phase_scale_parameter
from napari_qsm.methods.registry import Parameters, Reconstruction, method, parameter
from napari_qsm.methods.variation import ERROR_SHARE, chosen_regularization
from napari_qsm.methods.workspace import Workspace
from napari_qsm.networks.consistency import roughness
from napari_qsm.networks.editing import Edited, editable
from napari_qsm.networks.inverter import Inverter
from napari_qsm.networks.weights import Card
from napari_qsm.physics.gradient import Gradient

FAMILIES = ("pdi", "qsmnet", "uqsm")
"""Of the networks that can be edited."""

EDGES = 0.3
"""Part of the pairs of neighbours that count as edges of the magnitude, as in MEDI."""

SHARE = ERROR_SHARE / 2
"""lambda in mm over the error's weight: half of TV's, for the network knows heads besides."""

_PARTS: dict[str, Edited] = {"all": "all", "decoder": "mean decoder", "head": "head"}


class FINE(Parameters):
    """Parameters of fidelity imposed network edit."""

    weights: str = weights_parameter(*FAMILIES)
    edit: Literal["all", "decoder", "head"] = parameter(
        "decoder",
        "Which weights of the network are changed: all, its decoder's, or its last layer's.",
    )
    iterations: int = parameter(
        40,
        "Change the network so many times at most: few leave what it was trained to, many fit "
        "noise and bring streaks.",
        low=1,
        high=300,
        log=True,
    )
    rate: float = parameter(
        2e-4, "Learning rate: how much one iteration changes the network.", low=1e-5, high=1e-2,
        log=True,
    )  # fmt: skip
    discrepancy: float = parameter(
        0.7,
        "Stop once the residual is this many times the field's error (tau); 0 for never.",
        low=0.0,
        high=5.0,
        alias="tau",
    )
    regularization: float | None = parameter(
        None,
        "Weight of the map's variation where the magnitude has no edges (lambda), relative to the "
        "misfit as in TV; 0 for none, which on measured fields ends in streaks. By itself chosen "
        "from the field's error.",
        low=0.0,
        high=1e-2,
        unit="ppm mm",
        alias="lambda",
        typical=1e-4,
    )
    data: Literal["linear", "nonlinear"] = parameter(
        "linear", "Compare fields, or signals, which do not see whole turns of the phase."
    )
    memory: float = parameter(
        0.5, "Part of the average of all maps that the next one leaves.", low=0.0, high=0.99
    )
    phase_scale: float | None = phase_scale_parameter()
    frame: FrameChoice = frame_parameter()


def mean_only(network: Inverter) -> Inverter:
    """Return a network of its own that makes the mean alone; a second decoder would idle."""
    made = Inverter(replace(network.design, uncertain=False))
    known = made.state_dict()
    made.load_state_dict({k: v for k, v in network.state_dict().items() if k in known})
    device = network.scales.device
    made.eval().to(device)
    if device.type == "cpu":
        made.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return made


@method(
    key="fine",
    label="FINE",
    summary="A trained network, changed until its map explains this field.",
    parameters=FINE,
    references=("10.1016/j.neuroimage.2020.116579",),
    uses=(Quantity.MASK, Quantity.MAGNITUDE, Quantity.FIELD_NOISE),
    tuning="iterations",
    odd=False,
)
def fine(acquisition: Acquisition, parameters: FINE, device: torch.device) -> Reconstruction:
    """Minimise ``|W (A g(b) - b)|^2 + 2 lambda |M grad g(b)|_1`` over the weights of a network g.

    It starts from trained weights. What the network was not trained on, such as a lesion, it learns
    from the field of the case; what the field says nothing about stays as the training left it. M
    spares the edges of the magnitude. The published method has no second term (lambda = 0) and
    changes all weights: on measured slabs that fits their errors (docs/benchmarks.md). It ends when
    the residual is down to the field's error (discrepancy principle) or after the iterations
    allowed. Norms stay as trained. Reference: Zhang et al. 2020.
    """
    trained, card = opened(parameters.weights, device, *FAMILIES)

    def reconstruct(measured: Acquisition) -> Reconstruction:
        return _edited(measured, mean_only(trained), card, parameters, device)

    return (yield from in_frame(acquisition, card, parameters.frame, reconstruct, device, "FINE"))


def _edited(
    acquisition: Acquisition, network: Inverter, card: Card, parameters: FINE, device: torch.device
) -> Reconstruction:
    with Workspace(acquisition, device, "FINE") as space:
        yield space.step(0.0, "preparing")
        space.notes.append(origin(card))
        nonlinear = parameters.data == "nonlinear"
        case = yield from measured(
            acquisition, space, nonlinear=nonlinear, stated_scale=parameters.phase_scale
        )
        view = yield from seen(acquisition, network, space, share=0.2)
        changed = editable(network, _PARTS[parameters.edit])
        selection = None
        strength = yield from chosen_regularization(parameters.regularization, SHARE, FINE, space)
        if strength:
            selection = yield from spared(acquisition, space, Gradient(space.voxel_size), EDGES)

        def propose() -> Proposal:
            map_ = view.padded(network(view.inputs).mean, space)
            predicted = case.dipole(map_)
            loss = case.misfit(predicted)
            if strength:
                rough = roughness(map_, space.voxel_size, case.region, selection)
                loss = loss + 2 * strength / case.spread**2 * rough
            return Proposal(map_, predicted, loss)

        plan = Plan(
            rate=parameters.rate,
            iterations=parameters.iterations,
            discrepancy=parameters.discrepancy,
            memory=parameters.memory,
        )
        result = yield from fitted(
            space, propose, case, changed, network, case.dipole, plan=plan, begun=0.25
        )
        yield from watched(space, view, result, None, card)
        return (yield from space.finish(result))

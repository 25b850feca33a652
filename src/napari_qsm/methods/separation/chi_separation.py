"""chi-separation: both kinds of sources at once, from the field and R2' together."""

import torch

from napari_qsm.acquisition import Acquisition, Quantity
from napari_qsm.methods.edges import spared
from napari_qsm.methods.registry import Reconstruction, method, parameter
from napari_qsm.methods.separation.joint import (
    Penalties,
    balance_parameter,
    chosen_balance,
    solved,
    start_of,
)
from napari_qsm.methods.separation.shared import GIVES, RATES, USES, Separating, SourceSpace
from napari_qsm.methods.variation import (
    DATA_PENALTY,
    PENALTY_RATIO,
    chosen_regularization,
    iterations_parameter,
    regularization_parameter,
    tolerance_parameter,
    weights_parameter,
)
from napari_qsm.methods.workspace import Weighting
from napari_qsm.physics.gradient import Gradient

LABEL = "chi-separation"

SHARE = 0.5
"""lambda in mm over `FieldError.weight`: 0.3 to 0.9 are alike on digital heads (measured)."""

BARRIER = 0.2
"""Penalty of the sign's split relative to the gradient's, in 1/mm^2; 0.1 to 0.5 are soonest."""


class ChiSeparation(Separating):
    """Parameters of chi-separation."""

    regularization: float | None = regularization_parameter()
    balance: float | None = balance_parameter()
    edges: float = parameter(
        0.3,
        "Part of the pairs of neighbours in the mask that count as edges of the magnitude, where "
        "both susceptibilities may jump for free.",
        low=0.0,
        high=0.9,
    )
    weights: Weighting = weights_parameter()
    tolerance: float = tolerance_parameter()
    max_iterations: int = iterations_parameter()


@method(
    key="chi_separation",
    label=LABEL,
    summary="Field and R2' explained at once, edges where the magnitude has some.",
    parameters=ChiSeparation,
    references=("10.1016/j.neuroimage.2021.118371", "10.1002/mrm.22816"),
    uses=(*USES, Quantity.MAGNITUDE, Quantity.FIELD_NOISE, Quantity.CHI),
    gives=GIVES,
    tuning="regularization",
    one_of=RATES,
)
def chi_separation(
    acquisition: Acquisition, parameters: ChiSeparation, device: torch.device
) -> Reconstruction:
    """Explain field and R2' at once by two maps of few edges.

    Over ``chi+ >= 0`` and ``chi- >= 0`` it minimises by ADMM

        ``1/2 |W (D (chi+ - chi-) - f)|^2 + beta/2 |(Dr+ chi+ + Dr- chi- - R2') / Dr|^2
        + lambda (|M G chi+|_1 + |M G chi-|_1)``, ``Dr = (Dr+ + Dr-) / 2``.

    G is the gradient in 1/mm, M is 0 at edges of the magnitude and 1 elsewhere, |.|_1 the
    anisotropic norm. Both terms of the data count by their error: beta is the squared ratio of the
    field's to that of ``R2' / Dr``. A susceptibility in the acquisition is where the
    iteration starts. There is no term for fluid: where nothing relaxes there are no sources.
    The objective is that of Shin et al. 2021 with the edges of Liu et al. 2011; its splitting,
    with a step for both maps in closed form, is our own.

    Raises
    ------
    InputError
        If neither R2' nor R2* is known.
    """
    with SourceSpace(acquisition, device, LABEL, parameters) as space:
        yield space.step(0.0, "preparing")
        weighting = space.weighting(parameters.weights)
        strength = yield from chosen_regularization(
            parameters.regularization, SHARE, ChiSeparation, space, weighting
        )
        balance = yield from chosen_balance(parameters.balance, ChiSeparation, space, weighting)
        yield space.step(0.0, "preparing")
        start = start_of(acquisition, space)
        gradient = Gradient(space.voxel_size)
        selection = None
        if parameters.edges and Quantity.MAGNITUDE in acquisition:
            selection = yield from spared(acquisition, space, gradient, parameters.edges)
        else:
            space.notes.append("No edges are spared.")
        penalties = Penalties(
            ratio=PENALTY_RATIO * strength / DATA_PENALTY,
            barrier=BARRIER,
            gradient=gradient,
            threshold=1 / PENALTY_RATIO,
            selection=selection,
        )
        sources = yield from solved(
            space,
            weighting,
            balance,
            penalties,
            start=start,
            tolerance=parameters.tolerance,
            max_iterations=parameters.max_iterations,
        )
        return (yield from space.separated(sources))

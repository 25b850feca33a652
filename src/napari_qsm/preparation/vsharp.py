"""V-SHARP: SHARP with the largest ball that fits at every voxel."""

from collections.abc import Generator

import torch
from torch import Tensor

from napari_qsm.acquisition import Acquisition
from napari_qsm.physics import fourier
from napari_qsm.physics.spherical_mean import SphericalMean
from napari_qsm.preparation.background import GIVES, NEEDS, USES, BackgroundProblem
from napari_qsm.preparation.registry import Place, stage
from napari_qsm.preparation.sharp import truncated_inverse
from napari_qsm.process import Parameters, Step, Work, parameter


class VSHARP(Parameters):
    """Parameters of V-SHARP."""

    largest_radius: float = parameter(
        18.0, "Radius of the balls deep inside the mask.", low=1, high=30, unit="mm"
    )
    smallest_radius: float = parameter(
        3.0,
        "Radius of the balls nearest to the mask's edge: a larger one keeps less of the mask.",
        low=1,
        high=20,
        unit="mm",
    )
    step: float = parameter(1.5, "From one radius to the next.", low=0.5, high=5, unit="mm")
    threshold: float = parameter(
        0.1,
        "Frequencies that the largest balls leave less of than this are lost.",
        low=1e-3,
        high=0.5,
        log=True,
    )


@stage(
    key="vsharp",
    label="V-SHARP",
    summary="SHARP with balls that shrink towards the mask's edge: fast, keeps most of the mask.",
    place=Place.BACKGROUND,
    parameters=VSHARP,
    references=("10.1002/mrm.23000", "10.1016/j.neuroimage.2010.10.070"),
    needs=NEEDS,
    uses=USES,
    gives=GIVES,
)
def vsharp(acquisition: Acquisition, parameters: VSHARP, device: torch.device) -> Work:
    """Take ``f - S_r f`` with the largest ball that fits, and deconvolve with the largest of all.

    ``f_L = F^-1 [F g / (1 - s)]``, 0 where ``1 - s`` is small, with s the symbol of the largest
    balls that fit anywhere. Where g is made with smaller balls this undoes too little, the price
    for voxels near the edge. Reference: Wu et al. 2012.
    """
    margin = parameters.largest_radius
    with BackgroundProblem(acquisition, device, "V-SHARP", margin=margin) as problem:
        yield problem.step(0.0, "preparing")
        beyond, kept, largest = yield from _with_all_balls(problem, _radii(problem, parameters))
        if largest.radius < margin:
            problem.notes.append(
                f"Balls of {margin:g} mm were asked for; nowhere in the mask do any larger than "
                f"{largest.radius:g} mm fit."
            )
        inverse = truncated_inverse(largest.deviation, parameters.threshold)
        local = yield from problem.filtered(beyond, inverse, 0.9, "deconvolving")
        return (yield from problem.finish(local, kept))


def _radii(problem: BackgroundProblem, parameters: VSHARP) -> list[float]:
    """Return the radii from the largest that fits into the box to the smallest."""
    smallest = parameters.smallest_radius
    if smallest > parameters.largest_radius:
        smallest = parameters.largest_radius
        problem.notes.append(
            f"The smallest radius, {parameters.smallest_radius:g} mm, is above the largest: all "
            f"balls have {smallest:g} mm."
        )
    count = int((parameters.largest_radius - smallest) / parameters.step + 1e-6) + 1
    least = max(problem.voxel_size)
    radii = [parameters.largest_radius - i * parameters.step for i in range(count)]
    return [r for r in radii if r >= least and problem.fits(r)] or [smallest]


def _with_all_balls(
    problem: BackgroundProblem, radii: list[float]
) -> Generator[Step, None, tuple[Tensor, Tensor, SphericalMean]]:
    """Return ``f - S_r f`` with the largest r that fits, where one does, and the largest mean."""
    beyond, kept = torch.zeros_like(problem.field), torch.zeros_like(problem.region)
    transform = fourier.spectrum(problem.field)
    largest, used = None, 0.0
    for index, radius in enumerate(radii):
        yield problem.step(0.05 + 0.8 * index / len(radii), f"balls of {radius:g} mm")
        mean = problem.spherical_mean(radius)
        yield problem.step(0.05 + 0.8 * (index + 0.3) / len(radii), f"balls of {radius:g} mm")
        new = mean.core(problem.region).sub_(kept)
        if not new.any():
            continue
        yield problem.step(0.05 + 0.8 * (index + 0.6) / len(radii), f"balls of {radius:g} mm")
        largest, used = largest or mean, mean.radius
        beyond.addcmul_(fourier.volume(transform * mean.deviation, problem.shape), new)
        kept.add_(new)
    if largest is None:
        raise problem.nothing_left(radii[-1])
    problem.notes.append(
        f"The balls have a radius of {largest.radius:g} mm inside and down to {used:g} mm near the "
        "mask's edge."
    )
    return beyond, kept, largest

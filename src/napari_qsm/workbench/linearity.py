"""The response to a lesion's strength as a window asks for it: chosen layers, one job."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from napari_qsm.acquisition import Grid, InputError, Volume
from napari_qsm.evaluation.linearity import Linearity, linearity
from napari_qsm.evaluation.regions import whole_labels
from napari_qsm.methods.registry import Method
from napari_qsm.process import Parameters, Step
from napari_qsm.workbench.job import Job
from napari_qsm.workbench.session import Inputs


@dataclass(frozen=True)
class Lesion:
    """A region that somebody painted or chose.

    Parameters
    ----------
    volume : Volume
        Labels.
    label : int
        Which of them.
    """

    volume: Volume
    label: int

    def region(self, grid: Grid) -> NDArray[np.bool_]:
        """Return where it is.

        Raises
        ------
        InputError
            If it lies on another grid, holds no whole numbers, or has no voxel with the label.
        """
        if mismatch := grid.mismatch(self.volume.grid):
            raise InputError(f"The region {mismatch}; choose one on the grid of the field.")
        labels = whole_labels(self.volume.data)
        inside: NDArray[np.bool_] = labels == self.label
        if not inside.any():
            there = ", ".join(map(str, np.unique(labels[labels != 0])[:12])) or "none"
            raise InputError(
                f"No voxel of the region has the label {self.label}; there are {there}. Paint some "
                "or choose another label."
            )
        return inside


def linearity_job(
    inputs: Inputs,
    lesion: Lesion,
    method: Method[Any],
    parameters: Parameters,
    device: torch.device,
    strengths: Sequence[float],
) -> Job[Linearity]:
    """Return the job that finds out how a method follows a lesion; see `linearity`."""

    def work() -> Generator[Step, None, Linearity]:
        yield Step(0.0, "Checking the input")
        acquisition = inputs.acquisition()
        region = lesion.region(acquisition.grid)
        return (
            yield from linearity(
                method, acquisition, region, parameters, device, strengths=strengths
            )
        )

    return Job(work)

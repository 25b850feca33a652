"""Unrolled networks: steps towards what was measured, each followed by the same network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from napari_qsm.networks.inverter import Design

Operator = TypeVar("Operator")


class ProximalDescent(ABC, nn.Module, Generic[Operator]):
    """Gradient descent on a data term whose proximal operator P is a network.

    Parameters
    ----------
    design : Design
        K, its `iterations`, and the first `step`, which is learned.
    proximal : nn.Module
        P.
    """

    def __init__(self, design: Design, proximal: nn.Module) -> None:
        super().__init__()
        self.design = design
        self.step = nn.Parameter(torch.tensor(float(design.step)))
        self.proximal = proximal

    @abstractmethod
    def first(self, measured: Tensor) -> Tensor:
        """Return what the iteration starts from."""

    @abstractmethod
    def descended(
        self, estimate: Tensor, measured: Tensor, operators: Sequence[Operator]
    ) -> Tensor:
        """Return what P sees of an estimate: it after a step, and perhaps more; float32."""

    def following(
        self, estimate: Tensor, measured: Tensor, operators: Sequence[Operator]
    ) -> Tensor:
        """Return the iterate after an estimate."""
        stepped: Tensor = self.proximal(self.descended(estimate, measured, operators))
        return stepped

    def iterates(
        self, measured: Tensor, operators: Sequence[Operator], count: int | None = None
    ) -> Generator[Tensor, None, None]:
        """Yield x_1, x_2, ... of (N, C, X, Y, Z); every volume has its own operator.

        Parameters
        ----------
        measured : (N, C, X, Y, Z) tensor
            In ppm.
        operators : sequence
            N of them.
        count : int, optional
            How many; K by default.
        """
        estimate = self.first(measured)
        for _ in range(self.design.iterations if count is None else count):
            estimate = self.following(estimate, measured, operators)
            yield estimate

    def forward(
        self,
        measured: Tensor,
        operators: Sequence[Operator],
        free: int = 0,
        count: int | None = None,
    ) -> Tensor:
        """Return the iterates after the first `free` ones, which no gradient goes back through.

        Parameters
        ----------
        measured, operators
            As for `iterates`.
        free : int
            How many are only passed through: learning from the last three of ten costs half.
        count : int, optional
            How many in all, K by default.

        Returns
        -------
        (count - free, N, ...) tensor
        """
        kept = []
        estimate = self.first(measured)
        for number in range(self.design.iterations if count is None else count):
            with torch.set_grad_enabled(torch.is_grad_enabled() and number >= free):
                estimate = self.following(estimate, measured, operators)
            if number >= free:
                kept.append(estimate)
        return torch.stack(kept)

"""Two kinds of sources and what is measured of them: susceptibility, R2' and field at once."""

from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor

from napari_qsm.physics.dipole import DipoleConvolution

Shares = tuple[float, float]
"""How much R2' each kind makes relative to their mean, ``Dr+ / Dr`` and ``Dr- / Dr``."""


class SourceOperator:
    """What two kinds of sources make: ``Phi = [[I, -I], [a I, b I], [D, -D]]``.

    Sources are ``x = (chi+, chi-)`` in ppm, both magnitudes >= 0. The rows of ``Phi x`` are the
    susceptibility ``chi+ - chi-``, the relaxation ``R2' / Dr = a chi+ + b chi-`` and the local
    field ``D (chi+ - chi-)``, all in ppm too. With ``Dr = (Dr+ + Dr-) / 2`` the shares are
    ``a = Dr+ / Dr`` and ``b = Dr- / Dr``, both 1 where both kinds relax alike.

    Parameters
    ----------
    dipole : DipoleConvolution
        D of the volumes' grid.
    shares : tuple[float, float]
        a and b; `napari_qsm.physics.relaxation.Relaxivity.shares`.

    Notes
    -----
    Sources have shape (..., 2, X, Y, Z), what is measured (..., 3, X, Y, Z).
    """

    def __init__(self, dipole: DipoleConvolution, shares: Shares = (1.0, 1.0)) -> None:
        self.dipole = dipole
        self.shares = shares

    def __call__(self, sources: Tensor) -> Tensor:
        """Susceptibility, R2' / Dr and field of `sources`."""
        positive, negative = sources.unbind(-4)
        difference = positive - negative
        decay = self.shares[0] * positive + self.shares[1] * negative
        return torch.stack((difference, decay, self.dipole(difference)), dim=-4)

    @property
    def H(self) -> Callable[[Tensor], Tensor]:
        """The adjoint: (..., 3, X, Y, Z) to (..., 2, X, Y, Z)."""
        return self._adjoint

    def _adjoint(self, measured: Tensor) -> Tensor:
        chi, decay, field = measured.unbind(-4)
        difference = chi + self.dipole.H(field)
        return torch.stack(
            (self.shares[0] * decay + difference, self.shares[1] * decay - difference), dim=-4
        )

    @cached_property
    def eigenvalues(self) -> Tensor:
        """Eigenvalues of ``Phi.H Phi`` at every frequency, ascending: (2, half grid).

        ``2`` and ``2 + 2 D^2`` for equal shares, whose eigenvectors are the sum and the
        difference of both kinds. In general those of ``[[m + a^2, a b - m], [a b - m, m + b^2]]``
        with ``m = 1 + D^2``. Exact where the dipole does not pad, else bounds.
        """
        a, b = self.shares
        m = 1 + self.dipole.gram
        middle = m + (a * a + b * b) / 2
        apart = (((a * a - b * b) / 2) ** 2 + (a * b - m).square()).sqrt_()
        return torch.stack((middle - apart, middle + apart))

    @property
    def stability_limit(self) -> float:
        """Step below which ``x + step Phi.H (y - Phi x)`` converges, 2 over the largest eigenvalue.

        At equal shares ``1 / (1 + max D^2)``, 0.692 where the grid reaches ``|D| = 2/3``.
        """
        return 2 / float(self.eigenvalues[1].max())

    def contraction(self, step: float) -> Tensor:
        """``|1 - step e|`` of both `eigenvalues`: what such a step leaves of an error."""
        return (1 - step * self.eigenvalues).abs_()

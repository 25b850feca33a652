"""Convolutions that are seen and heard only in a region: applied, and solved fast.

With R the restriction to a region and s >= 0 the symbol of a convolution, ``R F^-1 s F R`` is a
discrete boundary value problem: what lies outside the region is zero. The inverse on the whole
box, ``R F^-1 1/s F R``, differs from the inverse on the region only by what the boundary does,
so that conjugate gradients preconditioned with it need hardly more iterations on fine grids than
on coarse ones.
"""

import torch
from torch import Tensor

from napari_qsm.solvers.conjugate_gradient import Operator, conjugate_gradient
from napari_qsm.solvers.fourier import scale_spectrum
from napari_qsm.solvers.iteration import Iterates, Pieces


def filtered(volume: Tensor, symbol: Tensor) -> Pieces:
    """Convolve a real volume (X, Y, Z), periodically, with what has a real symbol; new memory."""
    transform = torch.fft.rfftn(volume)
    yield
    scale_spectrum(transform, symbol)
    transform = torch.fft.ifftn(transform, dim=(-3, -2))
    yield
    result: Tensor = torch.fft.irfft(transform, n=volume.shape[-1])
    return result


def restricted(symbol: Tensor, region: Tensor, *, shift: float = 0.0) -> Operator:
    """Return the operator ``R F^-1 s F + shift``, for volumes that are zero outside the region.

    Parameters
    ----------
    symbol : Tensor
        s, real, on the half grid.
    region : Tensor
        1 inside, 0 outside, (X, Y, Z).
    shift : float
        Multiple of the identity to add.
    """

    def apply(volume: Tensor) -> Pieces:
        result = yield from filtered(volume, symbol)
        result.mul_(region)
        return result.add_(volume, alpha=shift) if shift else result

    return apply


def solve_restricted(
    symbol: Tensor, region: Tensor, right: Tensor, *, floor: float, shift: float = 0.0
) -> Iterates:
    """Solve ``(R F^-1 s F R + shift) x = b`` by preconditioned conjugate gradients.

    Parameters
    ----------
    symbol, region, shift
        See `restricted`.
    right : Tensor
        b, zero outside the region; overwritten.
    floor : float
        Added to s where the preconditioner divides by it. About the value of s at the longest
        wavelengths that fit into the region: the box knows longer ones, and none too long.
    """
    return conjugate_gradient(
        restricted(symbol, region, shift=shift),
        right,
        preconditioner=restricted((symbol + floor).reciprocal_(), region),
    )

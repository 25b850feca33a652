"""The three planes through a voxel of a filtered volume, without the volume."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from napari_qsm.physics.fourier import Shape, low_half

SLAB = 16
"""Planes of k-space that are filtered and summed at once: what the processor's cache holds."""

Planes = tuple[Tensor, Tensor, Tensor]
"""x = i, y = j and z = k, shaped (Y, Z), (X, Z) and (X, Y)."""


class SlicedInverse:
    """Orthogonal planes of ``F^-1 S F f`` for one field f and any real filter S.

    A plane of a volume is a sum over the frequencies across it, followed by a two-dimensional
    transform, so three planes need a look at every frequency but no three-dimensional transform:

    ``v(i, y, z) = F2^-1 [1/X sum_u exp(2 pi i u i / X) S F f](y, z)``

    and likewise for the other axes. One pass over the filtered half grid serves all three.

    Parameters
    ----------
    half_spectrum : Tensor
        F f on the half grid.
    shape : sequence of int
        Spatial shape of the volume.
    """

    def __init__(self, half_spectrum: Tensor, shape: Sequence[int]) -> None:
        x, y, z = shape
        self.shape: Shape = (x, y, z)
        # Real and imaginary parts apart, (X, 2, Y, Z/2+1): every product below is one of matrices
        # of real numbers, and of contiguous ones.
        self._parts = torch.view_as_real(half_spectrum).movedim(-1, 1).contiguous()
        self._filtered = torch.empty_like(self._parts[:SLAB])

    def __call__(self, symbol: Tensor, point: Sequence[int]) -> Planes:
        """Return the planes through the voxel `point` of the field filtered by `symbol`."""
        x, y, z = self.shape
        half = z // 2 + 1
        along_x, along_y, along_z = (
            self._wave(n, index) for n, index in zip(self.shape, point, strict=True)
        )
        across_x = self._parts.new_zeros((2, y * half))
        across_y = self._parts.new_empty((x, 2, half))
        across_z = self._parts.new_empty((x, 2, y, 2))
        rows_y = torch.stack((_joined(along_y), _joined(along_y, turned=True)))
        counted = _both_signs(along_z[:, :half], z).T.contiguous()
        for start in range(0, x, SLAB):
            slab = slice(start, min(start + SLAB, x))
            part, planes = self._parts[slab], slab.stop - start
            filtered = torch.mul(part, symbol[slab].unsqueeze(1), out=self._filtered[:planes])
            here = along_x[:, slab]
            weights = torch.stack((_alternating(here), _alternating(here, turned=True)))
            across_x.addmm_(weights, filtered.view(2 * planes, -1))
            torch.matmul(rows_y, filtered.view(planes, 2 * y, half), out=across_y[slab])
            torch.mm(filtered.view(-1, half), counted, out=across_z[slab].view(2 * planes * y, 2))
        return (
            torch.fft.irfft2(_complex(across_x.view(2, y, half)), s=(y, z)),
            torch.fft.irfft2(_complex(across_y.movedim(1, 0)), s=(x, z)),
            torch.fft.ifft2(
                torch.complex(
                    across_z[:, 0, :, 0] - across_z[:, 1, :, 1],
                    across_z[:, 0, :, 1] + across_z[:, 1, :, 0],
                )
            ).real,
        )

    def spectrum(self, symbol: Tensor, *, low: bool = False) -> Tensor:
        """Return the filtered half spectrum ``S F f`` itself, or only the `low_half` of it."""
        parts = list(self._parts.unbind(1))
        if low:
            symbol, *parts = (low_half(part, self.shape) for part in (symbol, *parts))
        product = symbol.new_empty((*symbol.shape, 2))
        for number, part in enumerate(parts):  # reals, twice as fast as complex times real
            torch.mul(part, symbol, out=product[..., number])
        return torch.view_as_complex(product)

    def _wave(self, n: int, index: int) -> Tensor:
        """Cosine and sine of ``2 pi u index / n`` over n, for all frequencies u; shaped (2, n)."""
        # Whole turns are taken off as integers: float32 would lose them to rounding.
        angle = (torch.arange(n) * index % n).double() * (2 * math.pi / n)
        return torch.stack((angle.cos(), angle.sin())).div_(n).to(self._parts)


def _both_signs(half_wave: Tensor, n: int) -> Tensor:
    """Count frequencies of the half grid twice that stand for their negatives, too."""
    times = torch.full_like(half_wave, 2)
    times[:, 0] = 1
    if n % 2 == 0:
        times[:, -1] = 1
    return half_wave * times


def _joined(wave: Tensor, *, turned: bool = False) -> Tensor:
    """Weights of (all real, all imaginary) parts in the real part of a sum, else the imaginary."""
    cosine, sine = wave
    return torch.cat((sine, cosine) if turned else (cosine, -sine))


def _alternating(wave: Tensor, *, turned: bool = False) -> Tensor:
    """Do the same for parts that alternate, real and imaginary, frequency by frequency."""
    return _joined(wave, turned=turned).view(2, -1).T.reshape(-1)


def _complex(parts: Tensor) -> Tensor:
    return torch.complex(parts[0], parts[1])

"""Forward differences in mm, their exact adjoint, and the spectrum of both together."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from napari_qsm.physics.fourier import AXES


class Gradient:
    """Periodic forward differences ``(x[i+1] - x[i]) / v`` along the three axes.

    Parameters
    ----------
    voxel_size : sequence of float
        Sides of a voxel in mm; differences of ppm come out in ppm/mm.

    Notes
    -----
    Maps volumes (..., X, Y, Z) to (..., 3, X, Y, Z). The adjoint is the negative backward
    divergence, and ``G.H G = F^-1 E2 F`` with ``E2 = sum_a (2 - 2 cos(2 pi n_a / N_a)) / v_a^2``
    holds to rounding, which is what makes Fourier-diagonal solves with it exact.
    """

    def __init__(self, voxel_size: Sequence[float]) -> None:
        self.voxel_size = tuple(float(v) for v in voxel_size)

    def __call__(self, volume: Tensor) -> Tensor:
        """Gradient of volumes (..., X, Y, Z)."""
        components = [
            (volume.roll(-1, axis) - volume) / size
            for axis, size in zip(AXES, self.voxel_size, strict=True)
        ]
        return torch.stack(components, dim=-4)

    @property
    def H(self) -> Callable[[Tensor], Tensor]:
        """The adjoint: vector fields (..., 3, X, Y, Z) to volumes (..., X, Y, Z)."""
        return self._adjoint

    def _adjoint(self, vectors: Tensor) -> Tensor:
        total = torch.zeros_like(vectors.select(-4, 0))
        for axis, size, component in zip(AXES, self.voxel_size, vectors.unbind(-4), strict=True):
            total = total + (component.roll(1, axis) - component) / size
        return total

    def difference(self, volume: Tensor, axis: int, slab: slice, out: Tensor) -> Tensor:
        """Write the differences along `axis` (-3, -2 or -1) at the planes `slab` into `out`.

        Returns `out`, see `steps`.
        """
        return self.steps(volume, axis, slab, out).mul_(1 / self.voxel_size[axis])

    def steps(self, volume: Tensor, axis: int, slab: slice, out: Tensor) -> Tensor:
        """Write `difference` before it is divided by the voxel size: for who divides in passing.

        Solvers go through a volume slab by slab, so that what lies between their steps stays in
        the processor's cache. Returns `out`, shaped (..., stop - start, Y, Z).
        """
        part = volume[..., slab, :, :]
        inner = part.shape[axis] - 1
        torch.sub(
            part.narrow(axis, 1, inner),
            part.narrow(axis, 0, inner),
            out=out.narrow(axis, 0, inner),
        )
        following = volume.select(-3, slab.stop % volume.shape[-3]) if axis == -3 else None
        first = part.select(axis, 0) if following is None else following
        torch.sub(first, part.select(axis, -1), out=out.select(axis, -1))
        return out

    def add_adjoint(self, component: Tensor, axis: int, slab: slice, total: Tensor) -> None:
        """Add to `total` the adjoint of `difference` applied to `component` at planes `slab`."""
        scale = 1 / self.voxel_size[axis]
        part = total[..., slab, :, :]
        inner = part.shape[axis] - 1
        part.sub_(component, alpha=scale)
        part.narrow(axis, 1, inner).add_(component.narrow(axis, 0, inner), alpha=scale)
        following = total.select(-3, slab.stop % total.shape[-3]) if axis == -3 else None
        first = part.select(axis, 0) if following is None else following
        first.add_(component.select(axis, -1), alpha=scale)

    def spectrum(
        self,
        shape: Sequence[int],
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        """E2, the symbol of ``G.H G`` in 1/mm^2, on the half grid of `shape`."""
        total = torch.zeros((1, 1, 1), device=device, dtype=dtype)
        for axis, (n, size) in enumerate(zip(shape, self.voxel_size, strict=True)):
            count = n // 2 + 1 if axis == 2 else n
            angle = torch.arange(count, dtype=torch.float64) * (2 * math.pi / n)
            term = (2 - 2 * angle.cos()) / size**2
            along = [-1 if a == axis else 1 for a in range(3)]
            total = total + term.to(dtype=dtype, device=device).reshape(along)
        return total

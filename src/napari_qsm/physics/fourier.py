"""Fourier grids of real volumes: sizes that transform fast, and frequencies in cycles per mm.

Fields are real, so every spectrum in this program lives on the half grid of ``torch.fft.rfftn``:
the last axis holds the ``n // 2 + 1`` non-negative frequencies.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

AXES = (-3, -2, -1)
"""The spatial axes of every volume; axes before them are batch axes."""

Shape = tuple[int, int, int]

_PLANES = 8


def smooth_size(n: int) -> int:
    """Smallest size >= `n` whose prime factors are 2, 3, 5 and 7.

    A transform of 164x205x205 (prime factor 41) takes six times as long as one of 168x208x208.
    """
    size = max(1, n)
    while True:
        rest = size
        for prime in (2, 3, 5, 7):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return size
        size += 1


def smooth_shape(shape: Sequence[int], factor: float = 1.0) -> Shape:
    """Smooth shape at least `factor` times as long as `shape` along every axis.

    Raises
    ------
    ValueError
        If `factor` is below 1.
    """
    if factor < 1:
        raise ValueError(f"The padding factor is {factor:g}; it must be at least 1.")
    x, y, z = (smooth_size(math.ceil(n * factor - 1e-9)) for n in shape)
    return x, y, z


def spectrum(volume: Tensor, shape: Sequence[int] | None = None) -> Tensor:
    """Half spectrum of real volumes (..., X, Y, Z), zero-padded behind to `shape` if given."""
    transform: Tensor = torch.fft.rfftn(volume, s=shape, dim=AXES)
    return transform


def volume(half_spectrum: Tensor, shape: Sequence[int]) -> Tensor:
    """Real volumes of spatial `shape` from their half spectra."""
    real: Tensor = torch.fft.irfftn(half_spectrum, s=tuple(shape), dim=AXES)
    return real


def cropped_volume(half_spectrum: Tensor, shape: Sequence[int], part: Sequence[int]) -> Tensor:
    """First `part` voxels of the real volume of spatial `shape`, from its half spectrum (3D).

    Axis by axis, so that what is cut off along one is not transformed along the next, and a few
    planes at a time, which stay in the processor's cache: with a fifth of each axis cut off, this
    takes three quarters of the time of the whole transform.
    """
    x, y, z = part
    first = torch.fft.ifft(half_spectrum, dim=0)
    made = torch.empty(tuple(part), dtype=first.real.dtype, device=first.device)
    for start in range(0, x, _PLANES):
        planes = slice(start, min(start + _PLANES, x))
        second = torch.fft.ifft(first[planes], dim=-2)[:, :y]
        made[planes] = torch.fft.irfft(second, n=shape[2], dim=-1)[..., :z]
    return made


def low_half(half_grid: Tensor, shape: Sequence[int]) -> Tensor:
    """Frequencies of a half grid (..., X, Y, Z/2+1) below half of the highest along each axis.

    They are the half grid of a volume whose axes are odd and about half as long.
    """
    low = half_grid[..., : (shape[2] + 3) // 4]
    for axis, n in ((-3, shape[0]), (-2, shape[1])):
        kept = (n + 3) // 4
        parts = (low.narrow(axis, 0, kept), low.narrow(axis, n - kept + 1, kept - 1))
        low = torch.cat(parts, dim=axis)
    return low


def coarse_volume(low: Tensor, shape: Sequence[int], part: Sequence[int]) -> Tensor:
    """First `part` voxels of a volume of which only the `low_half` of the frequencies is left.

    It is transformed on a grid half as fine, at an eighth of the cost, and repeated to the voxels
    of the fine one: for a quick look, not for numbers.
    """
    sizes = (low.shape[-3], low.shape[-2], 2 * low.shape[-1] - 1)
    coarse = volume(low, sizes) * (math.prod(sizes) / math.prod(shape))
    # The last axis first, while there is little to repeat: it is the one that is slow to.
    for axis in (-1, -2, -3):
        at = torch.arange(part[axis], device=low.device) * sizes[axis] / shape[axis]
        coarse = coarse.index_select(axis, at.round().long() % sizes[axis])
    return coarse


def crop(padded: Tensor, shape: Sequence[int]) -> Tensor:
    """View of the first `shape` voxels of padded volumes (..., X, Y, Z)."""
    x, y, z = shape
    return padded[..., :x, :y, :z]


def frequencies(
    shape: Sequence[int],
    voxel_size: Sequence[float],
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> tuple[Tensor, Tensor, Tensor]:
    """Frequencies of the half grid in cycles/mm along each axis, shaped to broadcast."""
    x, y, z = (
        torch.fft.fftfreq(n, d=size, dtype=torch.float64)
        for n, size in zip(shape, voxel_size, strict=True)
    )
    z = z[: shape[2] // 2 + 1].abs()  # rfftn's sign for the Nyquist frequency of an even axis
    kx, ky, kz = (k.to(dtype=dtype, device=device) for k in (x, y, z))
    return kx[:, None, None], ky[None, :, None], kz[None, None, :]


def multiplicity(shape: Sequence[int], device: torch.device | str | None = None) -> Tensor:
    """How many planes of the full grid each plane of the half grid stands for: (Z // 2 + 1,).

    Two, except those that are their own mirror image.
    """
    planes = torch.full((shape[2] // 2 + 1,), 2.0, device=device)
    planes[0] = 1
    if shape[2] % 2 == 0:
        planes[-1] = 1
    return planes


def mean_over_spectrum(symbol: Tensor, shape: Sequence[int]) -> float:
    """Mean of a real symbol over the full grid of `shape`, given on its half grid.

    Every plane of the half grid stands for two, except those that are their own mirror image.
    """
    total = 2 * symbol.sum() - symbol[..., 0].sum()
    if shape[2] % 2 == 0:
        total = total - symbol[..., -1].sum()
    return float(total) / math.prod(shape)

"""The one U-Net of this program: from QSMnet to the two heads of PDI it differs only in numbers.

Without biases and norms every layer is positively homogeneous, and so is the whole: ``g(s b) =
s g(b)`` for ``s > 0``. A network that has seen weak sources then reads strong ones on the same
scale, whatever its weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

Norm = Literal["none", "scale", "batch"]
Upsampling = Literal["transposed", "nearest"]


@dataclass(frozen=True)
class Architecture:
    """The numbers that tell one U-Net from another.

    Parameters
    ----------
    inputs : int
        Channels that go in.
    heads : tuple of int
        Channels that come out of each decoder; all decoders share one encoder.
    widths : tuple of int
        Features at every resolution, the finest first.
    convolutions : int
        Of 3^3 voxels, at every resolution on the way down and up.
    norm : {"none", "scale", "batch"}
        After each convolution; ``"scale"`` divides by a root mean square and shifts nothing.
    bias : bool
        Whether convolutions add a constant. Only without is the network homogeneous.
    upsampling : {"transposed", "nearest"}
        On the way up; ``"nearest"`` cannot leave a checkerboard.
    slope : float
        Of the leaky ReLU below zero.
    """

    inputs: int = 1
    heads: tuple[int, ...] = (1,)
    widths: tuple[int, ...] = (16, 32, 64, 128)
    convolutions: int = 2
    norm: Norm = "none"
    bias: bool = False
    upsampling: Upsampling = "transposed"
    slope: float = 0.1

    @property
    def homogeneous(self) -> bool:
        """Whether ``g(s b) = s g(b)`` for every ``s > 0``."""
        return not self.bias and self.norm != "batch"


class ScaleNorm(nn.Module):
    """Divide every channel by its root mean square over the training set; shift nothing.

    Batch normalisation without mean and offset: it evens out the layers and, once trained, is a
    fixed factor per channel, which leaves a homogeneous network homogeneous.

    Parameters
    ----------
    channels : int
        Of the input, (N, channels, X, Y, Z).
    momentum : float
        Weight of the newest batch in the running mean square.
    """

    square: Tensor

    def __init__(self, channels: int, momentum: float = 0.05) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(channels))
        self.register_buffer("square", torch.ones(channels))
        self._momentum = momentum

    def forward(self, features: Tensor) -> Tensor:
        """Return the scaled features."""
        square = self.square
        if self.training:
            square = features.float().square().mean(dim=(0, 2, 3, 4))
            with torch.no_grad():
                self.square.lerp_(square, self._momentum)
        factor = self.gain * (square + 1e-12).rsqrt()
        return features * factor.to(features.dtype).view(1, -1, 1, 1, 1)


class UNet(nn.Module):
    """An encoder that halves the resolution, and one decoder for every head.

    Volumes (N, inputs, X, Y, Z) of any size become (N, sum(heads), X, Y, Z): the input is
    continued with zeros to a multiple of the coarsest voxel and the output cut back. References:
    Ronneberger et al. 2015, doi:10.1007/978-3-319-24574-4_28; for dipole inversion Yoon et al.
    2018, doi:10.1016/j.neuroimage.2018.06.030.

    Parameters
    ----------
    architecture : Architecture
        Its numbers.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        widths = architecture.widths
        sources = (architecture.inputs, *widths[:-1])
        self.encoder = nn.ModuleList(
            _convolutions(source, width, architecture)
            for source, width in zip(sources, widths, strict=True)
        )
        self.decoders = nn.ModuleList(_Decoder(architecture, head) for head in architecture.heads)

    @property
    def coarsest(self) -> int:
        """Side in voxels of the coarsest feature."""
        side: int = 2 ** (len(self.architecture.widths) - 1)
        return side

    def forward(self, volumes: Tensor) -> Tensor:
        """Return the outputs of all heads as channels."""
        shape = volumes.shape[-3:]
        features = functional.pad(volumes, _missing(shape, self.coarsest))
        levels: list[Tensor] = []
        for block in self.encoder:
            if levels:
                features = functional.max_pool3d(features, 2)
            features = block(features)
            levels.append(features)
        outputs = torch.cat([decoder(levels) for decoder in self.decoders], dim=1)
        return outputs[..., : shape[0], : shape[1], : shape[2]]


class _Decoder(nn.Module):
    def __init__(self, architecture: Architecture, outputs: int) -> None:
        super().__init__()
        widths = architecture.widths
        self.ups = nn.ModuleList(
            _upsampling(coarse, fine, architecture)
            for coarse, fine in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.blocks = nn.ModuleList(
            _convolutions(2 * fine, fine, architecture) for fine in widths[-2::-1]
        )
        self.head = nn.Conv3d(widths[0], outputs, 1, bias=architecture.bias)
        with torch.no_grad():
            self.head.weight.mul_(0.1)  # an untrained head adds little to what it starts from

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        features = levels[-1]
        for up, block, skip in zip(self.ups, self.blocks, reversed(levels[:-1]), strict=True):
            features = block(torch.cat([up(features), skip], dim=1))
        output: Tensor = self.head(features)
        return output


def _convolutions(source: int, width: int, architecture: Architecture) -> nn.Sequential:
    layers: list[nn.Module] = []
    norms = {"none": None, "scale": ScaleNorm, "batch": nn.BatchNorm3d}
    norm = norms[architecture.norm]
    for number in range(architecture.convolutions):
        entering = source if number == 0 else width
        layers.append(_initialised(nn.Conv3d(entering, width, 3, 1, 1, bias=architecture.bias)))
        if norm is not None:
            layers.append(norm(width))
        layers.append(nn.LeakyReLU(architecture.slope, inplace=True))
    return nn.Sequential(*layers)


def _upsampling(coarse: int, fine: int, architecture: Architecture) -> nn.Module:
    if architecture.upsampling == "transposed":
        return nn.ConvTranspose3d(coarse, fine, 2, 2, bias=architecture.bias)
    narrow = nn.Conv3d(coarse, fine, 1, bias=architecture.bias)
    return nn.Sequential(narrow, nn.Upsample(scale_factor=2, mode="nearest"))


def _initialised(convolution: nn.Conv3d) -> nn.Conv3d:
    """Keep the variance of features from layer to layer (He et al. 2015)."""
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="leaky_relu", a=0.1)
    return convolution


def _missing(shape: Sequence[int], multiple: int) -> list[int]:
    """Zeros to append on each axis, in the order of `torch.nn.functional.pad`."""
    pads: list[int] = []
    for size in reversed(shape):
        pads += [0, math.ceil(size / multiple) * multiple - size]
    return pads

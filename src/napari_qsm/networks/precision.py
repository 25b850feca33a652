"""In which precision convolutions run: bfloat16 where the hardware multiplies it natively."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch

Precision = Literal["auto", "bfloat16", "float32"]


def chosen(device: torch.device, wanted: Precision = "auto") -> torch.dtype:
    """Return the type of convolutions: bfloat16 by itself on CPUs with tiles (AMX) and on CUDA.

    Elsewhere bfloat16 is emulated and slower than single precision.
    """
    if wanted != "auto":
        return torch.bfloat16 if wanted == "bfloat16" else torch.float32
    native = False
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported()
    elif device.type == "cpu":
        supported = getattr(torch.cpu, "_is_amx_tile_supported", None)
        native = supported is not None and bool(supported())
    return torch.bfloat16 if native else torch.float32


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[object]:
    """Run convolutions in `dtype`; sums, transforms and losses stay in single precision."""
    if dtype == torch.float32:
        return nullcontext()
    return torch.autocast(device.type, dtype=dtype)

"""Where a reconstruction can run, by the names torch uses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_qsm.acquisition import InputError

if TYPE_CHECKING:
    import torch


def available() -> list[str]:
    """Return the devices of this machine, the preferred one first; ``cpu`` is always the last."""
    import torch

    names = []
    if torch.cuda.is_available():
        count = torch.cuda.device_count()
        names += ["cuda", *(f"cuda:{index}" for index in range(1, count))]
    if torch.backends.mps.is_available():
        names.append("mps")
    return [*names, "cpu"]


def choose(name: str = "auto") -> torch.device:
    """Return the device called ``name``; ``auto`` takes the preferred one.

    Raises
    ------
    InputError
        If this machine has no such device.
    """
    import torch

    known = available()
    wanted = name.strip().lower()
    if wanted == "auto":
        wanted = known[0]
    if {"cuda:0": "cuda", "cpu:0": "cpu", "mps:0": "mps"}.get(wanted, wanted) not in known:
        raise InputError(
            f"The device '{name}' is not available here; use auto or {' or '.join(known)}."
        )
    return torch.device(wanted)


def describe(device: torch.device | str) -> str:
    """Say in words what runs on ``device``: ``cpu, 2 threads`` or ``cuda, NVIDIA H200``."""
    import torch

    target = torch.device(device)
    if target.type == "cpu":
        count = torch.get_num_threads()
        return f"cpu, {count} thread{'' if count == 1 else 's'}"
    if target.type == "cuda":
        return f"{target}, {torch.cuda.get_device_name(target)}"
    return str(target)

"""From the design in a card to a network."""

from __future__ import annotations

from napari_qsm.networks.inverter import Design, Inverter
from napari_qsm.networks.lpcnn import LPCNN
from napari_qsm.networks.separator import Separator, Unrolled

Network = Inverter | LPCNN | Separator | Unrolled


def built(design: Design) -> Network:
    """Return the untrained network of a design."""
    if design.task == "inversion":
        return LPCNN(design) if design.iterations else Inverter(design)
    return Unrolled(design) if design.iterations else Separator(design)

"""What the first layers of a session need, fetched before they come and away from the main thread.

napari imports and compiles for its first mask layer, which freezes the window for a second.
"""

from __future__ import annotations

from functools import cache
from threading import Thread

import numpy as np
from napari.layers import Layer

from napari_qsm.acquisition import Grid, Quantity, Volume
from napari_qsm.widgets.background import give_way
from napari_qsm.workbench.layers import dress, layer_data


@cache
def warm_up() -> None:
    """Begin to make ready for the first layers; once in a session, and nobody waits for it."""
    # The registry of units fills itself on first use, and not for two threads at a time.
    _make(Quantity.LOCAL_FIELD)
    Thread(target=_make_mask, name="napari-qsm warm-up", daemon=True).start()


def _make_mask() -> None:
    give_way()
    _make(Quantity.MASK)


def _make(quantity: Quantity) -> None:
    grid = Grid((4, 4, 4), np.eye(4))
    layer = Layer.create(*layer_data(Volume(np.ones(grid.shape), grid), quantity, "warm-up"))
    dress(layer)
    layer.refresh()

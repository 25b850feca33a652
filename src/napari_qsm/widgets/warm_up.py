"""What the first layers of a session need, fetched before they come and away from the main thread.

napari imports and compiles for its first mask layer, which freezes the window for a second.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from napari.layers import Layer

from napari_qsm.acquisition import Grid, Quantity, Volume
from napari_qsm.widgets.background import run_function
from napari_qsm.workbench.layers import dress, layer_data


@cache
def warm_up() -> None:
    """Begin to make ready for the first layers; once in a session, and nobody waits for it."""
    run_function(_make_one_of_each, on_done=lambda _: None, on_error=lambda _: None)


def _make_one_of_each() -> None:
    grid = Grid((4, 4, 4), np.eye(4))
    for quantity in (Quantity.MASK, Quantity.LOCAL_FIELD):
        layer = Layer.create(*layer_data(Volume(np.ones(grid.shape), grid), quantity, "warm-up"))
        dress(layer)
        layer.refresh()

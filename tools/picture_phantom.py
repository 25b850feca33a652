"""Draw docs/images/phantom.png: the digital head as a radiologist would page through it.

    python tools/picture_phantom.py docs/images/phantom.png

Needs Pillow besides the package. Patient right is on the left of axial and coronal panels.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from napari_qsm.acquisition import Quantity
from napari_qsm.training.phantom import sample_head

VIEWS = (("axial", 8.0), ("coronal", -6.0), ("sagittal", 3.0), ("axial", -9.0), ("axial", 21.0))
ROWS = (
    (Quantity.CHI, (-0.12, 0.25)),
    (Quantity.CHI, (-1.5, 1.5)),
    (Quantity.LOCAL_FIELD, (-0.06, 0.06)),
    (Quantity.MAGNITUDE, (0.0, 0.085)),
)
ZOOM = 2


def panel(volume: np.ndarray, plane: str, index: int) -> np.ndarray:
    """Slice in radiological display: up is up, patient right on the left."""
    axis = {"sagittal": 0, "coronal": 1, "axial": 2}[plane]
    return np.rot90(np.take(volume, index, axis=axis))[:, ::-1]


def main(target: Path) -> None:
    """Make the case and write the picture."""
    phantom = sample_head("haemorrhage and calcification")
    grid = phantom.acquisition.grid
    rows = []
    for quantity, (low, high) in ROWS:
        source = phantom.truth if quantity in phantom.truth else phantom.acquisition
        shades = (np.clip((source[quantity] - low) / (high - low), 0, 1) * 255).astype(np.uint8)
        cells = []
        for plane, position in VIEWS:
            axis = {"sagittal": 0, "coronal": 1, "axial": 2}[plane]
            index = round((position - grid.affine[axis, 3]) / grid.voxel_size[axis])
            cells.append(panel(shades, plane, index))
        tall = max(cell.shape[0] for cell in cells)
        cells = [np.pad(c, ((0, tall - c.shape[0]), (0, 2))) for c in cells]
        row = Image.fromarray(np.concatenate(cells, axis=1))
        row = row.resize((row.width * ZOOM, row.height * ZOOM), Image.Resampling.BICUBIC)
        words = f"{quantity.label}, {low:g} to {high:g} {quantity.unit}"
        ImageDraw.Draw(row).text((6, 4), words, fill=255, font_size=18)
        rows.append(np.asarray(row))
    target.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(rows)).save(target, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

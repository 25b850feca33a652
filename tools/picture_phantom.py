"""Draw docs/images/phantom.png and raw_head.png: the digital head as a radiologist pages through.

The first shows its truth and its local field, the second what a scanner sends of it.

    python tools/picture_phantom.py docs/images

Needs Pillow besides the package. Patient right is on the left of axial and coronal panels.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from napari_qsm.acquisition import Grid, Quantity
from napari_qsm.training.phantom import sample_head
from napari_qsm.training.raw_head import sample_raw_head

VIEWS = (("axial", 8.0), ("coronal", -6.0), ("sagittal", 3.0), ("axial", -9.0), ("axial", 21.0))
ROWS = (
    (Quantity.CHI, (-0.12, 0.25)),
    (Quantity.CHI, (-1.5, 1.5)),
    (Quantity.LOCAL_FIELD, (-0.06, 0.06)),
    (Quantity.MAGNITUDE, (0.0, 0.085)),
)
RAW_ROWS = (
    (Quantity.MAGNITUDE, 0, (0.0, 0.11)),
    (Quantity.MAGNITUDE, 3, (0.0, 0.085)),
    (Quantity.PHASE, 0, (-np.pi, np.pi)),
    (Quantity.PHASE, 3, (-np.pi, np.pi)),
    (Quantity.TOTAL_FIELD, None, (-1.0, 1.0)),
)


def panel(volume: np.ndarray, plane: str, index: int) -> np.ndarray:
    """Slice in radiological display: up is up, patient right on the left."""
    axis = {"sagittal": 0, "coronal": 1, "axial": 2}[plane]
    return np.rot90(np.take(volume, index, axis=axis))[:, ::-1]


def row(
    volume: np.ndarray, grid: Grid, words: str, window: tuple[float, float], zoom: int
) -> np.ndarray:
    """All views of a volume side by side."""
    low, high = window
    shades = (np.clip((volume - low) / (high - low), 0, 1) * 255).astype(np.uint8)
    cells = []
    for plane, position in VIEWS:
        axis = {"sagittal": 0, "coronal": 1, "axial": 2}[plane]
        index = round((position - grid.affine[axis, 3]) / grid.voxel_size[axis])
        cells.append(panel(shades, plane, index))
    tall = max(cell.shape[0] for cell in cells)
    cells = [np.pad(c, ((0, tall - c.shape[0]), (0, 2))) for c in cells]
    image = Image.fromarray(np.concatenate(cells, axis=1))
    image = image.resize((image.width * zoom, image.height * zoom), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    draw.rectangle((2, 2, 14 + draw.textlength(words, font_size=18), 26), fill=0)
    draw.text((6, 4), words, fill=255, font_size=18)
    return np.asarray(image)


def words(quantity: Quantity, window: tuple[float, float], echo: int | None = None) -> str:
    """Name of a row."""
    which = "" if echo is None else f" of echo {echo + 1}"
    return f"{quantity.label}{which}, {window[0]:.3g} to {window[1]:.3g} {quantity.unit}"


def phantom_rows() -> Iterator[np.ndarray]:
    """Truth and measurement of the sample case."""
    phantom = sample_head("haemorrhage and calcification")
    for quantity, window in ROWS:
        source = phantom.truth if quantity in phantom.truth else phantom.acquisition
        yield row(source[quantity], phantom.truth.grid, words(quantity, window), window, 2)


def raw_rows() -> Iterator[np.ndarray]:
    """First and last echo of the raw case, and the field that turned its phase."""
    raw = sample_raw_head("haemorrhage")
    for quantity, echo, window in RAW_ROWS:
        volume = raw.field if echo is None else raw.acquisition[quantity][..., echo]
        yield row(volume, raw.truth.grid, words(quantity, window, echo), window, 1)


def main(folder: Path) -> None:
    """Draw both pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in (("phantom", phantom_rows()), ("raw_head", raw_rows())):
        Image.fromarray(np.concatenate(list(rows))).save(folder / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""Draw docs/images/population.png: what networks learn from, eight cases side by side.

    python tools/picture_population.py docs/images [POOL]

Each column is a case of the default population in the axial slice where its susceptibility is
strongest, each in a scale of its own: the field, its Tikhonov inversion and the truth. POOL is a
folder where `napari-qsm train` keeps drawn cases; without it they are drawn anew. Needs Pillow
besides the package.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from napari_qsm.training.cases import MASK, TRUTH, Pool
from napari_qsm.training.population import Population

CHANNELS = ("field", "tikhonov", "tv")
SEEDS = range(8)
SIDE = 176
ROWS = (("field", 0, 0.05), ("Tikhonov", 1, 0.15), ("truth", TRUTH, 0.15))
"""Name, channel, and the ppm that are white; as much below zero is black."""


def column(case: NDArray[np.float16], seed: int) -> NDArray[np.uint8]:
    """One case from top to bottom."""
    strength = np.square(case[TRUTH], dtype=np.float32).sum(axis=(0, 1))
    inside = (case[MASK] > 0).sum(axis=(0, 1))
    strength[inside < 0.5 * inside.max()] = 0
    at = int(strength.argmax())
    cells = []
    for name, channel, limit in ROWS:
        values = case[channel, :, :, at].astype(np.float32)
        shades = np.clip(0.5 + 0.5 * values / limit, 0, 1) * 255
        upright = np.rot90(shades.astype(np.uint8))[:, ::-1]
        cell = Image.new("L", (SIDE, SIDE), 128)
        image = Image.fromarray(upright)
        zoom = (SIDE - 4) / max(image.size)
        image = image.resize([round(zoom * n) for n in image.size], Image.Resampling.BICUBIC)
        cell.paste(image, ((SIDE - image.width) // 2, (SIDE - image.height) // 2))
        words = f"{name} ±{1000 * limit:g} ppb" if seed == SEEDS[0] else ""
        words = words or (f"seed {seed}" if name == ROWS[0][0] else "")
        ImageDraw.Draw(cell).text((4, 2), words, fill=255, font_size=13)
        cells.append(np.asarray(cell))
    return np.concatenate(cells)


def main(folder: Path, pool: Path) -> None:
    """Draw the picture."""
    cases = Pool(Population(), CHANNELS, pool)
    folder.mkdir(parents=True, exist_ok=True)
    sheet = np.concatenate([column(cases[seed], seed) for seed in SEEDS], axis=1)
    Image.fromarray(sheet).save(folder / "population.png", optimize=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        main(Path(sys.argv[1]), Path(sys.argv[2] if len(sys.argv) > 2 else scratch))

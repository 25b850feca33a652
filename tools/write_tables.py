"""Write the tables of methods and stages into README.md and docs/preparation.md."""

import re
from pathlib import Path

from napari_qsm import listing

ROOT = Path(__file__).parents[1]


def write(document: Path, name: str, table: str) -> None:
    """Put a table between the comments that mark its place."""
    text = document.read_text()
    place = re.compile(rf"(<!-- {name}:.*?-->\n).*?(<!-- end of {name} -->)", re.DOTALL)
    document.write_text(place.sub(lambda found: f"{found[1]}{table}\n{found[2]}", text))


if __name__ == "__main__":
    write(ROOT / "README.md", "methods", listing.markdown())
    write(ROOT / "docs/preparation.md", "stages", listing.stage_markdown())

"""Names of labels from the table that BIDS puts beside a file of regions."""

from __future__ import annotations

import csv
from pathlib import Path

from napari_qsm.acquisition import InputError


def read_label_names(labels: str | Path) -> dict[int, str]:
    """Read ``x_dseg.tsv`` beside ``x_dseg.nii.gz``; empty where there is none.

    Raises
    ------
    InputError
        If the table has no columns ``index`` and ``name``.
    """
    path = Path(labels)
    table = path.with_name(path.name.removesuffix(".gz").removesuffix(".nii") + ".tsv")
    if table.name == ".tsv" or not table.is_file():
        return {}
    try:
        with table.open(encoding="utf-8-sig", newline="") as text:
            rows = list(csv.DictReader(text, delimiter="\t"))
        return {int(row["index"]): str(row["name"]) for row in rows}
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(
            f"{table.name} has no columns index and name; repair it or move it away."
        ) from None

"""Where the files that ship with the program lie: anatomy, logo, network weights."""

from pathlib import Path

_HERE = Path(__file__).parent
_ROOTS = (_HERE / "assets", _HERE.parents[1] / "assets")
"""In a wheel inside the package; in an editable checkout at the top of the repository."""


def asset(*parts: str) -> Path:
    """Path of the shipped file ``assets/<parts...>``.

    Raises
    ------
    FileNotFoundError
        If this installation does not contain it.
    """
    for root in _ROOTS:
        path = root.joinpath(*parts)
        if path.exists():
            return path
    raise FileNotFoundError(
        f"The shipped file 'assets/{'/'.join(parts)}' is missing from this installation of "
        "napari-qsm; reinstall the package."
    )

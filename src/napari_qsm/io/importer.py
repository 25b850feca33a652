"""From the scanner's files to raw acquisitions: DICOM, BIDS and plain NIfTI come in here.

`open_source` looks at files and says which measurements they hold; `Source.load` makes one of them
an `Acquisition` of wrapped phase and magnitude. Nothing is written beside the source: what DICOM is
converted to lies in a temporary folder, which goes when the `Source` is closed.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from napari_qsm.acquisition import Acquisition
from napari_qsm.process import Step

PhaseScale = Literal["auto", "rad", "range"]
"""How stored numbers become a phase: as they look, as rad, or by mapping their nominal range."""


@dataclass(frozen=True)
class Measurement:
    """One acquisition that was found; nothing of it is loaded yet.

    Parameters
    ----------
    name : str
        Short name to choose it by, unique in its `Source`, such as ``sub-1_acq-GRE``.
    summary : str
        One line: echoes and times, parts, grid, scanner.
    """

    name: str
    summary: str


@dataclass(frozen=True)
class Corrections:
    """What the user states instead of the files; None keeps what the files say.

    Parameters
    ----------
    echo_times : tuple[float, ...], optional
        In s, one for each echo in the order in which they are stored.
    field_strength : float, optional
        B0 in T.
    b0_direction : tuple[float, float, float], optional
        B0 along the stored voxel axes.
    flip_phase : bool
        Whether the phase has the other sign.
    phase_scale : {"auto", "rad", "range"}
        Whether stored numbers are a phase in rad or a whole turn over their nominal range.
    """

    echo_times: tuple[float, ...] | None = None
    field_strength: float | None = None
    b0_direction: tuple[float, float, float] | None = None
    flip_phase: bool = False
    phase_scale: PhaseScale = "auto"


class Source:
    """Files that were looked at, and the measurements they hold.

    Attributes
    ----------
    measurements : tuple[Measurement, ...]
        At least one, in the order in which they were measured.
    notes : tuple[str, ...]
        What was found and left aside, one sentence each.
    """

    measurements: tuple[Measurement, ...]
    notes: tuple[str, ...]

    def load(
        self, measurement: Measurement, corrections: Corrections = Corrections()
    ) -> Acquisition:
        """Read one measurement.

        Returns
        -------
        Acquisition
            PHASE in rad in [-pi, pi), 3D for one echo, else 4D; MAGNITUDE of the same echoes and
            MASK as far as there are any; TOTAL_FIELD in ppm instead of PHASE for a field map in Hz.
            Echo times in s, B0 in T, and a note for every decision.

        Raises
        ------
        InputError
            If files do not fit together, are damaged, or state too little; one sentence.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Remove the temporary files; a second call does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def open_source(
    paths: Sequence[Path] | Path, *, magnitude: Sequence[Path] = (), mask: Path | None = None
) -> Generator[Step, None, Source]:
    """Look at files or a folder; the generator's return value is the `Source`.

    Parameters
    ----------
    paths : Path or sequence of Path
        A DICOM folder, a BIDS folder, a folder of NIfTI files with sidecars, or NIfTI files: one
        4D phase, one phase for each echo, pairs of real and imaginary part, or complex numbers.
    magnitude : sequence of Path
        Magnitude files that belong to the phase in `paths`: one 4D, or one for each echo.
    mask : Path, optional
        The user's mask.

    Raises
    ------
    InputError
        If nothing usable was found; one sentence that says what was.
    """
    raise NotImplementedError
    yield

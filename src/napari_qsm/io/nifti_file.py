"""One NIfTI file being read: bytes, header, numbers and affine, with a sentence for every trap."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from napari_qsm.acquisition import InputError

HEADERS: dict[int, Any] = {348: nib.Nifti1Header, 540: nib.Nifti2Header}
"""Header classes by the number with which their files begin."""

_QFORM = ("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z")
_SFORM = ("srow_x", "srow_y", "srow_z")

GEOMETRY = ("pixdim", "xyzt_units", "qform_code", "sform_code", *_QFORM, *_SFORM)
"""Header fields that say where the voxels lie."""

_MAGIC = {348: b"n+1", 540: b"n+2"}
_MM_PER_UNIT = {1: 1e3, 3: 1e-3}


class NiftiFile:
    """A file whose header has been parsed without repairs.

    Parameters
    ----------
    path : Path
        A ``.nii`` or ``.nii.gz`` file.
    header_only : bool
        Whether to read just what says where the voxels lie; then there are no `values`.

    Attributes
    ----------
    notes : list of str
        What was assumed or converted so far, without file name and full stop.
    is_phase : bool
        Whether `values` found a phase in rad behind a wrong scaling.
    doubt : str
        Why the B0 direction of `affine` is uncertain; empty if it is not.

    Raises
    ------
    InputError
        Here if the file is missing, empty, damaged or no NIfTI; in the methods as they say.
    """

    def __init__(self, path: Path, *, header_only: bool = False) -> None:
        self.name = path.name
        self.notes: list[str] = []
        self.is_phase = False
        self.doubt = ""
        self._raw = _bytes(path, max(HEADERS) if header_only else -1)
        self._header = self._parse()

    def geometry(self) -> dict[str, Any]:
        """Return the header fields that a writer needs to lay a map exactly on this file."""
        fields = {key: np.array(self._header[key]).tolist() for key in GEOMETRY}
        return {**fields, "sizeof_hdr": int(self._header["sizeof_hdr"])}

    def shape(self) -> tuple[int, ...]:
        """Three or four lengths; further dimensions of length one are dropped with a note.

        Raises
        ------
        InputError
            If the header's dimensions are damaged, or the image is 2D or more than 4D.
        """
        count = int(self._header["dim"][0])
        full = tuple(int(n) for n in self._header["dim"][1 : 1 + max(count, 0)])
        if not 1 <= count <= 7 or min(full) < 1:
            raise InputError(
                f"The header of {self.name} states {count} dimensions {full} where positive ones "
                "were expected; the file is damaged, so export it again."
            )
        shape = full
        while len(shape) > 3 and shape[-1] == 1:
            shape = shape[:-1]
        if len(shape) < 3 or min(shape[:3]) < 2:
            raise InputError(
                f"{self.name} holds a 2D image of shape {full} where a 3D volume was expected; "
                "choose the whole volume."
            )
        if len(shape) > 4:
            raise InputError(
                f"{self.name} has {len(shape)} dimensions {full} where 3, or 4 with the echoes "
                "last, were expected; export each volume to a file of its own."
            )
        if shape != full:
            self.notes.append(f"the {len(full)}D image {full} was taken as its only volume")
        return shape

    @property
    def is_complex(self) -> bool:
        """Whether the file states that it holds complex numbers."""
        try:
            return bool(np.dtype(self._header.get_data_dtype()).kind == "c")
        except (HeaderDataError, KeyError):
            return False

    def values(self, shape: tuple[int, ...], *, complex_too: bool = False) -> NDArray[Any]:
        """Return slope x stored + intercept; a slope of 0 or NaN means that nothing is scaled.

        A slope that squeezes a phase stored in [-pi, pi] is a known mistake of exporters: it is
        left out, with a note.

        Raises
        ------
        InputError
            If numbers are missing, colours, scaled by Inf, or complex unless ``complex_too``.
        """
        stored = self._stored(shape, complex_too)
        if stored.dtype.kind in "fc" and (bad := int(np.count_nonzero(~np.isfinite(stored)))):
            self.notes.append(f"{bad} voxels are not numbers (NaN or Inf)")
        slope, intercept = float(self._header["scl_slope"]), float(self._header["scl_inter"])
        if slope == 0 or math.isnan(slope) or (slope, intercept) == (1, 0):
            return stored
        if not math.isfinite(slope) or not math.isfinite(intercept):
            raise InputError(
                f"The header of {self.name} scales the numbers by {slope:g} and adds "
                f"{intercept:g}; the file is damaged, so export it again."
            )
        if stored.dtype.kind == "f" and _spans_circle(stored):
            self.is_phase = True
            self.notes.append(
                "the stored numbers span -pi to pi, so they were taken as a phase in rad and the "
                f"header's scaling by {slope:.4g}, which would squeeze it, was left out"
            )
            return stored
        self.notes.append(
            f"the stored {stored.dtype} numbers were scaled by {slope:.4g}"
            + (f" and {intercept:.4g} was added" if intercept else "")
        )
        # Values beyond float32 become Inf here and are refused where they matter.
        with np.errstate(over="ignore", invalid="ignore"):
            scaled = stored * slope + intercept
            return scaled.astype(np.complex64 if stored.dtype.kind == "c" else np.float32)

    def affine(self) -> NDArray[np.float64]:
        """Return the affine to be believed, voxel index to mm RAS.

        Raises
        ------
        InputError
            If the only orientation is a qform that is no rotation.
        """
        qform_code, sform_code = int(self._header["qform_code"]), int(self._header["sform_code"])
        code = qform_code
        if sform_code == 1:
            affine, code = self._header.get_sform(), 1
        elif qform_code > 0 and (rotated := self._qform()) is not None:
            affine = rotated
            if sform_code > 1 and not np.allclose(affine, self._header.get_sform(), atol=1e-2):
                self.notes.append("the qform was used: the sform describes a registered frame")
        elif sform_code > 0:
            affine, code = self._header.get_sform(), sform_code
        elif qform_code > 0:
            raise InputError(
                f"The orientation in the header of {self.name} is damaged (its qform is no "
                "rotation); export it again."
            )
        else:
            affine = self._header.get_base_affine()
            self.doubt = (
                "the header states no orientation, so B0 was assumed along the third stored axis"
            )
        if code > 1:
            self.doubt = (
                f"the orientation has code {code} (a registered frame), so the B0 direction is "
                "uncertain"
            )
        return self._in_mm(np.array(affine, np.float64))

    def _in_mm(self, affine: NDArray[np.float64]) -> NDArray[np.float64]:
        factor = _MM_PER_UNIT.get(int(self._header["xyzt_units"]) & 7)
        if factor is None:
            return affine
        self.notes.append(f"lengths were multiplied by {factor:g} to become mm")
        return np.asarray(np.diag([factor, factor, factor, 1.0]) @ affine)

    def _qform(self) -> NDArray[np.float64] | None:
        """Return the affine of the quaternion, or None if it is none."""
        header = self._header.copy()
        if header["pixdim"][0] not in (-1, 1):  # the standard reads any other qfac as 1
            header["pixdim"][0] = 1
        numbers = [float(header[key]) for key in _QFORM]
        if not np.isfinite([*numbers, *header["pixdim"][1:4]]).all():
            return None
        try:
            return np.asarray(header.get_qform(), np.float64)
        except (HeaderDataError, ValueError):
            return None

    def _parse(self) -> Any:
        """Parse the header in the byte order in which its first number makes sense."""
        raw = self._raw
        for code in "<>":
            size = int(np.frombuffer(raw[:4].ljust(4, b"\0"), f"{code}i4")[0])
            if size not in HEADERS or len(raw) < size:
                continue
            header = HEADERS[size](raw[:size], endianness=code, check=False)
            magic = header["magic"].item()[:3]
            if magic == _MAGIC[size]:
                return header
            if magic in {b"ni1", b"ni2"}:
                raise InputError(
                    f"{self.name} is half of a .hdr/.img pair; convert it to one .nii file."
                )
            raise InputError(
                f"{self.name} lacks the NIfTI signature (an Analyze image, or damaged); convert "
                "it to .nii or .nii.gz."
            )
        raise InputError(f"{self.name} is not a NIfTI file; choose a .nii or .nii.gz file.")

    def _dtype(self, complex_too: bool) -> np.dtype[Any]:
        try:
            dtype: np.dtype[Any] = np.dtype(self._header.get_data_dtype())
        except (HeaderDataError, KeyError):
            raise InputError(
                f"The header of {self.name} states the unknown data type "
                f"{int(self._header['datatype'])}; the file is damaged, so export it again."
            ) from None
        if dtype.kind == "c" and not complex_too:
            raise InputError(
                f"{self.name} holds complex numbers; export magnitude and phase as two files of "
                "real numbers."
            )
        if dtype.kind not in "iufc":
            raise InputError(
                f"{self.name} holds colours or bits instead of numbers; export it as a plain "
                "volume of numbers."
            )
        return dtype

    def _stored(self, shape: tuple[int, ...], complex_too: bool) -> NDArray[Any]:
        """Return the numbers as they stand in the file, in the machine's byte order."""
        dtype = self._dtype(complex_too)
        offset, floor = float(self._header["vox_offset"]), int(self._header["sizeof_hdr"])
        if not floor <= offset <= len(self._raw):
            raise InputError(
                f"The header of {self.name} says that the voxels begin at byte {offset:g} of "
                f"{len(self._raw)}; the file is damaged, so export or copy it again."
            )
        found, expected = len(self._raw) - int(offset), math.prod(shape) * dtype.itemsize
        if found < expected:
            raise InputError(
                f"{self.name} holds {found} bytes of voxels where its header promises {expected}; "
                "it is truncated or damaged, so export or copy it again."
            )
        if found > expected:
            self.notes.append(f"{found - expected} bytes behind the last voxel were ignored")
        flat = np.frombuffer(self._raw, dtype, math.prod(shape), int(offset))
        return flat.astype(dtype.newbyteorder("="), copy=False).reshape(shape, order="F")


def _bytes(path: Path, count: int) -> bytes:
    """Return the unpacked content of a file, or say why there is none; -1 means all of it."""
    if path.is_dir():
        raise InputError(f"{path} is a folder; choose a .nii or .nii.gz file inside it.")
    try:
        with path.open("rb") as file:
            raw = file.read(count)
    except FileNotFoundError:
        raise InputError(f"There is no file {path}; check its name.") from None
    except OSError as error:
        raise InputError(f"{path.name} cannot be opened ({error.strerror}); check it.") from None
    if not raw:
        raise InputError(f"{path.name} is empty (0 bytes); export or copy it again.")
    if raw[:2] != b"\x1f\x8b":
        return raw
    try:
        if count < 0:
            return gzip.decompress(raw)
        with gzip.open(path) as packed:
            return packed.read(count)
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise InputError(
            f"{path.name} is truncated or damaged (its compressed data do not unpack); export or "
            "copy it again."
        ) from None


def _spans_circle(values: NDArray[Any]) -> bool:
    finite = values[np.isfinite(values)]
    if not finite.size:
        return False
    return bool(np.allclose([finite.min(), finite.max()], [-math.pi, math.pi], rtol=0.02))

"""What looks suspicious in an acquisition, in words: the doctor that both user interfaces call.

The thresholds are wide on purpose; a healthy measurement gives notes at most. What cannot be used
at all never arrives here: `assemble` and the nouns refuse it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_qsm.acquisition import Acquisition, Grid, Quantity
from napari_qsm.preparation.assemble import TYPICAL_SPREAD, spread
from napari_qsm.preparation.finding import Finding, Severity, error, note, warning
from napari_qsm.preparation.orientations import conditioning
from napari_qsm.preparation.raw_checks import inspect_raw
from napari_qsm.preparation.strong_field import UNKNOWN_SCALE, beyond_half_turn, measured_scale

__all__ = ["Finding", "Severity", "inspect"]


def inspect(acquisition: Acquisition) -> tuple[Finding, ...]:
    """Look an acquisition over: errors first, then warnings, then notes.

    Parameters
    ----------
    acquisition : Acquisition
        Fields in ppm, as `assemble` makes it, or wrapped phase, as `assemble_raw` does.

    Returns
    -------
    tuple of Finding
        Empty for a clean acquisition; the acquisition's own notes come last.
    """
    raw = Quantity.LOCAL_FIELD not in acquisition
    found = [*inspect_raw(acquisition)] if raw else []
    found += _grid(acquisition.grid)
    if not raw:
        suspicious = [*_field(acquisition[Quantity.LOCAL_FIELD], acquisition.mask)]
        found += suspicious or _strong(acquisition)
    if Quantity.MASK in acquisition or not raw:  # the preparation makes a mask of its own
        found += _mask(acquisition)
        if Quantity.MAGNITUDE in acquisition:
            found += _magnitude(acquisition[Quantity.MAGNITUDE], acquisition.mask)
    if acquisition.field_strength is None and not raw:
        found.append(
            note("B0 is not known; methods that work on the phase choose a scale themselves.")
        )
    if acquisition.others:
        found.append(_orientations(acquisition))
    found += [note(text) for text in acquisition.notes]
    order: tuple[Severity, ...] = ("error", "warning", "note")
    return tuple(sorted(found, key=lambda finding: order.index(finding.severity)))


def _orientations(acquisition: Acquisition) -> Finding:
    every = (acquisition, *acquisition.others)
    judged = conditioning([one.grid.b0_direction for one in every])
    return warning(judged.sentence) if judged.is_poor else note(judged.sentence)


def _grid(grid: Grid) -> Iterator[Finding]:
    sizes = grid.voxel_size
    shown = " x ".join(f"{size:.3g}" for size in sizes)
    if min(sizes) < 0.01 or max(sizes) > 50:
        yield error(
            f"The voxels measure {shown} mm where 0.01 to 50 mm were expected; repair the header."
        )
        return
    if max(sizes) / min(sizes) > 4:
        yield warning(
            f"The voxels measure {shown} mm; susceptibility is unreliable where one side is more "
            "than 4 times another."
        )
    extents = [count * size for count, size in zip(grid.shape, sizes, strict=True)]
    if min(grid.shape) < 16 or min(extents) < 30:
        yield warning(
            f"The volume is only {min(grid.shape)} voxels or {min(extents):.3g} mm thick; sources "
            "outside it disturb the map, so trust its middle only."
        )
    if grid.shear > 1:
        yield warning(
            f"The voxel axes are sheared by {grid.shear:.1f} degrees; resample to a rectangular "
            "grid, since the dipole kernel assumes one."
        )
    if grid.angle_to_b0 > 30:
        yield note(
            f"B0 runs {grid.angle_to_b0:.0f} degrees from the nearest voxel axis; check that the "
            "stated direction is right."
        )


def _mask(acquisition: Acquisition) -> Iterator[Finding]:
    if Quantity.MASK not in acquisition:
        yield warning("There is no mask, so noise outside the head enters the map; add one.")
        return
    mask = acquisition.mask
    part = float(mask.mean())
    if part < 0.02 or part > 0.9:
        yield warning(
            f"The mask covers {part:.1%} of the volume where 2 to 90 % were expected of a brain; "
            "check that it is the right one."
        )
    elif sides := _touched(mask):
        yield warning(
            f"The mask reaches the edge of the volume on {sides} of 6 sides; the map is less "
            "reliable there, so trust it some voxels away."
        )
    if holes := _holes(mask):
        share = holes / np.count_nonzero(mask)
        text = f"The mask has holes of {holes} voxels ({share:.1%}) inside"
        if share > 0.02:
            yield warning(f"{text}; fill them unless the field is missing there.")
        elif share > 0.001:
            yield note(f"{text}.")


def _touched(mask: NDArray[np.bool_]) -> int:
    """Count the faces of the volume of which the mask covers more than 1 %."""
    faces = (mask.take(end, axis) for axis in range(3) for end in (0, -1))
    return sum(bool(face.mean() > 0.01) for face in faces)


def _holes(mask: NDArray[np.bool_]) -> int:
    """Count the voxels outside the mask from which no path leads to the edge of the volume."""
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    parts, _ = ndimage.label(~np.pad(mask[box], 1))
    sizes = np.bincount(parts.ravel())
    return int(sizes[2:].sum())  # 0 is the mask, 1 holds the first corner: the padded outside


def _field(field: NDArray[np.float32], mask: NDArray[np.bool_]) -> Iterator[Finding]:
    values = field[mask]
    width, mean = spread(values), float(values.mean())
    if jumps := _jumps(field, mask):
        yield warning(
            f"The field jumps by nearly its whole range between {jumps} pairs of neighbours, as a "
            "wrapped phase does; unwrap it first."
        )
    elif width > 0.1:
        yield warning(
            f"The field varies by {width:.3g} ppm inside the mask where about {TYPICAL_SPREAD:g} "
            "ppm was expected; check its unit and whether the background was removed."
        )
    elif float(values.std()) < 1e-3:
        yield warning(
            f"The field varies by only {values.std():.2g} ppm inside the mask where about "
            f"{TYPICAL_SPREAD:g} ppm was expected; check its unit."
        )
    elif abs(mean) > max(0.02, 2 * width):
        yield warning(
            f"The field has a mean of {mean:.3g} ppm inside the mask where about 0 was expected; "
            "check that the background was removed."
        )


def _strong(acquisition: Acquisition) -> Iterator[Finding]:
    found = beyond_half_turn(acquisition, measured_scale(acquisition) or UNKNOWN_SCALE)
    highest = float(np.abs(acquisition[Quantity.LOCAL_FIELD][acquisition.mask]).max())
    if found is not None:
        yield warning(
            f"{found}; nonlinear methods take a smaller phase scale by themselves "
            f"({found.safe_scale:.2g} rad/ppm) and map those voxels, linear ones streak, so try "
            "two passes."
        )
    elif highest > 0.5:
        yield warning(
            f"The field reaches {highest:.3g} ppm inside the mask (haemorrhage, calcification or "
            "air), so that linear methods streak there; try two passes."
        )


def _jumps(field: NDArray[np.float32], mask: NDArray[np.bool_]) -> int:
    """Count neighbours inside the mask that differ by more than 80 % of the field's range.

    Wrapping makes surfaces of such pairs in a field that fills its range; a strong source makes a
    few in a field that is narrow elsewhere. Fewer than 1 in 10 000 pairs count as none.
    """
    values = field[mask]
    span = float(values.max() - values.min())
    if spread(values) < 0.05 * span:
        return 0
    limit = 0.8 * span
    jumps = pairs = 0
    for axis in range(3):
        count = field.shape[axis]
        low = field.take(range(count - 1), axis)
        high = field.take(range(1, count), axis)
        both = mask.take(range(count - 1), axis) & mask.take(range(1, count), axis)
        jumps += int(np.count_nonzero(both & (np.abs(high - low) > limit)))
        pairs += int(np.count_nonzero(both))
    return jumps if jumps > max(20, pairs / 10_000) else 0


def _magnitude(magnitude: NDArray[np.float32], mask: NDArray[np.bool_]) -> Iterator[Finding]:
    inside = magnitude[mask]
    if count := int(np.count_nonzero(inside <= 0)):
        share = count / inside.size
        text = f"The magnitude is not positive in {count} voxels ({share:.1%}) of the mask"
        if share > 0.01:
            yield warning(f"{text}; check that it belongs to this field.")
        else:
            yield note(f"{text}; they get no weight.")

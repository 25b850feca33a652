"""Volumes and maps as napari layers, and layers as volumes.

`layer.metadata["qsm"]` is the contract: everything a writer, a method or the readout must know
about a layer lies there, never in the layer's transform (see `placement`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_qsm import __version__
from napari_qsm.acquisition import Acquisition, Grid, InputError, Maps, Quantity, Volume
from napari_qsm.workbench.placement import (
    DISPLAY_AXES,
    from_display,
    place,
    stored_codes,
    to_display,
)

if TYPE_CHECKING:
    from napari.layers import Layer

    from napari_qsm.training.phantom import Phantom

LayerData = tuple[NDArray[Any], dict[str, Any], str]

_MASK_COLOUR = "#ffd166"

_SOURCES = (
    Quantity.CHI_POS,
    Quantity.CHI_NEG,
    Quantity.CHI_POS_ITERATES,
    Quantity.CHI_NEG_ITERATES,
)
"""Light that adds up: two maps that are never negative, in one place."""

TRUTH = "χ  truth"
"""Name of the layer with the true susceptibility of a simulated measurement."""


def layer_data(
    volume: Volume, quantity: Quantity | None, name: str, facts: Mapping[str, Any] | None = None
) -> LayerData:
    """Return what napari needs to show a volume: data, keywords and layer type.

    Parameters
    ----------
    volume : Volume
        Numbers on a grid, echoes last if there are several: these become the first axis of one
        layer, which napari gives a slider.
    quantity : Quantity or None
        Decides window, colormap and layer type; None shows a plain image.
    name : str
        Name of the layer.
    facts : mapping, optional
        More entries for ``metadata["qsm"]``, such as the method and its parameters.
    """
    keywords: dict[str, Any] = {
        "name": name,
        "metadata": {"qsm": {**_facts(volume, quantity), **(facts or {})}},
        **place(volume.grid, echoes=volume.data.ndim == 4),
    }
    if quantity in (Quantity.MASK, Quantity.LABELS):
        # A copy: people paint on masks, and the measurement must not change under them.
        labels = to_display(np.array(volume.data, dtype=np.uint8), volume.grid)
        keywords |= {"opacity": 0.7, "blending": "translucent"}
        if quantity is Quantity.MASK:
            keywords["colormap"] = {0: "transparent", 1: _MASK_COLOUR, None: _MASK_COLOUR}
        return labels, keywords, "labels"
    data = to_display(np.asarray(volume.data), volume.grid)
    if not np.isfinite(data).all():
        # NaN makes holes and darkens 3D renderings; the readout still says "not a number".
        data = np.nan_to_num(data, nan=0.0, posinf=0.0, neginf=0.0)
    window = quantity.window if quantity and quantity.window else _window(data)
    keywords["metadata"]["qsm"]["display_range"] = (
        min(float(data.min()), window[0]),
        max(float(data.max()), window[1]),
    )
    keywords |= {
        "contrast_limits": window,
        "colormap": quantity.colormap if quantity else "gray",
        "blending": "additive" if quantity in _SOURCES else "translucent",
        "interpolation2d": "linear",
        "rendering": "mip",
    }
    return data, keywords, "image"


def _window(data: NDArray[Any]) -> tuple[float, float]:
    """Window from the darkest (at most 0) to the 99.5th percentile of what is not background."""
    sample = data[data != 0]
    if not sample.size:
        return 0.0, 1.0
    sample = sample[:: max(1, sample.size // 100_000)]
    low, high = min(float(sample.min()), 0.0), float(np.percentile(sample, 99.5))
    return low, high if high > low else low + 1.0


def dress(layer: Layer) -> None:
    """Give a layer of ours what napari has no keyword for.

    The contrast slider reaches all of the data (napari ends it at the window it was given), and a
    mask is a thin outline that leaves what it outlines readable.
    """
    facts = facts_of(layer) or {}
    if "display_range" in facts:
        layer.contrast_limits_range = facts["display_range"]
    elif facts.get("quantity") == Quantity.MASK.key:
        layer.contour = 2 if max(facts["voxel_size"]) < 1.5 else 1


def _facts(volume: Volume, quantity: Quantity | None) -> dict[str, Any]:
    grid = volume.grid
    return {
        "quantity": quantity.key if quantity else None,
        "unit": quantity.unit if quantity and not volume.unit else volume.unit,
        "affine": grid.affine,
        "shape_stored": grid.shape,
        "orientation_stored": stored_codes(grid),
        "voxel_size": grid.voxel_size,
        "b0_direction": grid.b0_direction,
        "b0_tesla": volume.field_strength,
        "echo_times_s": volume.echo_times,
        "stored_geometry": dict(grid.stored),
        "source_files": volume.source,
        "notes": volume.notes,
        "history": volume.history,
        "software_version": __version__,
    }


def map_layers(maps: Maps, title: str) -> Iterator[LayerData]:
    """Yield the layers that show `maps`, the one to look at first coming last."""
    provenance = maps.provenance
    facts = {
        "method": provenance.method,
        "params": dict(provenance.parameters),
        "provenance": provenance,
        "maps": maps,  # lives as long as one of its layers does
    }
    telling = (Quantity.CHI_NEG, Quantity.CHI_POS, Quantity.CHI)
    for quantity in sorted(maps.volumes, key=lambda q: telling.index(q) if q in telling else -1):
        volume = Volume(
            data=maps[quantity],
            grid=maps.grid,
            unit=quantity.unit,
            field_strength=provenance.field_strength,
            echo_times=provenance.echo_times,
            source=f"{provenance.method} reconstruction",
            notes=provenance.notes,
            history=(*provenance.history, replace(provenance, history=())),
        )
        name = quantity.symbol or quantity.label
        if volume.data.ndim == 3:
            yield layer_data(volume, quantity, f"{name}  {title}", facts)
        else:
            yield _iterates(volume, quantity, f"{name} by iteration  {title}", facts)


def _iterates(volume: Volume, quantity: Quantity, name: str, facts: Mapping[str, Any]) -> LayerData:
    """Return the hidden layer that shows a map after every iteration, on a slider."""
    data, keywords, kind = layer_data(volume, quantity, name, facts)
    labels = ("iteration", *keywords["axis_labels"][1:])
    return data, keywords | {"axis_labels": labels, "visible": False}, kind


def facts_of(layer: Layer) -> Mapping[str, Any] | None:
    """Return what is known of a layer of ours, or None for a foreign layer."""
    facts = layer.metadata.get("qsm")
    return facts if isinstance(facts, Mapping) else None


def quantity_of(layer: Layer) -> Quantity | None:
    """Return the quantity a layer shows, as far as its metadata say."""
    facts = facts_of(layer)
    key = facts.get("quantity") if facts else None
    return Quantity.named(key) if key else None


def grid_of(layer: Layer) -> Grid | None:
    """Return the true grid of a layer of ours, or None for a foreign layer."""
    facts = facts_of(layer)
    if facts is None:
        return None
    return _grid(facts)


def _grid(facts: Mapping[str, Any]) -> Grid:
    return Grid(
        facts["shape_stored"],
        facts["affine"],
        facts["b0_direction"],
        facts.get("stored_geometry", {}),
    )


def volume_of(layer: Layer, beside: Layer | None = None) -> Volume:
    """Read a layer back as a volume in stored voxel order, without copying.

    A foreign layer that is drawn exactly where `beside` is drawn (a new Labels layer painted on the
    field, say) takes the grid of `beside`. Any other foreign layer is taken as axes S, A, R with
    the layer's own scale, and a note says so.

    Raises
    ------
    InputError
        If a foreign layer is not three-dimensional or carries a rotation or shear.
    """
    facts, grid = facts_of(layer), grid_of(layer)
    data = np.asarray(layer.data)
    if facts is not None and grid is not None:
        return Volume(
            from_display(data, grid),
            grid,
            facts.get("unit"),
            facts.get("b0_tesla"),
            tuple(facts.get("echo_times_s") or ()),
            facts.get("source_files") or layer.name,
            tuple(facts.get("notes") or ()),
            tuple(facts.get("history") or ()),
        )
    neighbour = grid_of(beside) if beside is not None else None
    if neighbour is not None and beside is not None and _drawn_alike(layer, beside):
        return Volume(from_display(data, neighbour), neighbour, source=layer.name)
    return _foreign(layer, data)


def _drawn_alike(layer: Layer, other: Layer) -> bool:
    """Whether two layers cover the same place; one of them may have an echo axis in front."""
    return bool(
        layer.ndim >= 3
        and layer.data.shape[-3:] == other.data.shape[-3:]
        and np.allclose(layer.affine.affine_matrix[-4:, -4:], other.affine.affine_matrix[-4:, -4:])
        and np.allclose(layer.scale[-3:], other.scale[-3:])
        and np.allclose(layer.translate[-3:], other.translate[-3:])
    )


def _foreign(layer: Layer, data: NDArray[Any]) -> Volume:
    if data.ndim != 3:
        raise InputError(
            f"The layer '{layer.name}' has {data.ndim} dimensions; a 3D layer was expected."
        )
    transform = layer.affine.affine_matrix @ _scaling(layer.scale, layer.translate)
    straight = np.allclose(layer.rotate, np.eye(3)) and np.allclose(layer.shear, 0)
    scale = np.diag(transform)[:3]
    if not straight or not np.allclose(transform[:3, :3], np.diag(scale)) or (scale <= 0).any():
        raise InputError(
            f"The layer '{layer.name}' is rotated, sheared or mirrored; open the file through "
            "napari-qsm, which keeps the scanner's geometry."
        )
    return _unlocated(layer.name, data, scale, transform[:3, 3])


def _scaling(scale: ArrayLike, translate: ArrayLike) -> NDArray[np.float64]:
    matrix = np.diag([*np.asarray(scale, float), 1.0])
    matrix[:3, 3] = translate
    return matrix


def _unlocated(name: str, data: NDArray[Any], scale: ArrayLike, translate: ArrayLike) -> Volume:
    """Return an (S, A, R) array that no scanner geometry is known of, with a note saying so."""
    affine = np.eye(4)
    # Array axes run S, A, R; the rows of an affine run R, A, S.
    affine[:3, :3] = np.fliplr(np.diag(np.asarray(scale, float)[::-1]))
    affine[:3, 3] = np.asarray(translate, float)[::-1]
    note = (
        f"The layer '{name}' carries no scanner geometry: its axes are taken as "
        f"{', '.join(DISPLAY_AXES)}, its scale as mm, and B0 along the first axis."
    )
    return Volume(data, Grid(data.shape, affine), source=name, notes=(note,))


def maps_of(layers: Iterable[Layer], active: Layer | None) -> Maps | None:
    """Return the maps the active layer belongs to, else those of the topmost result."""
    candidates = [active] if active is not None else []
    for layer in (*candidates, *reversed(list(layers))):
        maps = (facts_of(layer) or {}).get("maps")
        if isinstance(maps, Maps):
            return maps
    return None


def stored_layer(
    data: NDArray[Any], meta: Mapping[str, Any]
) -> tuple[NDArray[Any], Grid, dict[str, Any]]:
    """Return array, grid and sidecar that put a layer back on the grid it came from.

    Parameters
    ----------
    data : array
        Layer data along S, A, R.
    meta : mapping
        Layer attributes as napari hands them to a writer.
    """
    facts = meta.get("metadata", {}).get("qsm")
    if facts is None:
        volume = _unlocated(meta["name"], np.asarray(data), meta["scale"], meta["translate"])
        return volume.data, volume.grid, {"Notes": list(volume.notes)}
    grid = _grid(facts)
    sidecar = {
        "Quantity": facts["quantity"],
        "Units": facts["unit"],
        "MagneticFieldStrength": facts["b0_tesla"],
        "EchoTime": _stated_times(np.ndim(data) == 4, tuple(facts["echo_times_s"])),
        "Method": facts.get("method"),
        "Parameters": facts.get("params"),
        "Notes": list(getattr(facts.get("provenance"), "notes", facts["notes"])),
    }
    return from_display(data, grid), grid, {k: v for k, v in sidecar.items() if v is not None}


def _stated_times(echoes: bool, times: tuple[float, ...]) -> float | list[float] | None:
    if not times:
        return None
    return list(times) if echoes else times[-1]


def file_layers(path: Path, volume: Volume, quantity: Quantity | None = None) -> list[LayerData]:
    """Return the layer that shows a file; several echoes are one layer with a slider.

    What it holds is guessed from its name and contents unless `quantity` says so.
    """
    name = path.name.split(".nii")[0]
    return [layer_data(volume, quantity or guess_quantity(path, volume), name)]


def acquisition_layers(acquisition: Acquisition, source: str) -> Iterator[LayerData]:
    """Yield the layers that show an acquisition, its local field coming last."""
    field_last = sorted(acquisition.volumes, key=lambda q: q is Quantity.LOCAL_FIELD)
    for quantity in field_last:
        volume = Volume(
            data=acquisition[quantity],
            grid=acquisition.grid,
            unit=quantity.unit or None,
            field_strength=acquisition.field_strength,
            echo_times=acquisition.echo_times,
            source=acquisition.sources.get(quantity, source),
        )
        yield layer_data(volume, quantity, quantity.label)


def phantom_layers(phantom: Phantom) -> list[LayerData]:
    """Return the layers of a simulated measurement, its true susceptibility hidden below."""
    volume = Volume(phantom.truth[Quantity.CHI], phantom.acquisition.grid, "ppm", source=TRUTH)
    data, keywords, kind = layer_data(volume, Quantity.CHI, TRUTH)
    hidden = (data, keywords | {"visible": False}, kind)
    return [hidden, *acquisition_layers(phantom.acquisition, "digital head")]


_NAMES: tuple[tuple[str, Quantity], ...] = (
    (r"mask|brain_?seg", Quantity.MASK),
    (r"dseg|labels|atlas", Quantity.LABELS),
    (r"paramagneticiterates", Quantity.CHI_POS_ITERATES),
    (r"diamagneticiterates", Quantity.CHI_NEG_ITERATES),
    (r"paramagnetic|chi_?pos", Quantity.CHI_POS),
    (r"diamagnetic|chi_?neg", Quantity.CHI_NEG),
    (r"sigma_?pos", Quantity.SIGMA_POS),
    (r"sigma_?neg", Quantity.SIGMA_NEG),
    (r"sigma", Quantity.SIGMA),
    (r"residual.*r2_?prime", Quantity.RESIDUAL_R2PRIME),
    (r"residual", Quantity.RESIDUAL),
    (r"error", Quantity.ERROR),
    (r"chimap|(^|[_-])chi|qsm|cosmos|susceptib", Quantity.CHI),
    (r"r2_?star|(^|[_-])r2s([_.-]|$)", Quantity.R2STAR),
    (r"r2_?prime|(^|[_-])r2p([_.-]|$)", Quantity.R2PRIME),
    (r"r2_?map|(^|[_-])r2([_.-]|$)", Quantity.R2),
    (r"desc-noise|field_?noise|noise_?map", Quantity.FIELD_NOISE),
    (r"part-mag|(^|[_-])mag|magnitude", Quantity.MAGNITUDE),
    (r"local|tissue|fieldmap|(^|[_-])field|freq", Quantity.LOCAL_FIELD),
    (r"part-phase|(^|[_-])phase|(^|[_-])ph([_.-]|$)", Quantity.PHASE),
)


def guess_quantity(path: Path, volume: Volume) -> Quantity | None:
    """Guess from a file's name what it holds; None where the name says nothing.

    Names follow BIDS suffixes first and common habits second. A file of ones and zeros is a mask
    whatever its name.
    """
    name = path.name.lower()
    for pattern, quantity in _NAMES:
        if re.search(pattern, name):
            return quantity
    sample = np.unique(volume.data.ravel()[:: max(1, volume.data.size // 10_000)])
    return Quantity.MASK if set(sample.tolist()) == {0, 1} else None

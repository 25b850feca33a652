"""What is measured and what the stages of the preparation make of it, as layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from napari_qsm.acquisition import Acquisition, Maps, Quantity, Volume
from napari_qsm.pipeline import GIVEN_MASK
from napari_qsm.preparation.registry import Place, Stage
from napari_qsm.workbench.layers import LayerData, facts_of, layer_data

if TYPE_CHECKING:
    from napari.layers import Layer

PREPARED = "prepared"
"""Entry of ``metadata["qsm"]`` that marks what the next reconstruction should start from."""

PLACEHOLDER = {"qsm_placeholder": True}
"""Metadata of a layer that stands for a measurement until that is there."""

_RAW = (Quantity.MAGNITUDE, Quantity.PHASE)

_ALONE = {Quantity.QUALITY: Place.UNWRAP, Quantity.FIELD_NOISE: Place.FIELD}
"""What goes without saying which stage made it, if it comes from this place."""


def measured_layers(acquisition: Acquisition) -> dict[Quantity, LayerData]:
    """Return the layers that show a raw measurement, echoes on a slider; work for a thread."""
    order = sorted(acquisition.volumes, key=lambda q: _RAW.index(q) if q in _RAW else len(_RAW))
    return {
        q: layer_data(
            Volume(
                acquisition[q],
                acquisition.grid,
                q.unit or None,
                acquisition.field_strength,
                acquisition.echo_times,
                acquisition.sources.get(q, ""),
                acquisition.notes,
                acquisition.history,
            ),
            q,
            q.label,
        )
        for q in order
    }


def made_layers(
    stage: Stage[Any], maps: Maps, notes: tuple[str, ...] = ()
) -> dict[Quantity, LayerData]:
    """Return the layers that show what a stage made, its main map coming last.

    A mask of the user's own is on show already and gets no second layer. `notes` are those of the
    measurement; what the stages said is in the history.
    """
    provenance = maps.provenance
    main = stage.place.gives if stage.place else None
    facts = {
        "method": provenance.method,
        "params": dict(provenance.parameters),
        "provenance": provenance,
        PREPARED: False,  # until all that belongs together is on show
    }
    made = {}
    for quantity in sorted(maps.volumes, key=lambda q: q is main):
        if quantity is Quantity.MASK and stage.key == GIVEN_MASK:
            continue
        volume = Volume(
            maps[quantity],
            maps.grid,
            quantity.unit or None,
            provenance.field_strength,
            provenance.echo_times,
            stage.label,
            notes,
            (*provenance.history, replace(provenance, history=())),
        )
        made[quantity] = layer_data(volume, quantity, _name(quantity, stage), facts)
    return made


def _name(quantity: Quantity, stage: Stage[Any]) -> str:
    """Name a map, and the stage that made it where others may make the same.

    Every erosion of the mask has its own layer and name.
    """
    if quantity is Quantity.MASK and stage.place is not Place.MASK:
        return f"{quantity.label} · after {stage.label}"
    expected = {stage.place.gives} if stage.place else set()
    expected |= {q for q, place in _ALONE.items() if place is stage.place}
    if quantity in expected - {Quantity.MASK, Quantity.LOCAL_FIELD}:
        return quantity.label
    return f"{quantity.label} · {stage.label}"


def mark(layer: Layer, **entries: Any) -> None:
    """Change entries of a layer's ``metadata["qsm"]`` and let those who watch it know."""
    facts: Mapping[str, Any] = facts_of(layer) or {}
    layer.metadata = {**layer.metadata, "qsm": {**facts, **entries}}


def is_prepared(layer: Layer) -> bool:
    """Whether the next reconstruction should start from this layer."""
    return bool((facts_of(layer) or {}).get(PREPARED))


def is_on_its_way(layer: Layer) -> bool:
    """Whether a stage made this layer and nobody has handed it on (yet)."""
    return (facts_of(layer) or {}).get(PREPARED) is False

"""Six stages that take no time and give numbers one can foresee, and networks that know nothing."""

import time

import numpy as np
import torch

from napari_qsm.acquisition import Acquisition, Grid, InputError, Maps, Provenance, Quantity
from napari_qsm.networks.building import built
from napari_qsm.networks.inverter import Design
from napari_qsm.networks.unet import Architecture
from napari_qsm.networks.weights import Card, write
from napari_qsm.pipeline import Choice, Recipe
from napari_qsm.preparation.registry import Place, stage, unregister
from napari_qsm.process import Parameters, Step, parameter

SHAPE = (6, 7, 8)
ECHOES = 3
Q = Quantity


class Toy(Parameters):
    scale: float = parameter(1.0, "What the result is multiplied with.", low=0.0, high=10.0)
    pause: float = parameter(0.0, "How long a step takes.", low=0.0, high=1.0)
    fails: bool = parameter(False, "Whether it fails.")


LOG = []
"""Keys of the toys in the order in which they were begun; tests clear it."""

CLOSED = []
"""Keys of the toys whose generators ended, in whatever way."""


def four(values):
    return np.repeat(values[..., None], ECHOES, axis=3)


def _mask(acquisition, scale):
    inside = np.ones(acquisition.grid.shape, bool)
    inside[: max(1, round(scale))] = False
    return {Q.MASK: inside}


def _background(acquisition, scale):
    inside = acquisition.mask.copy()
    inside[-1] = False
    return {Q.LOCAL_FIELD: scale * acquisition[Q.TOTAL_FIELD] * inside, Q.MASK: inside}


MAKES = {
    "toy_mask": (Place.MASK, (Q.MAGNITUDE,), (), (Q.MASK,), _mask),
    "toy_mask_2": (Place.MASK, (Q.MAGNITUDE,), (), (Q.MASK,), _mask),
    "toy_offset": (
        *(Place.OFFSET, (Q.PHASE,), (Q.MAGNITUDE,), (Q.OFFSET, Q.PHASE)),
        lambda a, s: {Q.OFFSET: s + 0 * a[Q.PHASE][..., 0], Q.PHASE: a[Q.PHASE] - 0.1 * s},
    ),
    "toy_unwrap": (
        *(Place.UNWRAP, (Q.PHASE,), (Q.MASK,), (Q.UNWRAPPED,)),
        lambda a, s: {Q.UNWRAPPED: s * a[Q.PHASE] * a.mask[..., None]},
    ),
    "toy_field": (
        *(Place.FIELD, (Q.UNWRAPPED,), (Q.MASK,), (Q.TOTAL_FIELD,)),
        lambda a, s: {Q.TOTAL_FIELD: 0.01 * s * a[Q.UNWRAPPED].mean(axis=3)},
    ),
    "toy_rate": (
        *(Place.RELAXATION, (Q.MAGNITUDE,), (Q.MASK,), (Q.R2STAR,)),
        lambda a, s: {Q.R2STAR: 10 * s * a.mask.astype(np.float32)},
    ),
    "toy_background": (
        *(Place.BACKGROUND, (Q.TOTAL_FIELD, Q.MASK), (), (Q.LOCAL_FIELD, Q.MASK)),
        _background,
    ),
}


def register():
    for key, (place, needs, uses, gives, make) in MAKES.items():
        _register(key, place, needs, uses, gives, make)


def _register(key, place, needs, uses, gives, make):
    @stage(
        key=key,
        label=key.replace("_", " ").capitalize(),
        summary="Toys.",
        place=place,
        parameters=Toy,
        references=("10.0/x",),
        needs=needs,
        uses=uses,
        gives=gives,
        echoes=2 if place is Place.RELAXATION else 1,
    )
    def run(acquisition, parameters, device):
        LOG.append(key)
        try:
            for part in (0.25, 0.5, 0.75):
                time.sleep(parameters.pause)
                yield Step(part, f"{key} at work")
            if parameters.fails:
                raise InputError(f"{key} was told to fail.")
            made = make(acquisition, parameters.scale)
            return Maps(acquisition.grid, made, Provenance(notes=(f"{key} did it.",)))
        finally:
            CLOSED.append(key)


def remove():
    for key in MAKES:
        unregister(key)


def recipe(**others):
    """Return a recipe of toys; `others` name another stage by the key of a place."""
    chosen = {place: key for key, (place, *_) in reversed(MAKES.items())}
    chosen |= {Place.named(name): key for name, key in others.items()}
    return Recipe({place: Choice(key) for place, key in chosen.items()})


def measurement(*, shape=SHAPE, echoes=ECHOES, affine=None, notes=(), magnitude=True):
    rng = np.random.default_rng(3)
    volumes = {Q.PHASE: rng.uniform(-3, 3, (*shape, echoes)).astype(np.float32)}
    if magnitude:
        volumes[Q.MAGNITUDE] = rng.uniform(1, 2, (*shape, echoes)).astype(np.float32)
    return Acquisition(
        Grid(shape, np.eye(4) if affine is None else affine),
        volumes,
        field_strength=3.0,
        echo_times=tuple(0.004 * (k + 1) for k in range(echoes)),
        sources={Q.PHASE: "phase.nii.gz"},
        notes=notes,
    )


FAMILIES = {"qsmnet": {}, "pdi": {"uncertain": True}, "uqsm": {}, "lpcnn": {"iterations": 3}}
"""Families of weights, and what is special about them: a sigma, or steps."""


def write_networks(folder, channels=("field", "tikhonov")):
    """Write tiny weights of every family: they change the map they start from at random."""
    for seed, (family, special) in enumerate(FAMILIES.items()):
        torch.manual_seed(seed)
        architecture = Architecture(widths=(4, 8))
        network = built(Design(channels, architecture=architecture, **special))
        card = Card(family, f"Tiny {family}", network.design, family, calibration=1.5)
        write(card, network, folder)

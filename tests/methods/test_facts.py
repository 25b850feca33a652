"""Facts of a measurement: found out once, never mistaken for another's, gone with its volumes."""

import gc

import numpy as np
import torch

from napari_qsm.acquisition import Acquisition, Grid, Quantity
from napari_qsm.methods import facts
from napari_qsm.methods.field_error import field_error
from napari_qsm.methods.workspace import Workspace

SHAPE = (12, 10, 8)


def measured(random_state=0):
    rng = np.random.default_rng(random_state)
    mask = np.zeros(SHAPE, bool)
    mask[1:-1, 1:-1, 1:-1] = True
    field = rng.normal(size=SHAPE).astype(np.float32)
    magnitude = rng.uniform(0.5, 1, SHAPE).astype(np.float32)
    volumes = {
        Quantity.LOCAL_FIELD: field,
        Quantity.MASK: mask,
        Quantity.MAGNITUDE: magnitude,
    }
    return Acquisition(Grid(SHAPE, np.eye(4)), volumes)


def asked(acquisition):
    """Return how often something has to be found out anew for an acquisition: once or never."""
    found = []
    with Workspace(acquisition, torch.device("cpu"), "test") as space:
        space.fact("test", lambda: found.append(1))
    return len(found)


def test_a_fact_is_found_out_once_whatever_susceptibility_is_given():
    first = measured()
    assert asked(first) == 1
    assert asked(first) == 0
    assert asked(first.with_volumes({Quantity.CHI: np.zeros(SHAPE, np.float32)})) == 0


def test_another_field_mask_or_magnitude_has_other_facts():
    first = measured()
    assert asked(first) == 1
    for quantity in (Quantity.LOCAL_FIELD, Quantity.MASK, Quantity.MAGNITUDE):
        assert asked(first.with_volumes({quantity: first[quantity].copy()})) == 1
    assert asked(measured()) == 1


def test_what_is_known_equals_what_is_found_out_anew():
    known, fresh = measured(), measured()
    for acquisition in (known, known, fresh):
        with Workspace(acquisition, torch.device("cpu"), "test") as space:
            last = field_error(space, "magnitude"), space.noise(), space.weights("magnitude")
        if acquisition is known:
            kept = last
    assert kept[:2] == last[:2]
    assert torch.equal(kept[2], last[2])


def test_facts_go_with_their_volumes():
    first = measured()
    asked(first)
    held = len(facts._known)
    del first
    gc.collect()
    asked(measured(1))
    assert len(facts._known) <= held

"""What follows a slider is what the method itself makes, and always of the newest value."""

import gc
import weakref

import numpy as np
import pytest
import torch

from napari_qsm.acquisition import Acquisition, Grid, InputError, Quantity
from napari_qsm.generators import finished
from napari_qsm.methods.registry import Parameters, method, methods, parameter, unregister
from napari_qsm.process import number
from napari_qsm.workbench.live import Live, LiveFilter, Tuned, Wish

SHAPE = (22, 26, 19)
AFFINE = np.array([[-1.0, 0.1, 0, 3], [0.1, 1.2, 0.3, -9], [0, -0.2, 1.6, 5], [0, 0, 0, 1]])
CPU = torch.device("cpu")
CLOSED = [m for m in methods().values() if m.symbol is not None]


def choices(method):
    """Default parameters, those at both ends of the range, and every other variant."""
    model = method.parameters
    range_ = number(model.model_fields[method.tuning])
    made = [model(), *(model(**{method.tuning: end}) for end in (range_.low, range_.high))]
    for name, other in model.model_fields.items():
        for value in getattr(other.annotation, "__args__", ()):
            if isinstance(value, str):
                made.append(model(**{name: value}))
        if other.annotation is bool:
            made.append(model(**{name: not other.default}))
    return made


CASES = [pytest.param(m, p, id=f"{m.key}-{i}") for m in CLOSED for i, p in enumerate(choices(m))]


@pytest.fixture(scope="module")
def measured():
    """An oblique, anisotropic field with a mask that touches no border."""
    axes = np.meshgrid(*[np.linspace(-1, 1, n) for n in SHAPE], indexing="ij")
    mask = sum((a - 0.1) ** 2 for a in axes) < 0.6
    field = np.random.default_rng(0).normal(0, 0.02, SHAPE).astype(np.float32) * mask
    volumes = {Quantity.LOCAL_FIELD: field, Quantity.MASK: mask}
    return Acquisition(Grid(SHAPE, AFFINE), volumes, 3.0, (0.02,))


def test_there_are_closed_form_methods():
    assert {"tkd", "tikhonov"} <= {m.key for m in CLOSED}


@pytest.mark.parametrize(("method", "parameters"), CASES)
def test_planes_and_volume_are_the_methods_own(measured, method, parameters):
    chi = finished(method(measured, parameters))[Quantity.CHI]
    live = LiveFilter(measured, method, CPU)
    scale = max(1.0, float(np.abs(chi).max()))
    assert np.abs(live.volume(parameters) - chi).max() < 1e-6 * scale
    for voxel in ((11, 13, 9), (6, 20, 12), (0, 13, 18)):  # the last one outside the mask's box
        for axis, plane in enumerate(live.planes(parameters, voxel)):
            assert np.abs(plane - chi.take(voxel[axis], axis)).max() < 1e-6 * scale


@pytest.mark.parametrize("method", CLOSED, ids=lambda m: m.key)
def test_the_residual_is_that_of_the_residual_map(measured, method):
    maps = finished(method(measured))
    field = measured[Quantity.LOCAL_FIELD]
    expected = np.linalg.norm(maps[Quantity.RESIDUAL]) / np.linalg.norm(field)
    residual = LiveFilter(measured, method, CPU).residual(method.parameters())
    assert residual == pytest.approx(float(expected), rel=1e-5)


def test_a_method_that_is_no_filter_is_refused(measured):
    with pytest.raises(ValueError, match="no filter"):
        LiveFilter(measured, methods()["tv"], CPU)


def test_an_acquisition_without_a_field_is_refused(measured):
    without = Acquisition(measured.grid, {Quantity.MASK: measured.mask})
    with pytest.raises(InputError, match="local field"):
        LiveFilter(without, methods()["tkd"], CPU)


@pytest.fixture
def live(measured):
    return Live(measured, methods()["tkd"], CPU)


def wish(threshold, look="volume"):
    return Wish(methods()["tkd"].parameters(threshold=threshold), look, (11, 13, 9))


def test_the_newest_wish_is_fulfilled_and_the_ones_before_are_not(live):
    assert live.wish(wish(0.1))
    for threshold in (0.15, 0.2, 0.25):
        assert not live.wish(wish(threshold))  # somebody has been told to iterate already
    shown = [live.take().wish.parameters.threshold for _ in live.frames()]
    assert set(shown) == {0.25}
    assert live.volumes == 1


def test_a_wish_while_a_volume_is_computed_comes_next(live):
    live.wish(wish(0.1, "planes"))
    shown = []
    for _ in live.frames():
        frame = live.take()
        shown.append((frame.wish.look, frame.wish.parameters.threshold, frame.residual is None))
        if len(shown) == 1:
            live.wish(wish(0.1))
        if len(shown) == 2:
            live.wish(wish(0.2))
    assert shown == [
        ("planes", 0.1, True),
        ("volume", 0.1, True),  # its residual is not worth computing any more
        ("volume", 0.2, True),
        ("volume", 0.2, False),
    ]


def test_a_frame_nobody_took_is_replaced_and_one_is_taken_once(live):
    live.wish(wish(0.1))
    frames = live.frames()
    next(frames)
    next(frames)
    assert live.take().residual is not None
    assert live.take() is None
    assert next(frames, None) is None


def test_when_all_is_done_a_new_wish_must_be_started(live):
    live.wish(wish(0.1, "planes"))
    list(live.frames())
    assert live.wish(wish(0.2, "planes"))
    assert len(list(live.frames())) == 1


@pytest.mark.parametrize("when", ["before", "between", "after"])
def test_closing_lets_the_spectrum_go(live, when):
    live.wish(wish(0.1))
    frames = live.frames()
    next(frames)
    held = weakref.ref(live._filter._sliced)
    if when == "after":
        list(frames)
    live.close()
    if when == "before":
        frames.close()
    if when == "between":
        assert list(frames) == []
    del frames
    gc.collect()
    assert held() is None
    assert live.take() is None
    assert not live.wish(wish(0.2))


def test_an_error_leaves_it_ready_for_the_next_wish(live, monkeypatch):
    live.wish(wish(0.1))
    monkeypatch.setattr(LiveFilter, "volume", lambda *a, **k: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        list(live.frames())
    monkeypatch.undo()
    assert live.wish(wish(0.2))
    assert len(list(live.frames())) == 2


class Chosen(Parameters):
    share: float | None = parameter(
        None, "A share.", low=0.1, high=10, log=True, alias="lambda", typical=1.0
    )


@pytest.fixture
def choosing():
    """A closed-form method that chooses its tuning parameter from the data."""

    def symbol(space, parameters):
        share = parameters.share or space.choose("share", 0.5, "chosen for a test")
        return torch.full_like(space.dipole.spectrum, share)

    @method(
        key="choosing",
        label="Choosing",
        summary="Scales the field.",
        parameters=Chosen,
        references=("10.0/x",),
        tuning="share",
        symbol=symbol,
    )
    def run(acquisition, parameters, device):
        raise NotImplementedError

    yield methods()["choosing"]
    unregister("choosing")


def test_what_the_method_chose_is_told(measured, choosing):
    live = Live(measured, choosing, CPU)
    for value, said in ((None, "λ = 0.5"), (2.0, "λ = 2")):
        parameters = Chosen(share=value)
        live.wish(Wish(parameters, "planes", (11, 13, 9)))
        (frame,) = [live.take() for _ in live.frames()]
        assert Tuned(choosing, parameters, frame.chosen).value == said
    assert Tuned(choosing, Chosen()).value == "λ chosen from the data"

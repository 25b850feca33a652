"""A pass runs beside its generator, raises there, and stops when that is closed."""

import threading
import time

import pytest
import torch
from torch import nn

from napari_qsm.generators import finished, relayed
from napari_qsm.networks.background import INTERVAL, PATIENCE, in_background


class Slow(nn.Module):
    def __init__(self, seconds):
        super().__init__()
        self.seconds, self.calls = seconds, 0

    def forward(self, values):
        self.calls += 1
        time.sleep(self.seconds)
        return values + 1


def running_threads():
    return [t for t in threading.enumerate() if t.name == "napari-qsm network"]


def test_it_yields_while_it_works_and_returns_the_result():
    layer = Slow(4 * INTERVAL)
    running = in_background(lambda: layer(torch.zeros(1)), layer)
    waits = []
    assert finished(relayed(running, waits.append)) == 1
    assert 2 <= len(waits) <= 5


def test_what_it_raises_comes_out():
    def fail():
        raise ZeroDivisionError("here")

    with pytest.raises(ZeroDivisionError, match="here"):
        finished(in_background(fail))


def test_closing_stops_at_the_next_layer_and_does_not_wait_for_a_long_one():
    layers = nn.Sequential(*[Slow(0.6) for _ in range(5)])
    running = in_background(lambda: layers(torch.zeros(1)), layers)
    next(running)
    began = time.monotonic()
    running.close()
    assert time.monotonic() - began < PATIENCE + 0.1
    for thread in running_threads():
        thread.join(5)
    assert sum(layer.calls for layer in layers) == 1
    assert not any(layer._forward_pre_hooks or layer._forward_hooks for layer in layers)


def test_closing_stops_on_the_way_back():
    layers = nn.Sequential(*[nn.Linear(2, 2) for _ in range(3)])
    passed = []
    for number, layer in enumerate(layers):
        layer.weight.register_hook(lambda g, n=number: passed.append(n) or time.sleep(0.2))

    def work():
        layers(torch.ones(1, 2)).sum().backward()

    running = in_background(work, layers)
    next(running)
    running.close()
    for thread in running_threads():
        thread.join(5)
    assert len(passed) < 3

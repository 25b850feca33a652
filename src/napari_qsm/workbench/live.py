"""A method under the fingers: what is shown while its tuning parameter is dragged.

A method that is a Fourier filter of the field keeps the field's spectrum. A new value then needs a
filter, and either the three planes somebody looks at or the volume; both are what the method itself
would make, to rounding. Free of Qt and napari: `Live.frames` runs wherever it is iterated.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from napari_qsm.acquisition import Acquisition, FloatArray, Quantity
from napari_qsm.methods.registry import Method, Parameters
from napari_qsm.methods.workspace import Workspace
from napari_qsm.physics import fourier
from napari_qsm.physics.slices import SlicedInverse
from napari_qsm.process import spoken
from napari_qsm.surroundings import bounding_box, fitting_threads

Voxel = tuple[int, int, int]

Look = Literal["planes", "coarse", "volume"]
"""How much is wished for: three planes, the volume at half its resolution, or all of it."""


@dataclass(frozen=True)
class Wish:
    """What somebody wants to see.

    Parameters
    ----------
    parameters : Parameters
        Of the method.
    look : {"planes", "coarse", "volume"}
        How much of it.
    voxel : tuple[int, int, int]
        Where the planes cross, in stored voxel order.
    at : float
        When it was wished for, by ``time.perf_counter``.
    """

    parameters: Parameters
    look: Look = "volume"
    voxel: Voxel = (0, 0, 0)
    at: float = field(default_factory=time.perf_counter, compare=False)


@dataclass(frozen=True)
class Frame:
    """What can be shown, and of which parameters it is.

    Parameters
    ----------
    wish : Wish
        What it answers.
    seconds : float
        From the moment the wish was taken up.
    chi : array or tuple of three arrays
        Susceptibility in ppm on the acquisition's grid, relative to its mean in the mask and zero
        outside it; the planes x, y and z = const. through ``wish.voxel`` if those were wished for.
    chosen : mapping
        Values the method chose for parameters that were left to it.
    residual : float, optional
        ``|D chi - f| / |f|`` in the mask, once it is known (only for the volume).
    """

    wish: Wish
    seconds: float
    chi: FloatArray | tuple[FloatArray, FloatArray, FloatArray]
    chosen: dict[str, Any]
    residual: float | None = None


class LiveFilter:
    """A closed-form method and one field, with everything kept that no parameter changes.

    Parameters
    ----------
    acquisition : Acquisition
        With a local field in ppm.
    method : Method
        One with a `symbol`.
    device : torch.device
        Where to work.

    Raises
    ------
    InputError
        If the acquisition lacks what the method needs.
    ValueError
        If the method has no symbol.
    """

    def __init__(self, acquisition: Acquisition, method: Method[Any], device: torch.device) -> None:
        if method.symbol is None:
            raise ValueError(f"{method.label} is no filter of the field.")
        method.check(acquisition)
        self._filter = method.symbol
        self._space = space = Workspace(acquisition, device, method.label)
        self._grid, self._box = acquisition.grid.shape, bounding_box(acquisition.mask)
        part = tuple(s.stop - s.start for s in self._box)
        measured, region = space.field(), space.region()
        self._field = fourier.crop(measured, part).clone()
        self._inside = fourier.crop(region, part).float()
        count = int(torch.count_nonzero(region))
        transform = fourier.spectrum(measured)
        self._sliced = SlicedInverse(transform, space.shape)
        self._mean_of = _mean_weights(transform, region, space.shape, count)
        self._made: tuple[Parameters, Tensor] | None = None

    def _symbol(self, parameters: Parameters) -> Tensor:
        if self._made is None or self._made[0] != parameters:
            self._space.chosen.clear()
            self._made = None  # its memory is needed for what replaces it
            self._made = parameters, self._filter(self._space, parameters)
        return self._made[1]

    def _mean(self, parameters: Parameters) -> float:
        """Mean in the mask of what the filter makes, which susceptibility is relative to."""
        return float(torch.dot(self._symbol(parameters).reshape(-1), self._mean_of))

    @property
    def chosen(self) -> dict[str, Any]:
        """Values the method chose by itself for the parameters used last."""
        return dict(self._space.chosen)

    def planes(
        self, parameters: Parameters, voxel: Voxel
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return the planes x, y and z = const. of the susceptibility through a voxel."""
        symbol, mean = self._symbol(parameters), self._mean(parameters)
        corner = [s.start for s in self._box]
        inner = [
            min(max(v - c, 0), n - 1)
            for v, c, n in zip(voxel, corner, self._inside.shape, strict=True)
        ]
        made = []
        for axis, plane in enumerate(self._sliced(symbol, inner)):
            whole = np.zeros(np.delete(self._grid, axis), np.float32)
            if inner[axis] == voxel[axis] - corner[axis]:  # else all of it lies outside the mask
                inside = self._inside.select(axis, inner[axis])
                values = plane[: inside.shape[0], : inside.shape[1]].sub(mean).mul_(inside)
                box = tuple(np.delete(np.array(self._box, dtype=object), axis))
                whole[box] = values.cpu().numpy()
            made.append(whole)
        x, y, z = made
        return x, y, z

    def volume(self, parameters: Parameters, *, coarse: bool = False) -> FloatArray:
        """Return the susceptibility, or a quick impression of it at half its resolution."""
        transform = self._sliced.spectrum(self._symbol(parameters), low=coarse)
        inverse = fourier.coarse_volume if coarse else fourier.cropped_volume
        values = inverse(transform, self._space.shape, self._inside.shape)
        values.sub_(self._mean(parameters)).mul_(self._inside)
        volume = np.zeros(self._grid, np.float32)
        volume[self._box] = values.cpu().numpy()
        return volume

    def residual(self, parameters: Parameters) -> float:
        """Return ``|D chi - f| / |f|`` in the mask, as the method's residual map has it."""
        predicted = self._symbol(parameters) * self._space.dipole.spectrum
        transform = self._sliced.spectrum(predicted)
        values = fourier.cropped_volume(transform, self._space.shape, self._inside.shape)
        values.sub_(self._field).mul_(self._inside)
        return float(torch.linalg.vector_norm(values) / torch.linalg.vector_norm(self._field))


def _mean_weights(transform: Tensor, region: Tensor, shape: fourier.Shape, count: int) -> Tensor:
    """Weights whose sum with a symbol is the mean in `region` of what it makes of the field.

    By Parseval's theorem: the mean is a product with the region, in either space.
    """
    product = fourier.spectrum(region.float()).conj_physical_().mul_(transform)
    weights = product.real.mul(2 / (count * math.prod(shape)))
    weights[..., 0] /= 2
    if shape[2] % 2 == 0:
        weights[..., -1] /= 2
    return weights.reshape(-1)


class Live:
    """Fulfils wishes for one field and method, always the newest, never an older one.

    Any thread may `wish`; whoever is told to iterates `frames` in a thread of its own, which ends
    when nothing more is wished for. Frames wait in a mailbox of one: a newer one replaces what
    nobody has taken yet.

    Parameters
    ----------
    acquisition, method, device
        See `LiveFilter`, which is made in the thread that iterates.
    """

    def __init__(self, acquisition: Acquisition, method: Method[Any], device: torch.device) -> None:
        self.acquisition, self.method, self._device = acquisition, method, device
        self.volumes = 0
        """How many volumes were computed."""
        self._lock = threading.Lock()
        self._wish: Wish | None = None
        self._frame: Frame | None = None
        self._running = self._closed = False
        self._filter: LiveFilter | None = None

    def wish(self, wish: Wish) -> bool:
        """Wish for something instead of whatever was wished for before.

        Returns
        -------
        bool
            Whether somebody must now iterate `frames`; False if somebody does.
        """
        with self._lock:
            if self._closed:
                return False
            self._wish = wish
            start, self._running = not self._running, True
            return start

    def frames(self) -> Generator[None, None, None]:
        """Fulfil wishes until there are none; each step means that a frame can be taken."""
        try:
            with fitting_threads(self._device, self.acquisition[Quantity.LOCAL_FIELD].size):
                while (wish := self._next()) is not None:
                    for frame in self._fulfil(wish):
                        with self._lock:
                            self._frame = None if self._closed else frame
                        yield
        except BaseException:  # also when this generator is closed
            self._ended()
            raise

    def take(self) -> Frame | None:
        """Take the newest frame, if it has not been taken."""
        with self._lock:
            frame, self._frame = self._frame, None
            return frame

    def close(self) -> None:
        """Wish for nothing any more and let everything go."""
        with self._lock:
            self._closed = True
            self._wish = self._frame = None
            if not self._running:
                self._filter = None

    def _next(self) -> Wish | None:
        with self._lock:
            wish, self._wish = self._wish, None
        if wish is None:
            self._ended()
        return wish

    def _ended(self) -> None:
        with self._lock:
            self._running = False
            if self._closed:
                self._filter = None

    @property
    def _outdated(self) -> bool:
        with self._lock:
            return self._closed or self._wish is not None

    def _fulfil(self, wish: Wish) -> Generator[Frame, None, None]:
        if self._filter is None:
            self._filter = LiveFilter(self.acquisition, self.method, self._device)
        ready, parameters = self._filter, wish.parameters
        began = time.perf_counter()
        if wish.look == "planes":
            planes = ready.planes(parameters, wish.voxel)
            yield Frame(wish, time.perf_counter() - began, planes, ready.chosen)
            return
        chi = ready.volume(parameters, coarse=wish.look == "coarse")
        seconds = time.perf_counter() - began
        self.volumes += wish.look == "volume"
        yield Frame(wish, seconds, chi, ready.chosen)
        if wish.look == "volume" and not self._outdated:
            yield Frame(wish, seconds, chi, ready.chosen, ready.residual(parameters))


@dataclass(frozen=True)
class Tuned:
    """What a live layer shows: a method at a value, in words and as facts.

    Parameters
    ----------
    method, parameters
        What made it.
    chosen : mapping
        Values the method chose for parameters that were left to it.
    residual : float, optional
        ``|D chi - f| / |f|`` in the mask.
    """

    method: Method[Any]
    parameters: Parameters
    chosen: Mapping[str, Any] = field(default_factory=dict)
    residual: float | None = None

    @property
    def number(self) -> float | None:
        """Value of the tuning parameter; None while the method has still to choose it."""
        name = self.method.tuning
        stated: float | None = getattr(self.parameters, name)
        return self.chosen.get(name) if stated is None else stated

    @property
    def value(self) -> str:
        """The tuning parameter and its value, as in "λ = 0.0001"."""
        name = self.method.tuning
        said = spoken(name, self.method.parameters.model_fields[name])
        number = self.number
        return f"{said} chosen from the data" if number is None else f"{said} = {number:g}"

    @property
    def name(self) -> str:
        """What the layer is called."""
        return f"Live: {self.method.label}, {self.value}"

    @property
    def facts(self) -> dict[str, Any]:
        """Entries of the layer's ``metadata["qsm"]``."""
        settings = {**self.parameters.model_dump(mode="json"), **self.chosen}
        return {"method": self.method.key, "params": settings, "residual": self.residual}

"""What the user has chosen and what came of it; evented, and free of Qt and napari.

Views observe the signals and call the verbs. Anything slow (`understand`, a job's `run`) is a
function the caller runs in a thread of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from psygnal import Signal

from napari_qsm.acquisition import Acquisition, InputError, Maps, Quantity, Volume
from napari_qsm.evaluation.metrics import error_map, nrmse
from napari_qsm.methods.registry import Method, Parameters, Reconstruction, Step
from napari_qsm.methods.wrapping import JOINT, wrap, wrappers
from napari_qsm.physics.units import FieldUnit
from napari_qsm.pipeline import REFERENCE, Choice, referenced
from napari_qsm.preparation.assemble import assemble
from napari_qsm.preparation.checks import Finding, inspect
from napari_qsm.preparation.orientations import Orientation, with_orientations
from napari_qsm.process import spoken
from napari_qsm.workbench.job import Job


@dataclass(frozen=True)
class Inputs:
    """The volumes and constants chosen for the next reconstruction.

    Parameters
    ----------
    field, mask, magnitude, noise : Volume, optional
        As loaded; `field` in any unit, `noise` its standard deviation.
    r2star, r2, r2prime : Volume, optional
        Relaxation rates in 1/s or 1/ms.
    start : Volume, optional
        A susceptibility that methods which iterate, or separate it, begin with.
    reference : Volume, optional
        A chi map in ppm to compare results with.
    unit : FieldUnit, optional
        Unit of the field if the user states it; None trusts the file.
    field_strength, echo_time, b0_direction : optional
        The user's corrections, in T, s and voxel axes; None keeps what the files say.
    zero : str
        What susceptibility is to be relative to, as the stage 'reference' knows it.
    zero_map : Volume, optional
        What that is found in: R2* in 1/s for ``"csf"``, labels for ``"roi"``.
    orientations : tuple[Orientation, ...]
        Fields of the same head in further orientations.
    """

    field: Volume | None = None
    mask: Volume | None = None
    magnitude: Volume | None = None
    noise: Volume | None = None
    r2star: Volume | None = None
    r2: Volume | None = None
    r2prime: Volume | None = None
    start: Volume | None = None
    reference: Volume | None = None
    unit: FieldUnit | None = None
    field_strength: float | None = None
    echo_time: float | None = None
    b0_direction: tuple[float, float, float] | None = None
    zero: str = "mask"
    zero_map: Volume | None = None
    orientations: tuple[Orientation, ...] = ()

    def acquisition(self) -> Acquisition:
        """Assemble the acquisition these choices describe.

        Raises
        ------
        InputError
            If they do not make sense; the sentence says why.
        """
        if self.field is None:
            raise InputError("No local field is chosen; open one or choose a layer.")
        first = assemble(
            self.field,
            self.mask,
            self.magnitude,
            self.noise,
            r2star=self.r2star,
            r2=self.r2,
            r2prime=self.r2prime,
            start=self.start,
            unit=self.unit,
            field_strength=self.field_strength,
            echo_time=self.echo_time,
            b0_direction=self.b0_direction,
        )
        if not self.orientations:
            return first
        return with_orientations(first, self.orientations, unit=self.unit)


@dataclass(frozen=True)
class Understanding:
    """What the program made of the inputs.

    Parameters
    ----------
    acquisition : Acquisition, optional
        None if the inputs are unusable.
    findings : tuple[Finding, ...]
        What is wrong, suspicious or assumed.
    """

    acquisition: Acquisition | None = None
    findings: tuple[Finding, ...] = ()


def understand(inputs: Inputs) -> Understanding:
    """Assemble and inspect the inputs; takes up to a second on a large volume."""
    if inputs.field is None:
        return Understanding()
    try:
        acquisition = inputs.acquisition()
        if inputs.reference is not None:
            _same_place(acquisition, inputs.reference)
    except InputError as error:
        return Understanding(None, (Finding("error", str(error)),))
    return Understanding(acquisition, inspect(acquisition))


def _same_place(acquisition: Acquisition, reference: Volume) -> None:
    if mismatch := acquisition.grid.mismatch(reference.grid):
        raise InputError(
            f"The reference {mismatch}; choose a susceptibility map on the grid of the field."
        )


@dataclass(frozen=True)
class Result:
    """Maps a method made, with a name that tells them from the others.

    Parameters
    ----------
    title : str
        Method, parameters that differ from the defaults, running number.
    maps : Maps
        The maps.
    """

    title: str
    maps: Maps


@dataclass
class Workbench:
    """The session: chosen inputs, method, parameters and device, and the running job.

    Attributes
    ----------
    inputs_changed, understood, method_changed, running_changed, result_added : Signal
        Emitted after the state has changed, with the new `Inputs`, `Understanding`, method key,
        whether a job runs, and the `Result`.
    """

    methods: Mapping[str, Method[Any]]
    method: str
    device: str = "auto"
    inputs: Inputs = field(default_factory=Inputs)
    understanding: Understanding = field(default_factory=Understanding)
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    job: Job[Maps] | None = None
    runs: int = 0

    inputs_changed = Signal(Inputs)
    understood = Signal(Understanding)
    method_changed = Signal(str)
    running_changed = Signal(bool)
    result_added = Signal(Result)

    @property
    def chosen(self) -> Method[Any]:
        """The chosen method, in its wrappers."""
        return wrap(self.methods[self.unwrapped], self.wrappers)

    @property
    def unwrapped(self) -> str:
        """Key of the chosen method without wrappers."""
        return self.method.split(JOINT)[0]

    @property
    def wrappers(self) -> tuple[str, ...]:
        """Keys of the chosen wrappers, the innermost first."""
        return tuple(self.method.split(JOINT)[1:])

    def choose_inputs(self, **changes: Any) -> None:
        """Replace some inputs; what was understood is void until `accept` is called."""
        self.inputs = replace(self.inputs, **changes)
        self.inputs_changed.emit(self.inputs)

    def accept(self, understanding: Understanding, of: Inputs) -> None:
        """Take the outcome of `understand(of)`, unless the inputs have changed since."""
        if of is self.inputs:
            self.understanding = understanding
            self.understood.emit(understanding)

    def reject(self, reason: str) -> None:
        """Say that the chosen layers cannot even be read as inputs, and why."""
        self.inputs = Inputs()
        self.understanding = Understanding(None, (Finding("error", reason),))
        self.understood.emit(self.understanding)

    def choose_method(self, key: str) -> None:
        """Choose another method; every method remembers its own settings."""
        self.method = key
        self.method_changed.emit(key)

    def change_method(self, plain: str) -> None:
        """Choose another method in the wrappers that are chosen, as far as they fit around it."""
        around, known = self.wrappers, wrappers()
        self.choose_method(plain)
        if kept := tuple(key for key in around if known[key].fits(self.chosen)):
            self.choose_wrappers(kept)

    def choose_wrappers(self, keys: tuple[str, ...]) -> None:
        """Put other wrappers around the chosen method; what is set stays set."""
        key = JOINT.join((self.unwrapped, *keys))
        before, own = self.settings.get(self.method, {}), self.chosen.parameters.model_fields
        after = wrap(self.methods[self.unwrapped], keys).parameters.model_fields
        remembered = {n: v for n, v in self.settings.get(key, {}).items() if n not in own}
        kept = {n: v for n, v in before.items() if n in after}
        self.settings[key] = {**remembered, **kept}
        self.choose_method(key)

    def set_parameter(self, name: str, value: Any) -> None:
        """Change one parameter of the chosen method.

        Raises
        ------
        InputError
            If the value is out of range; the old one stays.
        """
        changed = {**self.settings.get(self.method, {}), name: value}
        self.chosen.with_settings(changed)
        self.settings[self.method] = changed

    def reset_parameters(self) -> None:
        """Give the chosen method its shipped parameters back."""
        self.settings.pop(self.method, None)
        self.method_changed.emit(self.method)

    @property
    def parameters(self) -> Parameters:
        """Parameters of the chosen method as they stand."""
        chosen: Parameters = self.chosen.with_settings(self.settings.get(self.method, {}))
        return chosen

    def reason_not_to_run(self, method: Method[Any] | None = None) -> str:
        """Say why the chosen method, or another one, cannot run now; empty when it can."""
        method = method or self.chosen
        errors = [f.text for f in self.understanding.findings if f.severity == "error"]
        if errors:
            return errors[0]
        if self.inputs.field is None:
            return "Choose a local field to begin."
        if self.understanding.acquisition is None:
            return "Checking the input …"
        try:
            method.check(self.understanding.acquisition)
        except InputError as error:
            return str(error)
        return ""

    def start(
        self,
        device: torch.device,
        method: Method[Any] | None = None,
        parameters: Parameters | None = None,
    ) -> tuple[Job[Maps], str]:
        """Make the job for the present choices, and the title its result will carry.

        A `method` with its `parameters` may be given that were chosen somewhere else.
        The inputs are assembled anew inside the job, so that a mask painted a moment ago counts.
        """
        self.runs += 1
        inputs = self.inputs
        if method is None or parameters is None:
            method, parameters = self.chosen, self.parameters
        self.job = Job(lambda: _reconstruct(inputs, method, parameters, device))
        self.running_changed.emit(True)
        return self.job, f"{method.label}{_difference(parameters)} #{self.runs}"

    def finish(self, title: str, maps: Maps | None) -> None:
        """Take the outcome of the running job: maps, or None if it was cancelled or failed."""
        self.job = None
        self.running_changed.emit(False)
        if maps is not None:
            self.result_added.emit(Result(title, maps))


def _difference(parameters: Parameters) -> str:
    """Name the parameters that are not at their shipped value, for a layer's name."""
    fields, shipped = type(parameters).model_fields, type(parameters)()
    parts = []
    for name, value in parameters:
        if value != getattr(shipped, name):
            shown = f"{value:g}" if isinstance(value, float) else str(value)
            parts.append(f"{spoken(name, fields[name])}={shown}")
    return f" {', '.join(parts)}" if parts else ""


def _reconstruct(
    inputs: Inputs, method: Method[Any], parameters: Parameters, device: torch.device
) -> Reconstruction:
    yield Step(0.0, "Checking the input")
    acquisition = inputs.acquisition()
    maps: Maps = yield from method(acquisition, parameters, device)
    if inputs.zero != "mask":  # that is what methods do by themselves
        maps = yield from _rezeroed(maps, acquisition, inputs)
    extra: dict[Quantity, Any] = {}
    notes: tuple[str, ...] = ()
    if inputs.mask is None:  # the mask that was derived must be seen
        extra[Quantity.MASK] = acquisition.mask
    if inputs.reference is not None:
        yield Step(1.0, "Comparing with the reference")
        _same_place(acquisition, inputs.reference)
        chi, truth = maps[Quantity.CHI], inputs.reference.data
        extra[Quantity.ERROR] = error_map(chi, truth, acquisition.mask)
        error = nrmse(chi, truth, acquisition.mask)
        notes = (f"NRMSE to '{inputs.reference.source}' is {error:.1f} % (means removed).",)
    provenance = replace(maps.provenance, notes=(*maps.provenance.notes, *notes))
    return replace(maps, volumes={**maps.volumes, **extra}, provenance=provenance)


def _rezeroed(maps: Maps, acquisition: Acquisition, inputs: Inputs) -> Reconstruction:
    """Give the maps the reference that was asked for, found in the map that was chosen for it."""
    if inputs.zero_map is not None:
        if mismatch := acquisition.grid.mismatch(inputs.zero_map.grid):
            raise InputError(
                f"The map of the reference region {mismatch}; choose one on the grid of the field."
            )
        quantity = Quantity.LABELS if inputs.zero == "roi" else Quantity.R2STAR
        acquisition = acquisition.with_volumes({quantity: inputs.zero_map.data})
    choice = Choice(REFERENCE, {"to": inputs.zero})
    return (yield from referenced(maps, acquisition, choice))

"""From trained weights to those of a cohort without labels: PDI-VI's objective, amortised.

Fields take turns; each step lowers the free energy of one of them. What comes out serves every
further field of the same kind in a single pass.
"""

from __future__ import annotations

import csv
import hashlib
import math
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim import swa_utils

from napari_qsm import devices
from napari_qsm.acquisition import Acquisition, InputError, Quantity, fingerprint
from napari_qsm.generators import relayed
from napari_qsm.methods.learned import opened
from napari_qsm.methods.variational import Posterior, Problem, problem
from napari_qsm.methods.workspace import Workspace
from napari_qsm.networks import weights
from napari_qsm.networks.editing import CLIP, editable
from napari_qsm.networks.inverter import Inverter
from napari_qsm.networks.weights import Card
from napari_qsm.process import Step
from napari_qsm.solvers.expectations import FreeEnergy, Misfit, Variation
from napari_qsm.training.trainer import CHECKPOINT, LOG

FAMILY = "pdi"
WARM_UP = 10
"""Steps over which the learning rate rises."""

AVERAGE = 0.98
"""Decay of the running average of the weights: a cohort's adaptation is short."""

LIMITS = (
    "Adapted without labels to measured fields: the calibration is the parent's and was not "
    "measured again, and sigma is that of the posterior under MEDI's prior."
)

Load = Callable[[], Acquisition]


@dataclass(frozen=True)
class Plan:
    """What an adaptation is asked for.

    Parameters
    ----------
    parent, key : str
        Of the weights it starts from, and of those it makes.
    steps : int
        In all; every one goes over one whole field.
    rate : float
        Largest learning rate of Adam.
    posterior : Posterior
        Prior and error of the field; what is None is chosen for each field.
    seed : int
        Of the order of the fields.
    """

    parent: str
    key: str
    steps: int = 200
    rate: float = 5e-4
    posterior: Posterior = field(default_factory=Posterior)
    seed: int = 0


def adapt(
    plan: Plan,
    cohort: Mapping[str, Load],
    folder: Path,
    *,
    device: str = "auto",
    resume: bool = False,
    say: Callable[[str], None] = print,
) -> Generator[Step, None, Path]:
    """Adapt weights to a cohort of local fields; write them with their card.

    Parameters
    ----------
    plan : Plan
        What is wanted.
    cohort : mapping of str to callable
        Reads the acquisition of each name.
    folder : Path
        For checkpoint, log, prepared fields and the weights.
    device : str
        As `napari_qsm.devices.choose` reads it.
    resume : bool
        Whether to go on from the checkpoint.
    say : callable
        Told a line now and then.

    Returns
    -------
    Path
        The card's.

    Raises
    ------
    InputError
        If weights, fields or folder cannot be used.
    """
    _check_key(plan.key)
    target = devices.choose(device)
    network, parent = opened(plan.parent, target, FAMILY)
    if not network.design.uncertain:
        raise InputError(
            f"The weights '{plan.parent}' give no standard deviation, which adaptation needs; "
            "choose weights of a network with two decoders."
        )
    if (folder / CHECKPOINT).exists() and not resume:
        raise InputError(f"{folder} holds an adaptation already; resume it or name another folder.")
    fields = yield from _prepared(plan, parent, cohort, network, folder, target, say)
    adapter = Adapter(plan, parent, network, fields, folder, target)
    try:
        yield from adapter.run(say)
    finally:
        adapter.save()
    return adapter.write()


@dataclass(frozen=True)
class Field:
    """A field of the cohort, prepared: its file, and the fingerprint of what was measured."""

    name: str
    path: Path
    fingerprint: str

    def load(self, device: torch.device) -> Problem:
        """Read it."""
        known: list[Any] = [Problem, FreeEnergy, Misfit, Variation, nn.ModuleList, set, torch.Size]
        with torch.serialization.safe_globals(known):
            made: Problem = torch.load(self.path, map_location=device, weights_only=True)
        return made


class Adapter:
    """A network on its way to a cohort.

    Parameters
    ----------
    plan : Plan
        What is wanted.
    parent : Card
        Of the weights it starts from.
    network : Inverter
        With those weights; it is changed.
    fields : list of Field
        The cohort.
    folder : Path
        Of the checkpoint, from which it goes on if there is one, and of what is written.
    device : torch.device
        Where it lives.

    Raises
    ------
    InputError
        If the checkpoint belongs to another plan, parent or cohort, or is damaged.
    """

    def __init__(
        self,
        plan: Plan,
        parent: Card,
        network: Inverter,
        fields: list[Field],
        folder: Path,
        device: torch.device,
    ) -> None:
        self.plan, self.parent, self.network = plan, parent, network
        self.fields, self.folder, self.device = fields, folder, device
        self.average = swa_utils.AveragedModel(
            network, multi_avg_fn=swa_utils.get_ema_multi_avg_fn(AVERAGE)
        )
        self._changed = editable(network)
        self.optimiser = torch.optim.Adam(self._changed, lr=plan.rate)
        self.step, self.seconds = 0, 0.0
        self.history: list[dict[str, Any]] = []
        self.means: dict[str, dict[str, float]] = {}
        self._whole = True
        self._restore()

    @property
    def identity(self) -> str:
        """Digest of what a checkpoint must agree on to be resumed; steps may be added."""
        plan = self.plan
        told = [plan.parent, self.parent.sha256, plan.key, plan.rate, plan.seed]
        told += [plan.posterior.model_dump_json(), *(one.fingerprint for one in self.fields)]
        return hashlib.sha256(repr(told).encode()).hexdigest()[:16]

    def run(self, say: Callable[[str], None]) -> Generator[Step, None, None]:
        """Go on to the last step; the cohort's means are measured before and after."""
        if "before" not in self.means:
            self.means["before"] = yield from self.measure("before")
            say(f"before: {_told(self.means['before'])}")
        saved = time.monotonic()
        while self.step < self.plan.steps:
            turn = self._next()
            figures = self._adapt(turn)
            self.history.append({"step": self.step, "field": turn.name, **_rounded(figures)})
            if time.monotonic() - saved > 60:
                saved = time.monotonic()
                self.save()
            told = f"step {self.step} of {self.plan.steps}, {turn.name}: {_told(figures)}"
            yield Step(0.05 + 0.9 * self.step / self.plan.steps, f"Adapting: {told}")
        self.means["after"] = yield from self.measure("after")
        say(f"after {self.step} steps: {_told(self.means['after'])}")

    @torch.no_grad()
    def measure(self, when: str) -> Generator[Step, None, dict[str, float]]:
        """Return the cohort's mean figures under the averaged weights."""
        network = self.average.module
        assert isinstance(network, Inverter)
        found = []
        for one in self.fields:
            fraction = 0.05 if when == "before" else 0.95
            yield Step(fraction, f"Adapting: measuring {one.name} {when} it")
            found.append(one.load(self.device).loss(network)[1])
        return {name: float(np.mean([one[name] for one in found])) for name in found[0]}

    def _next(self) -> Field:
        """Return whose turn it is: all in a random order, then all in another."""
        turn, place = divmod(self.step, len(self.fields))
        order = np.random.default_rng([self.plan.seed, turn]).permutation(len(self.fields))
        return self.fields[int(order[place])]

    def _adapt(self, turn: Field) -> dict[str, float]:
        began, self._whole = time.monotonic(), False
        rising = min(1.0, (self.step + 1) / WARM_UP)
        falling = 0.5 * (1 + math.cos(math.pi * min(1.0, self.step / self.plan.steps)))
        for group in self.optimiser.param_groups:
            group["lr"] = self.plan.rate * rising * max(falling, 0.05)
        loss, figures, _ = turn.load(self.device).loss(self.network)
        if not bool(torch.isfinite(loss)):
            raise ArithmeticError("The adaptation left the finite numbers; choose a lower rate.")
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self._changed, CLIP)
        self.optimiser.step()
        self.average.update_parameters(self.network)
        self.step += 1
        self.seconds += time.monotonic() - began
        self._whole = True
        return figures

    def save(self) -> None:
        """Write checkpoint and log; each replaces the one before only once it is whole.

        Nothing is written if a step was broken off halfway: the last checkpoint stands then.
        """
        if not self._whole:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        state = {
            "identity": self.identity,
            "step": self.step,
            "seconds": self.seconds,
            "history": self.history,
            "means": self.means,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }
        partial = self.folder / f"{CHECKPOINT}.part"
        torch.save(state, partial)
        partial.replace(self.folder / CHECKPOINT)
        if self.history:
            partial = self.folder / f"{LOG}.part"
            with partial.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, fieldnames=list(self.history[0]))
                writer.writeheader()
                writer.writerows(self.history)
            partial.replace(self.folder / LOG)

    def _restore(self) -> None:
        path = self.folder / CHECKPOINT
        if not path.exists():
            return
        try:
            state: dict[str, Any] = torch.load(path, map_location=self.device, weights_only=True)
            fits = state["identity"] == self.identity
        except Exception:
            raise InputError(f"{path} is damaged; delete it and begin anew.") from None
        if not fits:
            raise InputError(
                f"{path} belongs to another adaptation (its weights, fields or settings differ); "
                "name another folder."
            )
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.seconds = state["step"], state["seconds"]
        self.history, self.means = state["history"], state["means"]

    def write(self) -> Path:
        """Write the averaged weights and their card; return the card's path."""
        parent, plan = self.parent, self.plan
        before, after = (_rounded(self.means[when]) for when in ("before", "after"))
        card = replace(
            parent,
            key=plan.key,
            title=f"{parent.title}, adapted to {len(self.fields)} measured fields without labels",
            training={
                "parent": {"key": parent.key, "sha256": parent.sha256, **parent.training},
                "adaptation": plan.posterior.model_dump(mode="json"),
                "cohort": [one.fingerprint for one in self.fields],
                "steps": self.step,
                "rate": plan.rate,
                "seed": plan.seed,
                "seconds": round(self.seconds),
                "device": devices.describe(self.device),
            },
            metrics={
                **{f"{name}_before": value for name, value in before.items()},
                **{f"{name}_after": value for name, value in after.items()},
            },
            limits=f"{parent.limits} {LIMITS}".strip(),
            licence=f"{parent.licence}; adapted to fields whose terms apply as well".strip("; "),
        )
        return weights.write(card, self.average.module, self.folder)


def _prepared(
    plan: Plan,
    parent: Card,
    cohort: Mapping[str, Load],
    network: Inverter,
    folder: Path,
    device: torch.device,
    say: Callable[[str], None],
) -> Generator[Step, None, list[Field]]:
    """Bring every field to what the network sees, once; they are kept in the folder."""
    store = folder / "fields"
    store.mkdir(parents=True, exist_ok=True)
    fields: list[Field] = []
    for number, (name, load) in enumerate(cohort.items()):
        acquisition = load()
        mark = fingerprint(acquisition[Quantity.LOCAL_FIELD]) + fingerprint(acquisition.mask)
        told = [mark, parent.sha256, plan.posterior.model_dump_json()]
        digest = hashlib.sha256(repr(told).encode()).hexdigest()[:16]
        path = store / f"{digest}.pt"
        if not path.exists():
            yield Step(0.05 * number / len(cohort), f"Adapting: preparing {name}")
            with Workspace(acquisition, device, "Adapting") as space:
                steps = problem(acquisition, space, network, plan.posterior, share=1.0)
                made, _ = yield from _quietly(steps, 0.05 * number / len(cohort))
                notes = (*acquisition.notes, *space.notes)
            say(f"{name}: {' '.join(notes)}")
            partial = path.with_suffix(".part")
            torch.save(made, partial)
            partial.replace(path)
        fields.append(Field(name, path, mark))
    marks = [one.fingerprint for one in fields]
    if len(set(marks)) < len(marks):
        twice = next(one.name for one in fields if marks.count(one.fingerprint) > 1)
        raise InputError(f"The field {twice} is there twice; name every field once.")
    return fields


def _quietly(steps: Generator[Step, None, Any], fraction: float) -> Generator[Step, None, Any]:
    """Pass steps on at one fraction of the whole."""
    return (yield from relayed(steps, lambda step: replace(step, fraction=fraction, preview=None)))


def _check_key(key: str) -> None:
    if not key or not all(c.isalnum() or c in "_-" for c in key):
        raise InputError(
            f"The key '{key}' cannot name weights; use letters, digits, '-' and '_' alone."
        )
    shipped = weights.shipped_folder()
    if shipped is not None and (shipped / f"{key}.json").exists():
        raise InputError(f"'{key}' is the key of shipped weights; choose another one.")


def _told(figures: Mapping[str, float]) -> str:
    return (
        f"ELBO {figures['elbo']:.3f}, residual {figures['residual']:.2f} times the error, sigma "
        f"{1e3 * figures['sigma']:.1f} ppb"
    )


def _rounded(figures: Mapping[str, float]) -> dict[str, float]:
    return {name: float(f"{value:.5g}") for name, value in figures.items()}

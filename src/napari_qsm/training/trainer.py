"""The one loop that trains every network: resumable, averaged, logged, alike on any device."""

from __future__ import annotations

import csv
import math
import os
import pickle
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import swa_utils

from napari_qsm.errors import InputError
from napari_qsm.networks.building import built
from napari_qsm.networks.precision import autocast, chosen
from napari_qsm.training import blocks, losses
from napari_qsm.training.cases import MASK, TRUTH
from napari_qsm.training.physical_blocks import PhysicalBlocks
from napari_qsm.training.recipe import Recipe
from napari_qsm.training.self_supervised import Unlabelled
from napari_qsm.training.separation_cases import Separating
from napari_qsm.training.streams import Steps
from napari_qsm.training.unrolled_cases import Unrolling

WARM_UP = 100
"""Steps over which the learning rate rises."""

SHARES_FACTOR = 10.0
"""On the rate of an `Inverter`'s shares: a few numbers that begin far from where they end."""

EVERY = 250
"""Steps between two validations."""

CHECKPOINT = "checkpoint.pt"
LOG = "log.csv"


@dataclass(frozen=True)
class Progress:
    """One step of training.

    Parameters
    ----------
    step, steps : int
        Done, and in all.
    loss : float
        Of this step's batch.
    figures : mapping of str to float
        Losses by name and, where it was validated, ``nrmse`` (%) and coverage on held-out cases.
    seconds : float
        Spent on steps since training began, over all runs.
    """

    step: int
    steps: int
    loss: float
    figures: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0


class Trainer:
    """A network on its way through a recipe.

    Parameters
    ----------
    recipe : Recipe
        What is trained.
    folder : Path
        Where checkpoint and log lie.
    pools : Path
        Where drawn cases are kept.
    device : torch.device
        Where the network lives.
    start : mapping of str to Tensor, optional
        Weights to start from; tensors of other names or shapes are left as initialised.
    resume : bool
        Whether to go on from the checkpoint in `folder`.

    Raises
    ------
    InputError
        If there is a checkpoint and it is not to be resumed, or it belongs to another recipe.
    """

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        pools: Path,
        device: torch.device,
        *,
        start: dict[str, Tensor] | None = None,
        resume: bool = False,
    ) -> None:
        self.recipe, self.folder, self.pools, self.device = recipe, folder, pools, device
        self.rank = int(os.environ.get("RANK", 0))
        torch.manual_seed(recipe.seed)
        self.network = built(recipe.network.design())
        if start is not None:
            known = self.network.state_dict()
            fitting = {k: v for k, v in start.items() if k in known and known[k].shape == v.shape}
            self.network.load_state_dict(fitting, strict=False)
        self.network.to(device)
        if device.type == "cpu":
            self.network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        wanted = recipe.optimisation
        self.average = swa_utils.AveragedModel(
            self.network, multi_avg_fn=swa_utils.get_ema_multi_avg_fn(wanted.average)
        )
        self.optimiser = torch.optim.AdamW(_groups(self.network), weight_decay=wanted.decay)
        self.dtype = chosen(device, wanted.precision)
        self.step = 0
        self.seconds = 0.0
        self._held_out: list[Tensor] = []
        self._task = _task(recipe, pools)
        self._restore(resume)
        self._running: nn.Module = self.network
        if torch.distributed.is_initialized():
            # Statistics of norms are the first process's; gloo cannot send those of channels_last.
            self._running = nn.parallel.DistributedDataParallel(
                self.network, broadcast_buffers=False
            )

    def run(
        self,
        steps: int | None = None,
        *,
        beside: bool = True,
        stop: Callable[[], bool] = lambda: False,
    ) -> Generator[Progress, None, None]:
        """Train to the end of the recipe, for so many steps, or until stopped; save now and then.

        Parameters
        ----------
        steps : int, optional
            Further ones; the learning rate still falls over the recipe's.
        beside : bool
            Whether cases are drawn in a process of their own.
        stop : callable
            Asked before every step whether to stop there.
        """
        last = self.recipe.optimisation.steps
        until = last if steps is None else min(last, self.step + steps)
        stream = self._stream(beside)
        saved = time.monotonic()
        while self.step < until and not self._together(stop()):
            at = time.monotonic()
            loss, figures = self._train(next(stream))
            self.seconds += time.monotonic() - at
            if self.step % EVERY == 0 or self.step == until:
                figures |= self.validate()
                self._log(loss, figures)
            if time.monotonic() - saved > 300:
                saved = time.monotonic()
                self.save()
            yield Progress(self.step, last, loss, figures, self.seconds)
        self.save()

    def _together(self, wanted: bool) -> bool:
        """Return whether any process wants to stop: if one did alone, the others would wait."""
        if not torch.distributed.is_initialized():
            return wanted
        flag = torch.tensor(float(wanted), device=self.device)
        torch.distributed.all_reduce(flag, op=torch.distributed.ReduceOp.MAX)
        return bool(flag)

    def _rate(self) -> float:
        wanted = self.recipe.optimisation
        rising = min(1.0, (self.step + 1) / WARM_UP)
        falling = 0.5 * (1 + math.cos(math.pi * min(1.0, self.step / wanted.steps)))
        return wanted.rate * rising * max(falling, 0.01)

    def _stream(self, beside: bool) -> Iterator[Any]:
        steps: Steps[Any] = self._task or blocks.Blocks(self.recipe, self.pools)
        return steps.batches(self.step, self.rank, beside=beside)

    def _train(self, batch: Any) -> tuple[float, dict[str, float]]:
        for group in self.optimiser.param_groups:
            group["lr"] = self._rate() * group["factor"]
        self.network.train()
        loss, figures = self._loss(batch)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.optimisation.clip)
        self.optimiser.step()
        self.step += 1
        self.average.update_parameters(self.network)
        return float(loss.detach()), figures

    def _loss(self, batch: Any) -> tuple[Tensor, dict[str, float]]:
        if self._task is not None:
            return self._task.loss(self._running, batch, self.device, self.dtype)
        inputs, truth, weight = self._split(batch)
        with autocast(self.device, self.dtype):
            estimate = self._running(inputs)
        return losses.total(self.recipe.loss, estimate, truth, weight)

    def _split(self, batch: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return inputs, truth, and 1 where a voxel counts, away from the border of its block."""
        batch = batch.to(self.device)
        data = self.recipe.data
        order = [data.channels.index(name) for name in self.recipe.network.channels]
        weight = torch.zeros_like(batch[:, MASK:])
        inner = slice(self.recipe.margin, data.side - self.recipe.margin)
        weight[..., inner, inner, inner] = batch[:, MASK:][..., inner, inner, inner]
        return batch[:, order], batch[:, TRUTH:MASK], weight

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Return figures of the averaged network on held-out blocks, or on held-out fields."""
        self.average.eval()
        if self._task is not None:
            return self._task.validate(self.average, self.device, self.dtype)
        errors: list[Tensor] = []
        scores: list[Tensor] = []
        if not self._held_out:
            self._held_out = list(blocks.held_out(self.recipe, self.pools).split(4))
        for one in self._held_out:
            inputs, truth, weight = self._split(one)
            with autocast(self.device, self.dtype):
                estimate = self.average(inputs)
            difference = (estimate.mean - truth) * weight
            size = (truth * weight).flatten(1).norm(dim=1).clamp(min=1e-3)
            errors.append(difference.flatten(1).norm(dim=1) / size)
            if estimate.sigma is not None:
                scores.append((difference / estimate.sigma)[weight > 0].abs())
        # The mean over blocks: in the sum of all, blocks with a haematoma would be all that counts.
        figures = {"nrmse": 100 * float(torch.cat(errors).mean())}
        if scores:
            score = torch.cat(scores)
            figures |= {
                f"within_{n}_sigma": 100 * float((score < n).float().mean()) for n in (1, 2)
            }
        return figures

    def save(self) -> None:
        """Write the checkpoint; the one before is replaced only once the new one is whole."""
        if self.rank:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        state = {
            "recipe": self.recipe.fingerprint,
            "step": self.step,
            "seconds": self.seconds,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }
        partial = self.folder / f"{CHECKPOINT}.part"
        torch.save(state, partial)
        partial.replace(self.folder / CHECKPOINT)

    def _restore(self, resume: bool) -> None:
        path = self.folder / CHECKPOINT
        if not path.exists():
            return
        if not resume:
            raise InputError(
                f"{self.folder} holds a training already; resume it or name another folder."
            )
        try:
            state: dict[str, Any] = torch.load(path, map_location=self.device, weights_only=True)
        except (RuntimeError, EOFError, pickle.UnpicklingError):
            raise InputError(f"{path} is damaged; delete it and begin anew.") from None
        if state["recipe"] != self.recipe.fingerprint:
            raise InputError(
                f"{path} belongs to another recipe than '{self.recipe.key}'; name another folder."
            )
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.seconds = state["step"], state["seconds"]
        if self.rank == 0:
            _cut_log(self.folder / LOG, self.step)

    def _log(self, loss: float, figures: dict[str, float]) -> None:
        if self.rank:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        row = {"step": self.step, "seconds": round(self.seconds, 1), "loss": loss, **figures}
        path = self.folder / LOG
        new = not path.exists()
        with path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(row))
            if new:
                writer.writeheader()
            writer.writerow({k: f"{v:.5g}" if isinstance(v, float) else v for k, v in row.items()})


def _groups(network: nn.Module) -> list[dict[str, Any]]:
    """Return what is optimised, with the factor on its rate: shares of maps are far from small."""
    shares = [p for name, p in network.named_parameters() if name == "shares"]
    others = [p for name, p in network.named_parameters() if name != "shares"]
    groups = ((others, 1.0), (shares, SHARES_FACTOR))
    return [{"params": part, "factor": factor} for part, factor in groups if part]


def _task(recipe: Recipe, pools: Path) -> Unlabelled | PhysicalBlocks | None:
    """Return what knows its own batches and loss; None for blocks that need no physics."""
    if recipe.learning == "self":
        return Unlabelled(recipe, pools)
    if recipe.learning == "separation":
        return Separating(recipe, pools)
    return Unrolling(recipe, pools) if recipe.network.iterations else None


def _cut_log(path: Path, step: int) -> None:
    """Drop what a log says of steps that its checkpoint does not know and that come once more."""
    if not path.exists():
        return
    head, *rows = path.read_text(encoding="utf-8").splitlines()
    kept = [row for row in rows if int(row.split(",", 1)[0]) <= step]
    path.write_text("\n".join([head, *kept]) + "\n", encoding="utf-8")

"""A training as data: one small file says what is learned, from what, and how long."""

from __future__ import annotations

import hashlib
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from napari_qsm.acquisition import InputError
from napari_qsm.networks.inverter import FIELD, Design
from napari_qsm.networks.separator import INPUTS
from napari_qsm.networks.unet import Architecture, Norm, Upsampling
from napari_qsm.training import self_supervised
from napari_qsm.training.cases import Known
from napari_qsm.training.losses import LOSSES
from napari_qsm.training.population import Population
from napari_qsm.training.separation import Separation
from napari_qsm.training.separation_cases import RATES

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Network(_Part):
    """What is trained.

    Parameters
    ----------
    channels : tuple of str
        What it sees; see `napari_qsm.networks.inverter.Design`.
    uncertain : bool
        Whether it gives a standard deviation.
    widths, convolutions, norm, bias, upsampling
        See `napari_qsm.networks.unet.Architecture`.
    iterations, step, residual
        See `napari_qsm.networks.inverter.Design`; a network with iterations is unrolled around its
        physics, and one that sees relaxation separates sources.
    start : str
        Key of weights whose tensors of the same name and shape it starts from; empty for none.
    """

    channels: tuple[str, ...] = (FIELD, "tikhonov")
    uncertain: bool = False
    widths: Annotated[tuple[Count, ...], Field(min_length=1)] = (16, 32, 64, 128)
    convolutions: Count = 2
    norm: Norm = "none"
    bias: bool = False
    upsampling: Upsampling = "transposed"
    iterations: Annotated[int, Field(ge=0)] = 0
    step: Positive = 0.5
    residual: bool = False
    start: str = ""

    def design(self) -> Design:
        """Return the design of the network."""
        architecture = Architecture(
            widths=self.widths,
            convolutions=self.convolutions,
            norm=self.norm,
            bias=self.bias,
            upsampling=self.upsampling,
        )
        task: Literal["separation", "inversion"] = "separation" if self.separates else "inversion"
        return Design(
            self.channels,
            self.uncertain,
            architecture,
            task,
            self.iterations,
            self.step,
            self.residual,
        )

    @property
    def separates(self) -> bool:
        """Whether it tells two kinds of sources apart."""
        return bool({*RATES} & {*self.channels})


class Data(_Part):
    """What it learns from.

    Parameters
    ----------
    population : Population
        Who is drawn.
    separation : Separation
        Who is drawn instead where sources are to be separated.
    channels : tuple of str
        What is kept of each case: all that the recipes which share a pool need.
    known : {"turns", "all"}
        Whether methods know the magnitude and the noise by turns, or of every case.
    side : int
        Of a block in voxels.
    batch : int
        Blocks in a step.
    cases : int
        How many different cases there are in the end.
    growth : int
        Steps after which a case more is drawn, so that training starts at once.
    """

    population: Population = Population()
    separation: Separation = Separation()
    channels: tuple[str, ...] = (FIELD, "tikhonov", "tv", "medi")
    known: Known = "turns"
    side: Count = 48
    batch: Count = 4
    cases: Count = 240
    growth: Count = 20


class Optimisation(_Part):
    """How it learns.

    Parameters
    ----------
    steps : int
        In all.
    rate : float
        Largest learning rate of AdamW; it rises over the first steps and falls as a cosine.
    decay : float
        Weight decay.
    clip : float
        Largest norm of the gradient.
    average : float
        Decay of the running average of the weights, which is what ships.
    precision : {"auto", "bfloat16", "float32"}
        Of the convolutions.
    """

    steps: Count = 10_000
    rate: Positive = 1e-3
    decay: Annotated[float, Field(ge=0)] = 1e-4
    clip: Positive = 1.0
    average: Annotated[float, Field(ge=0, lt=1)] = 0.999
    precision: Literal["auto", "bfloat16", "float32"] = "auto"


class Recipe(_Part):
    """One training.

    Parameters
    ----------
    key, title : str
        Of the weights that come out of it.
    family : str
        Of the method that uses them; the key by default.
    seed : int
        Of everything random in it.
    learning : {"supervised", "self", "separation"}
        From blocks with a known susceptibility, from the fields of whole heads alone, or from
        blocks whose paramagnetic and diamagnetic sources are known.
    loss : mapping of str to float
        Weights of the losses by name; see `napari_qsm.training.losses.LOSSES`, and for learning
        from fields alone `napari_qsm.training.self_supervised.LOSSES`.
    margin : int
        Voxels at the border of a block that losses leave out: what lies beyond is unknown there.
    network, data, optimisation
        See there.
    """

    key: str
    title: str
    family: str = ""
    seed: int = 0
    learning: Literal["supervised", "self", "separation"] = "supervised"
    loss: dict[str, float] = {"absolute": 1.0}
    margin: int = 4
    network: Network = Network()
    data: Data = Data()
    optimisation: Optimisation = Optimisation()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        """Find out now what would otherwise end the first step."""
        known = self_supervised.LOSSES if self.learning == "self" else tuple(LOSSES)
        for name in self.loss:
            if name not in known:
                raise ValueError(f"there is no loss '{name}'; there are {', '.join(known)}")
        if "superposition" in self.loss and self.network.channels != (FIELD,):
            raise ValueError("the loss 'superposition' needs a network that sees the field alone")
        self._refuse_separation()
        if self.network.uncertain and self.network.iterations:
            raise ValueError("an unrolled network gives no uncertainty")
        if {"likelihood", "spread"} & set(self.loss) and not self.network.uncertain:
            raise ValueError("the losses 'likelihood' and 'spread' need an uncertain network")
        kept = self.data.channels
        for name in self.network.channels:
            if name not in kept:
                raise ValueError(f"the network's channel '{name}' is not in data.channels")
        if not 0 <= 2 * self.margin < self.data.side:
            raise ValueError(f"a margin of {self.margin} leaves nothing of {self.data.side} voxels")
        return self

    def _refuse_separation(self) -> None:
        """Find out what would not do for separating sources."""
        network = self.network
        if network.separates != (self.learning == "separation"):
            raise ValueError(f"learning 'separation' goes with a channel of {' or '.join(RATES)}")
        if not network.separates:
            return
        if len(network.channels) != INPUTS or network.channels[2] != FIELD:
            raise ValueError("a network that separates sees a method's map, relaxation and 'field'")
        if network.uncertain:
            raise ValueError("a network that separates gives no uncertainty")

    @property
    def heads(self) -> Population:
        """Whoever is drawn."""
        separated = self.data.separation.population
        return separated if self.learning == "separation" else self.data.population

    @property
    def fingerprint(self) -> str:
        """Hash of all it states and of the whole population; other new defaults do nothing."""
        text = self.model_dump_json(exclude_defaults=True)
        drawn = self.data.separation if self.learning == "separation" else self.data.population
        text += drawn.model_dump_json()
        return hashlib.sha256(text.encode()).hexdigest()[:16]


RECIPES = Path(__file__).parent / "recipes"


def load_recipe(name: str | Path) -> Recipe:
    """Read a recipe: a TOML file, or the name of a shipped one.

    Raises
    ------
    InputError
        If there is none, or something in it is unknown or out of range.
    """
    path = Path(name)
    if path.suffix != ".toml":
        path = RECIPES / f"{name}.toml"
    if not path.is_file():
        known = ", ".join(shipped())
        raise InputError(f"There is no recipe '{name}'; give a .toml file or one of {known}.")
    try:
        stored: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        return Recipe.model_validate({"key": path.stem, **stored})
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"The recipe {path} is not valid TOML: {error}.") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        text = first["msg"].removeprefix("Value error, ")
        told = f"{place}: {text}" if place else text
        raise InputError(f"The recipe {path} cannot be used: {told}.") from None


def shipped() -> list[str]:
    """Return the names of the shipped recipes."""
    return sorted(path.stem for path in RECIPES.glob("*.toml"))

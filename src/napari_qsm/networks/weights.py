"""Trained weights: a safetensors file and its card, found by key, checked before they are used.

Weights lie in pairs ``<key>.safetensors`` and ``<key>.json`` in the shipped folder
``assets/networks`` or in the user's own (`user_folder`); a pair dropped in there appears in every
list. The card says how the network is built, what it learned from and how well it did.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from platformdirs import user_data_path
from safetensors import SafetensorError
from safetensors.torch import load as parsed
from safetensors.torch import save
from torch import Tensor

from napari_qsm.errors import InputError
from napari_qsm.networks.building import Network, built
from napari_qsm.networks.inverter import Design, Inverter
from napari_qsm.networks.lpcnn import LPCNN
from napari_qsm.networks.separator import Separator, Unrolled
from napari_qsm.resources import asset

FOLDER_VARIABLE = "NAPARI_QSM_NETWORKS"
"""Environment variable that names the user's folder of weights."""


@dataclass(frozen=True)
class Card:
    """What is known of a set of weights.

    Parameters
    ----------
    key, title : str
        Name for machines and for people.
    design : Design
        What the network is built like.
    family : str
        Which method uses it: ``"qsmnet"``, ``"pdi"``, ``"uqsm"``.
    voxel_size : tuple[float, float]
        Smallest and largest side in mm it was trained with.
    anisotropy : float
        Largest ratio of a voxel's sides.
    tilt : float
        Largest angle in degrees between B0 and a voxel axis.
    calibration : float
        T, what the standard deviation is multiplied by so that it covers what it says.
    statistics : mapping of str to [low, high]
        Ranges of the features of inputs seen in training, for the guard.
    training : mapping
        Recipe, fingerprint, seed, steps, seconds, device and what it learned from.
    metrics : mapping
        Figures on data never trained on.
    limits, licence : str
        What it cannot do, and the terms it may be used under.
    sha256 : str
        Of the safetensors file.
    """

    key: str
    title: str
    design: Design
    family: str
    voxel_size: tuple[float, float] = (1.0, 1.8)
    anisotropy: float = 1.4
    tilt: float = 15.0
    calibration: float = 1.0
    statistics: dict[str, list[float]] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    limits: str = ""
    licence: str = ""
    sha256: str = ""

    @staticmethod
    def read(path: Path) -> Card:
        """Read a card.

        Raises
        ------
        InputError
            If it is not a card of this program.
        """
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            stored["design"] = Design.from_dict(stored["design"])
            stored["voxel_size"] = tuple(stored["voxel_size"])
            return Card(**stored)
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(
                f"{path} is not the card of a network ({error}); make one with 'napari-qsm train'."
            ) from None


def shipped_folder() -> Path | None:
    """Return where shipped weights lie, None in an installation without."""
    try:
        return asset("networks")
    except FileNotFoundError:
        return None


def user_folder() -> Path:
    """Return where users put weights of their own; it need not exist."""
    stated = os.environ.get(FOLDER_VARIABLE)
    return Path(stated) if stated else user_data_path("napari-qsm", appauthor=False) / "networks"


def available(family: str = "") -> dict[str, Path]:
    """Return the cards of all weights by key, of one family if stated; the user's own come last.

    A card of the user's with a shipped key takes its place.
    """
    found: dict[str, Path] = {}
    for folder in (shipped_folder(), user_folder()):
        if folder is not None and folder.is_dir():
            found |= {path.stem: path for path in sorted(folder.glob("*.json"))}
    if not family:
        return found
    return {key: path for key, path in found.items() if Card.read(path).family == family}


def find(key: str) -> Card:
    """Return the card of weights.

    Raises
    ------
    InputError
        If there are none of that key; it names those that exist and where to put others.
    """
    known = available()
    if key not in known:
        raise InputError(
            f"There are no weights '{key}'; there are {', '.join(known) or 'none'}, and more can "
            f"be put into {user_folder()}."
        )
    return Card.read(known[key])


def load_network(key: str, device: torch.device | str = "cpu") -> tuple[Inverter, Card]:
    """Return a network with its weights, in evaluation mode, and its card.

    The caller owns it and may change it.

    Raises
    ------
    InputError
        If there are no such weights, the file is not the one its card describes, or the network is
        of another kind.
    """
    network, card = load(key, device)
    if not isinstance(network, Inverter):
        raise _refused(card, network, "invert a field in one pass")
    return network, card


def load_unrolled(key: str, device: torch.device | str = "cpu") -> tuple[LPCNN, Card]:
    """Return a network that inverts a field step by step, as `load_network` does.

    Raises
    ------
    InputError
        As there.
    """
    network, card = load(key, device)
    if not isinstance(network, LPCNN):
        raise _refused(card, network, "invert a field step by step")
    return network, card


def load_separator(
    key: str, device: torch.device | str = "cpu"
) -> tuple[Separator | Unrolled, Card]:
    """Return a network that separates sources, as `load_network` does.

    Raises
    ------
    InputError
        As there.
    """
    network, card = load(key, device)
    if not isinstance(network, Separator | Unrolled):
        raise _refused(card, network, "separate sources")
    return network, card


def load(key: str, device: torch.device | str = "cpu") -> tuple[Network, Card]:
    """Return a network of any kind with its weights, in evaluation mode, and its card.

    Raises
    ------
    InputError
        If there are no such weights, or the file is not the one its card describes.
    """
    card = find(key)
    return _filled(card, available()[key], device), card


def _refused(card: Card, network: Network, wanted: str) -> InputError:
    """Return what is said of weights of another kind."""
    kinds = {Inverter: "inverts a field in one pass", LPCNN: "inverts a field step by step"}
    does = kinds.get(type(network), "separates sources")
    return InputError(
        f"The weights '{card.key}' are of the family '{card.family}', which {does}; choose weights "
        f"that {wanted}."
    )


def _filled(card: Card, place: Path, device: torch.device | str) -> Network:
    """Return the network of the card at a place with the weights beside it, in evaluation mode."""
    path = place.with_suffix(".safetensors")
    tensors = _tensors(path, card.sha256, path.stat().st_mtime_ns if path.exists() else 0)
    network = built(card.design)
    try:
        network.load_state_dict({name: value.float() for name, value in tensors.items()})
    except RuntimeError:
        raise InputError(
            f"The weights {path} do not fit the network their card describes; take card and "
            "weights from the same training."
        ) from None
    return network.eval().to(device)


@lru_cache(maxsize=4)
def _tensors(path: Path, sha256: str, changed: int) -> dict[str, Tensor]:
    del changed  # only part of what is remembered
    try:
        stored = path.read_bytes()
        if hashlib.sha256(stored).hexdigest() != sha256:
            raise InputError(
                f"The weights {path} are not those their card describes (their hash differs); "
                "fetch or train them again."
            )
        tensors: dict[str, Tensor] = parsed(stored)
    except OSError as error:
        raise InputError(f"The weights {path} cannot be read: {error.strerror}.") from None
    except SafetensorError as error:
        raise InputError(f"The weights {path} are damaged: {error}.") from None
    return tensors


def write(card: Card, network: torch.nn.Module, folder: Path) -> Path:
    """Write weights in half precision and their card into a folder; return the card's path."""
    half = {
        name: value.detach().cpu().half().contiguous()
        for name, value in network.state_dict().items()
    }
    stored = save(half)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{card.key}.safetensors").write_bytes(stored)
    told = {**asdict(card), "sha256": hashlib.sha256(stored).hexdigest()}
    path = folder / f"{card.key}.json"
    path.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    return path

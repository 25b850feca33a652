"""``adapt``: trained weights brought to a cohort of local fields without labels."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from napari_qsm.acquisition import Acquisition, InputError
from napari_qsm.cli import options
from napari_qsm.cli.application import INTERRUPTED, app, load_torch
from napari_qsm.cli.console import exhaust, say, tell


@app.command()
def adapt(
    weights: Annotated[str, typer.Argument(help="Key of weights to start from, such as pdi.")],
    fields: Annotated[
        list[Path],
        typer.Argument(
            help="Local fields, or folders with *localfield.nii.gz or *_desc-local_fieldmap.nii.gz "
            "and with masks beside them."
        ),
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Folder for checkpoint, log and weights.")
    ],
    key: Annotated[str, typer.Option("--key", help="What the new weights are called.")],
    device: options.Device = "auto",
    steps: Annotated[
        int, typer.Option("--steps", min=1, help="In all; each goes over one field.")
    ] = 200,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint.")] = False,
    strength: Annotated[
        float | None,
        typer.Option(
            "--lambda",
            min=1e-6,
            max=1e-2,
            help="Of the prior, in ppm mm; chosen for each field if not given.",
        ),
    ] = None,
    error: Annotated[
        float | None,
        typer.Option(
            "--error", min=1e-4, max=0.1, help="Of the fields, in ppm; read off each if not given."
        ),
    ] = None,
    rate: Annotated[
        float, typer.Option("--rate", min=1e-6, max=0.1, help="Largest learning rate.")
    ] = 5e-4,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the order of fields.")] = 0,
    install: Annotated[
        bool, typer.Option("--install", help="Put the weights where the window looks for them.")
    ] = False,
) -> None:
    """Adapt WEIGHTS to local FIELDS without labels (PDI-VI, amortised); write new weights."""
    load_torch()
    from napari_qsm.io.cohort import Member, members
    from napari_qsm.io.together import refuse_unwritable
    from napari_qsm.methods.variational import Posterior
    from napari_qsm.networks.weights import user_folder
    from napari_qsm.training.adaptation import Plan
    from napari_qsm.training.adaptation import adapt as run

    def reading(member: Member) -> Callable[[], Acquisition]:
        def read() -> Acquisition:
            acquisition = member.read()
            tell(acquisition)
            return acquisition

        return read

    home = user_folder()
    if install and not resume and (home / f"{key}.json").exists():
        raise InputError(f"{home} has weights called '{key}' already; choose another key.")
    found = members(fields)
    refuse_unwritable(output)
    say([f"{len(found)} local field{'' if len(found) == 1 else 's'}"])
    cohort = {str(member.field): reading(member) for member in found}
    posterior = Posterior(regularization=strength, error=error)
    plan = Plan(weights, key, steps, rate, posterior, seed)
    running = run(plan, cohort, output, device=device, resume=resume, say=lambda line: say([line]))
    try:
        card = exhaust(running, "Adapting")
    except KeyboardInterrupt:
        say([f"Stopped; the same command with --resume goes on from the checkpoint in {output}."])
        raise SystemExit(INTERRUPTED) from None
    say([str(card)])
    if install:
        home.mkdir(parents=True, exist_ok=True)
        for path in (card.with_suffix(".safetensors"), card):  # the card last: it must find them
            shutil.copy(path, home)
        say([f"'{key}' is among the weights now, in {home}"])
    else:
        say([f"To use them, copy both files of '{key}' to {home}."])

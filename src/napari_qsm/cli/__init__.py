"""The same jobs without a window: ``napari-qsm prepare | run | stage | reconstruct | ...``.

What users did wrong becomes one sentence on stderr and exit status 2; what went wrong here, one
sentence and status 1. Results and notes go to stdout. Everything heavy is imported by the command
that needs it, so ``--help`` answers at once.
"""

from napari_qsm.cli import (  # noqa: F401  # each adds its commands
    adapt,
    chain,
    evaluate,
    field,
    linearity,
    show,
    single,
    sweep,
    train,
)
from napari_qsm.cli.application import app, main

__all__ = ["app", "main"]

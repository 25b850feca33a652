"""The whole chain as data: which stage at which place, which method, and what runs of it.

A `Recipe` is a small TOML file. `plan` says what it means for a measurement before anything runs;
`prepare` brings raw phase to a local field; `reconstruct` goes on to susceptibility. All of it is
composed of the same generators a single stage or method is.
"""

from napari_qsm.pipeline.chain import (
    Planned,
    Prepared,
    plan,
    plan_method,
    prepare,
    reconstruct,
    referenced,
    walk,
)
from napari_qsm.pipeline.recipe import (
    DEFAULT_STAGES,
    GIVEN_MASK,
    METHOD,
    NONE,
    REFERENCE,
    Choice,
    Recipe,
    presets,
    read_preset,
    reference_stage,
)

__all__ = [
    "DEFAULT_STAGES",
    "GIVEN_MASK",
    "METHOD",
    "NONE",
    "REFERENCE",
    "Choice",
    "Planned",
    "Prepared",
    "Recipe",
    "plan",
    "plan_method",
    "prepare",
    "presets",
    "read_preset",
    "reconstruct",
    "reference_stage",
    "referenced",
    "walk",
]

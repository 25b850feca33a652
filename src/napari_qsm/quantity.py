"""The physical quantities of the program, and how each is stored, named and shown."""

from __future__ import annotations

from enum import Enum

import numpy as np

from napari_qsm.errors import InputError


class Quantity(Enum):
    """A physical quantity with everything needed to store, convert and display it.

    Attributes
    ----------
    key : str
        Name in metadata and file names.
    label, symbol, unit : str
        What people read. Fields and susceptibilities are ppm, rates 1/s.
    window : tuple[float, float] or None
        Default display window in `unit`; None means the range of the data.
    colormap : str
        Name of a napari or matplotlib colormap.
    suffix : str
        BIDS-style file suffix.
    """

    def __init__(
        self,
        key: str,
        label: str,
        symbol: str,
        unit: str,
        window: tuple[float, float] | None,
        colormap: str,
        suffix: str,
    ) -> None:
        self.key = key
        self.label = label
        self.symbol = symbol
        self.unit = unit
        self.window = window
        self.colormap = colormap
        self.suffix = suffix

    # fmt: off
    MAGNITUDE = ("magnitude", "magnitude", "|S|", "a.u.", None, "gray", "part-mag_MEGRE")
    PHASE = ("phase", "phase", "φ", "rad", (-np.pi, np.pi), "twilight_shifted", "part-phase_MEGRE")
    OFFSET = ("phase_offset", "phase offset", "φ0", "rad", (-np.pi, np.pi), "twilight_shifted", "desc-offset_phase")
    UNWRAPPED = ("unwrapped", "unwrapped phase", "φ", "rad", (-20.0, 20.0), "gray", "desc-unwrapped_phase")
    QUALITY = ("quality", "phase quality", "q", "", (0.0, 1.0), "viridis", "desc-quality_phase")
    TOTAL_FIELD = ("total_field", "total field", "f", "ppm", (-1.0, 1.0), "gray", "desc-total_fieldmap")
    LOCAL_FIELD = ("local_field", "local field", "f", "ppm", (-0.05, 0.05), "gray", "desc-local_fieldmap")
    FIELD_NOISE = ("field_noise", "field noise", "σf", "ppm", (0.0, 0.02), "viridis", "desc-noise_fieldmap")
    MASK = ("mask", "mask", "m", "", (0.0, 1.0), "gray", "mask")
    LABELS = ("labels", "structures", "", "", None, "gray", "dseg")
    R2STAR = ("r2star", "R2*", "R2*", "1/s", (0.0, 60.0), "magma", "R2starmap")
    R2 = ("r2", "R2", "R2", "1/s", (0.0, 40.0), "magma", "R2map")
    R2PRIME = ("r2prime", "R2'", "R2'", "1/s", (0.0, 30.0), "magma", "R2primemap")
    CHI = ("chi", "susceptibility", "χ", "ppm", (-0.15, 0.15), "gray", "Chimap")
    SIGMA = ("sigma", "uncertainty", "σ", "ppm", (0.0, 0.05), "viridis", "desc-sigma_Chimap")
    CHI_POS = ("chi_pos", "paramagnetic", "χ+", "ppm", (0.0, 0.1), "inferno", "desc-paramagnetic_Chimap")
    CHI_NEG = ("chi_neg", "diamagnetic", "χ-", "ppm", (0.0, 0.1), "bop blue", "desc-diamagnetic_Chimap")
    CHI_POS_ITERATES = ("chi_pos_iterates", "paramagnetic, by iteration", "χ+", "ppm", (0.0, 0.1), "inferno", "desc-paramagneticiterates_Chimap")
    CHI_NEG_ITERATES = ("chi_neg_iterates", "diamagnetic, by iteration", "χ-", "ppm", (0.0, 0.1), "viridis", "desc-diamagneticiterates_Chimap")
    SIGMA_POS = ("sigma_pos", "uncertainty of paramagnetic", "σ+", "ppm", (0.0, 0.05), "viridis", "desc-sigmapos_Chimap")
    SIGMA_NEG = ("sigma_neg", "uncertainty of diamagnetic", "σ-", "ppm", (0.0, 0.05), "viridis", "desc-sigmaneg_Chimap")
    RESIDUAL = ("residual", "residual field", "Dχ-f", "ppm", (-0.02, 0.02), "berlin", "desc-residual_fieldmap")
    RESIDUAL_R2PRIME = ("residual_r2prime", "residual R2'", "ΔR2'", "1/s", (-10.0, 10.0), "berlin", "desc-residual_R2primemap")
    UNRELIABLE = ("unreliable", "unreliable voxels", "", "", (0.0, 1.0), "red", "desc-unreliable_mask")
    ERROR = ("error", "error to reference", "Δχ", "ppm", (-0.1, 0.1), "berlin", "desc-error_Chimap")
    CHI_TENSOR = ("chi_tensor", "susceptibility tensor", "χij", "ppm", (-0.15, 0.15), "gray", "desc-tensor_Chimap")
    MMS = ("mms", "mean susceptibility", "MMS", "ppm", (-0.15, 0.15), "gray", "desc-mean_Chimap")
    MSA = ("msa", "susceptibility anisotropy", "MSA", "ppm", (0.0, 0.05), "magma", "desc-anisotropy_Chimap")
    PEV = ("pev", "principal direction", "v1", "", (-1.0, 1.0), "gray", "desc-direction_Chimap")
    # fmt: on

    @classmethod
    def named(cls, key: str) -> Quantity:
        """Return the quantity whose `key` is `key`, or raise `InputError`."""
        for quantity in cls:
            if quantity.key == key:
                return quantity
        raise InputError(f"'{key}' names no quantity; known are {', '.join(q.key for q in cls)}.")

# %% [markdown]
# # Write the raw digital head as a BIDS folder
#
# Wrapped phase and magnitude of four echoes, as a scanner sends them, with the truth beside them:
# something to try the command line and the window on, and to measure a chain against.

# %%
import json
from pathlib import Path

import nibabel as nib

from napari_qsm.acquisition import Quantity
from napari_qsm.io.nifti import write_maps
from napari_qsm.training.raw_head import sample_raw_head

VOXEL_SIZE = 3.0  # mm; 1.0 for a head of full size, which takes a third of a minute
FOLDER = Path("digital-head")

raw = sample_raw_head("haemorrhage", VOXEL_SIZE)
measured = raw.acquisition

# %% [markdown]
# One image and one sidecar for each part of each echo, named as BIDS wants it.

# %%
anat = FOLDER / "sub-digital" / "anat"
anat.mkdir(parents=True, exist_ok=True)
about = {"Name": "Digital head of napari-qsm", "BIDSVersion": "1.9.0", "DatasetType": "raw"}
(FOLDER / "dataset_description.json").write_text(json.dumps(about, indent=2))

for number, time in enumerate(measured.echo_times, start=1):
    for part, quantity, unit in (
        ("mag", Quantity.MAGNITUDE, "arbitrary"),
        ("phase", Quantity.PHASE, "rad"),
    ):
        name = f"sub-digital_echo-{number}_part-{part}_MEGRE"
        image = nib.Nifti1Image(measured[quantity][..., number - 1], measured.grid.affine)
        image.header.set_xyzt_units("mm", "sec")
        image.set_sform(measured.grid.affine, code=1)
        nib.save(image, anat / f"{name}.nii.gz")
        sidecar = {
            "EchoNumber": number,
            "EchoTime": time,
            "MagneticFieldStrength": measured.field_strength,
            "Units": unit,
        }
        (anat / f"{name}.json").write_text(json.dumps(sidecar, indent=2))

# %% [markdown]
# What a chain should find: susceptibility, total and local field, R2*, phase offset and mask.

# %%
truth = FOLDER / "derivatives" / "truth" / "sub-digital" / "anat"
write_maps(raw.truth, truth, stem="sub-digital", overwrite=True)
print(*sorted(path.relative_to(FOLDER) for path in FOLDER.rglob("*.nii.gz")), sep="\n")

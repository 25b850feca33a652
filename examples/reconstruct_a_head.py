# %% [markdown]
# # Reconstruct the digital head
#
# A method is a generator: it reports while it works and returns the maps at the end. That one
# contract gives progress, previews and cancel to the window, the command line and a script alike.

# %%
from napari_qsm.acquisition import Quantity
from napari_qsm.evaluation.metrics import nrmse
from napari_qsm.methods.registry import methods
from napari_qsm.training.phantom import orientations, sample_head

head = sample_head("haemorrhage", voxel_size=4.0)
turned = orientations(head, [(0.26, 0.0, 0.97), (0.0, 0.26, 0.97)])
truth, mask = head.truth[Quantity.CHI], head.acquisition.mask

# %% [markdown]
# Run every method at its shipped parameters and compare with the truth. COSMOS needs the head in
# several orientations to the main field; all others take one. Methods that separate sources need
# R2' or R2* as well, which were not measured of this head. Networks learned from voxels of 1 to
# 2 mm and would have to interpolate this coarse head; see `benchmarks` for those.

# %%
for key, method in methods().items():
    learned = "frame" in method.parameters.model_fields
    if learned or Quantity.CHI_POS in method.gives:
        continue
    steps = method((turned if method.orientations > 1 else head).acquisition)
    while True:
        try:
            step = next(steps)
        except StopIteration as done:
            maps = done.value
            break
    print(f"{key:10s} {nrmse(maps[Quantity.CHI], truth, mask):5.1f} %  last: {step.message}")

# %% [markdown]
# Every map knows how it was made, well enough to be made again.

# %%
print(maps.provenance)

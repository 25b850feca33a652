# %% [markdown]
# # Add a method of your own
#
# Data plus one function. Registered like this it appears in the window's list with a form made from
# its parameters, and in `napari-qsm methods`.

# %%
from napari_qsm.acquisition import Maps, Quantity
from napari_qsm.methods.registry import Parameters, Step, find, method, parameter
from napari_qsm.training.phantom import sample_head


class Scaled(Parameters):
    """Parameters of the example."""

    factor: float = parameter(3.0, "What the field is multiplied by.", low=0.1, high=10.0)


@method(
    key="scaled",
    label="Scaled field",
    summary="The field times a constant: what a map must beat.",
    parameters=Scaled,
    references=("10.1002/mrm.25358",),
)
def scaled(acquisition, parameters, device):
    """Return factor * f in ppm."""
    yield Step(0.0, "multiplying")
    chi = parameters.factor * acquisition[Quantity.LOCAL_FIELD] * acquisition.mask
    return Maps(acquisition.grid, {Quantity.CHI: chi})


# %%
head = sample_head("healthy", voxel_size=4.0)
steps = find("scaled")(head.acquisition)
print(next(steps).message)

# %% [markdown]
# `unregister` takes it away again.

# %%
from napari_qsm.methods.registry import unregister  # noqa: E402

unregister("scaled")

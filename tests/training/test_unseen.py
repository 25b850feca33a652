"""The head and the population that nothing is trained on."""

import json

import numpy as np
import pytest

from napari_qsm.acquisition import Acquisition, Grid, Quantity
from napari_qsm.resources import asset
from napari_qsm.training.anatomy import ANATOMIES, Anatomy, allen_head, icbm_head
from napari_qsm.training.phantom import digital_head
from napari_qsm.training.population import Case, Population, draw
from napari_qsm.training.tissues import DEEP_GREY, LABEL, TISSUES
from napari_qsm.training.unseen import FINER, FIRST_SEED, UNSEEN, coarser, draw_unseen

COARSE = UNSEEN.model_copy(update={"voxel_size": (2.5, 2.6), "slabs": 0.0})


def middle(anatomy: Anatomy, tissue: str) -> np.ndarray:
    """Mean position in mm of the right half of a tissue."""
    places = np.argwhere(anatomy.labels == LABEL[tissue]) * anatomy.spacing + anatomy.origin
    return places[places[:, 0] > 0].mean(axis=0)


class TestHead:
    """The second anatomy."""

    def test_nuclei_lie_where_those_of_the_other_head_do(self) -> None:
        """Both are in MNI space: a flipped axis or a shift would part them by centimetres."""
        for tissue in set(DEEP_GREY) - {"dentate"}:
            apart = middle(icbm_head(), tissue) - middle(allen_head(), tissue)
            assert np.linalg.norm(apart) < 4, tissue

    def test_it_is_another_head(self) -> None:
        """The nuclei are not copies: at the same places, many voxels of them differ."""
        icbm, allen = icbm_head(), allen_head()
        places = np.argwhere(np.isin(icbm.labels, [LABEL[n] for n in DEEP_GREY]))
        at = np.rint((places * icbm.spacing + icbm.origin - allen.origin) / allen.spacing)
        theirs = allen.labels[tuple(at.astype(int).T)]
        agree = (theirs == icbm.labels[tuple(places.T)]).mean()
        assert 0.4 < agree < 0.85

    @pytest.mark.parametrize(
        ("tissue", "least", "most"),
        [
            ("white matter", 350, 650),
            ("cortex", 500, 1000),
            ("subarachnoid CSF", 100, 400),
            ("ventricle", 10, 60),
            ("cerebellar cortex", 80, 180),
            ("caudate", 5, 14),
            ("putamen", 7, 16),
            ("external pallidum", 1.5, 5),
            ("red nucleus", 0.3, 1.2),
            ("substantia nigra", 0.4, 1.8),
            ("thalamus", 6, 20),
            ("pons", 10, 25),
        ],
    )
    def test_volumes_are_those_of_a_human(self, tissue: str, least: float, most: float) -> None:
        """In millilitres, of both sides."""
        head = icbm_head()
        volume = (head.labels == LABEL[tissue]).sum() * head.spacing**3 / 1000
        assert least < volume < most

    def test_brain_has_no_holes_and_is_covered_by_fluid(self) -> None:
        """Every voxel at the surface is CSF, and every one inside is something."""
        from scipy import ndimage

        labels = icbm_head().labels
        inside = labels > 0
        assert (ndimage.binary_fill_holes(inside) == inside).all()
        surface = inside & ~ndimage.binary_erosion(inside)
        assert (labels[surface] == LABEL["subarachnoid CSF"]).mean() > 0.97

    def test_card_names_what_is_in_it(self) -> None:
        """And what is not, with sources and a licence."""
        about = json.loads(asset("anatomy", "icbm_head.json").read_text(encoding="utf-8"))
        present = {int(n) for n in np.unique(icbm_head().labels)} - {0}
        assert {int(number) for number in about["labels"]} == present
        assert {about["labels"][str(n)] for n in present} <= {t.name for t in TISSUES}
        assert "dentate" in about["absent"]
        assert set(about["labels"].values()).isdisjoint(about["absent"])
        assert len(about["sources"]) == 3
        assert asset("anatomy", "icbm_head.nii.gz").stat().st_size < 1e6

    def test_digital_head_grows_veins_in_it(self) -> None:
        """What was made for the first head works with this one."""
        with_veins = digital_head(3.0, seed=1, lesions=(), anatomy=icbm_head())
        without = digital_head(3.0, seed=1, lesions=(), veins=False, anatomy=icbm_head())
        more = with_veins.chi - without.chi
        assert with_veins.chi[more > 0.05].size > 100
        assert (more[with_veins.mask] != 0).mean() < 0.2


class TestPopulation:
    """Draws of it."""

    def test_same_number_same_case(self) -> None:
        """Bytes and all; another number is another case."""
        first, again, other = draw_unseen(3, COARSE), draw_unseen(3, COARSE), draw_unseen(4, COARSE)
        for quantity, volume in first.acquisition.volumes.items():
            np.testing.assert_array_equal(volume, again.acquisition[quantity])
        np.testing.assert_array_equal(first.chi, again.chi)
        assert first.seed == FIRST_SEED + 3
        assert other.chi.shape != first.chi.shape or (other.chi != first.chi).any()

    def test_nothing_trained_on_is_in_it(self) -> None:
        """Another head, no draw without one, and seeds beyond those of any training."""
        assert UNSEEN.anatomy != Population().anatomy
        assert set(ANATOMIES) == {"allen", "icbm"}
        assert UNSEEN.geometry == 0
        seen = draw(COARSE.model_copy(update={"anatomy": "allen"}), FIRST_SEED)
        unseen = draw(COARSE, FIRST_SEED)
        assert seen.chi.shape != unseen.chi.shape or (seen.chi != unseen.chi).any()

    def test_voxels_are_within_what_networks_learn(self) -> None:
        """The coarse voxels, thick slices too."""
        low, high = (FINER * side for side in UNSEEN.voxel_size)
        learned = Population()
        assert learned.voxel_size[0] <= low < high <= learned.voxel_size[1]
        assert UNSEEN.anisotropy < learned.anisotropy
        assert UNSEEN.tilt < learned.tilt

    def test_case_is_whole(self) -> None:
        """Truth without a mean, all zero outside the mask, noise where there is signal."""
        case = draw_unseen(3, COARSE)
        mask = case.acquisition.mask
        assert abs(case.chi[mask].mean(dtype=np.float64)) < 1e-6
        for volume in (case.chi, case.acquisition[Quantity.LOCAL_FIELD]):
            assert not volume[~mask].any()
        assert (case.acquisition[Quantity.FIELD_NOISE][mask] > 0).all()
        assert not (case.lesions & ~mask).any()


class TestCoarser:
    """Putting voxels together."""

    @staticmethod
    def case(field: np.ndarray, magnitude: np.ndarray, mask: np.ndarray) -> Case:
        """Lay a case out on 1 x 1 x 2 mm, with noise of 0.01 ppm everywhere."""
        grid = Grid(field.shape, np.diag([1.0, 1.0, 2.0, 1.0]), (0.0, 0.6, 0.8))
        volumes = {
            Quantity.LOCAL_FIELD: field.astype(np.float32),
            Quantity.MAGNITUDE: magnitude.astype(np.float32),
            Quantity.MASK: mask,
            Quantity.FIELD_NOISE: np.full(field.shape, 0.01, dtype=np.float32),
        }
        return Case(Acquisition(grid, volumes), field.astype(np.float32), mask & (field > 0), 7)

    def test_field_is_weighted_by_the_signal(self) -> None:
        """Voxels that give no signal say nothing of the field."""
        rng = np.random.default_rng(0)
        field = rng.standard_normal((4, 4, 4))
        magnitude = np.zeros((4, 4, 4))
        magnitude[::2, ::2, ::2] = 1.0
        made = coarser(self.case(field, magnitude, np.ones((4, 4, 4), dtype=bool)))
        np.testing.assert_allclose(
            made.acquisition[Quantity.LOCAL_FIELD], field[::2, ::2, ::2], rtol=1e-6
        )
        np.testing.assert_allclose(made.acquisition[Quantity.FIELD_NOISE], 0.01, rtol=1e-6)

    def test_noise_of_equal_voxels_falls_with_their_number(self) -> None:
        """Eight of them have the square root of an eighth."""
        whole = np.ones((4, 4, 4), dtype=bool)
        made = coarser(self.case(np.zeros((4, 4, 4)), np.full((4, 4, 4), 3.0), whole))
        expected = 0.01 / np.sqrt(8)
        np.testing.assert_allclose(made.acquisition[Quantity.FIELD_NOISE], expected, rtol=1e-6)

    def test_grid_keeps_its_place_and_b0(self) -> None:
        """The first large voxel is centred between the small ones; an odd end is cut off."""
        mask = np.ones((5, 4, 6), dtype=bool)
        grid = coarser(self.case(np.zeros((5, 4, 6)), np.ones((5, 4, 6)), mask)).acquisition.grid
        assert grid.shape == (2, 2, 3)
        np.testing.assert_allclose(grid.voxel_size, (2, 2, 4))
        np.testing.assert_allclose(grid.affine[:3, 3], (0.5, 0.5, 1.0))
        np.testing.assert_allclose(grid.b0_direction, (0.0, 0.6, 0.8))

    def test_partly_filled_voxels_average_what_is_inside(self) -> None:
        """A voxel less than half inside is outside; the others ignore what lies outside."""
        mask = np.ones((4, 2, 2), dtype=bool)
        mask[1] = False
        mask[2:, :, 0] = mask[2, :, 1] = False
        field = np.where(mask, 5.0, -100.0)
        made = coarser(self.case(field, np.ones((4, 2, 2)), mask))
        assert made.acquisition.mask.ravel().tolist() == [True, False]
        assert made.acquisition[Quantity.LOCAL_FIELD].ravel().tolist() == [5.0, 0.0]

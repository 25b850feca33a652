"""Weights adapted to a cohort without labels, from the command line."""

import csv
import json

import numpy as np
import pytest
import torch

from napari_qsm.io.cohort import members
from napari_qsm.networks import weights
from napari_qsm.networks.inverter import Design, Inverter
from napari_qsm.networks.unet import Architecture
from napari_qsm.networks.weights import Card
from napari_qsm.training.phantom import sample_head


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """The user's folder of weights, with tiny ones that start from Tikhonov's map."""
    folder = tmp_path / "networks"
    monkeypatch.setenv(weights.FOLDER_VARIABLE, str(folder))
    for key, uncertain, family in (("tiny", True, "pdi"), ("plain", False, "pdi"),
                                   ("other", True, "qsmnet")):  # fmt: skip
        torch.manual_seed(0)
        design = Design(("field", "tikhonov"), uncertain, Architecture(widths=(4, 8)))
        card = Card(key, "tiny", design, family, calibration=1.3, licence="BSD-3-Clause")
        weights.write(card, Inverter(design), folder)
    return folder


@pytest.fixture(scope="module")
def heads():
    return [sample_head(kind, 8.0) for kind in ("healthy", "haemorrhage")]


@pytest.fixture
def cohort(tmp_path, heads, save_raw):
    """Two heads: one named as 'prepare' does, one by hand and without magnitude."""
    folder = tmp_path / "cohort"
    first, second = (head.acquisition for head in heads)
    names = {q.key: v for q, v in first.volumes.items()}
    begin = folder / "sub-1" / "anat" / "sub-1"
    save_raw(begin.parent / "sub-1_desc-local_fieldmap.nii.gz", names["local_field"])
    save_raw(begin.parent / "sub-1_desc-reliable_mask.nii.gz", first.mask.astype(np.uint8))
    save_raw(begin.parent / "sub-1_desc-brain_mask.nii.gz", np.ones(first.mask.shape, np.uint8))
    save_raw(begin.parent / "sub-1_part-mag_MEGRE.nii.gz", names["magnitude"])
    field = {q.key: v for q, v in second.volumes.items()}["local_field"]
    save_raw(folder / "other_localfield.nii", field)
    save_raw(folder / "other_mask.nii", second.mask.astype(np.uint8))
    return folder


@pytest.fixture
def adapt(run, tmp_path):
    def invoke(*more, key="mine", start="tiny", output="out"):
        where = ("-o", tmp_path / output, "--key", key, "--device", "cpu", "--rate", "5e-3")
        return run("adapt", start, *more, *where)

    return invoke


def log(folder):
    return list(csv.DictReader((folder / "log.csv").read_text().splitlines()))


def test_what_belongs_to_a_field_is_found_by_name(cohort):
    found = {member.field.name: member for member in members([cohort, cohort])}
    assert len(found) == 2
    made = found["sub-1_desc-local_fieldmap.nii.gz"]
    assert made.mask.name == "sub-1_desc-reliable_mask.nii.gz"
    assert made.magnitude.name == "sub-1_part-mag_MEGRE.nii.gz"
    assert made.noise is None
    own = found["other_localfield.nii"]
    assert (own.mask.name, own.magnitude) == ("other_mask.nii", None)
    assert members([cohort / "other_localfield.nii"]) == [own]


def test_adapting_lowers_the_loss_of_two_heads_and_makes_weights(adapt, cohort, home, tmp_path):
    result = adapt(cohort, "--steps", "24", "--install")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "2 local fields" in result.stdout
    assert "There is no magnitude" in result.stdout
    rows = log(tmp_path / "out")
    assert [int(row["step"]) for row in rows] == list(range(1, 25))
    fields = [row["field"] for row in rows]
    assert all(set(fields[n : n + 2]) == set(fields) for n in range(0, 24, 2))  # all take turns
    network, card = weights.load_network("mine")
    assert card.metrics["elbo_after"] > card.metrics["elbo_before"] + 0.2
    assert card.metrics["residual_after"] < card.metrics["residual_before"]
    assert card.family == "pdi"
    assert card.calibration == 1.3
    assert "was not measured again" in card.limits
    assert card.training["parent"]["key"] == "tiny"
    assert card.training["parent"]["sha256"] == weights.find("tiny").sha256
    assert card.training["steps"] == 24
    assert len(set(card.training["cohort"])) == 2
    before = weights.load_network("tiny")[0].state_dict()
    assert any(not torch.equal(v, before[k]) for k, v in network.state_dict().items())
    again = adapt(cohort, "--install", output="elsewhere")
    assert again.exit_code == 2
    assert "already" in again.stderr


def test_it_goes_on_where_it_stopped(adapt, cohort, tmp_path, refused):
    assert adapt(cohort, "--steps", "3").exit_code == 0
    refused(adapt(cohort, "--steps", "5"), "resume")
    result = adapt(cohort, "--steps", "5", "--resume")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "preparing" not in result.stdout
    assert [int(row["step"]) for row in log(tmp_path / "out")] == [1, 2, 3, 4, 5]
    card = json.loads((tmp_path / "out" / "mine.json").read_text())
    assert card["training"]["steps"] == 5
    other = adapt(cohort / "other_localfield.nii", "--steps", "9", "--resume")
    refused(other, "another adaptation")
    (tmp_path / "out" / "checkpoint.pt").write_bytes(b"no checkpoint")
    refused(adapt(cohort, "--steps", "9", "--resume"), "damaged")


def test_stated_numbers_are_taken_and_kept(adapt, cohort, tmp_path):
    result = adapt(cohort, "--steps", "1", "--lambda", "2e-4", "--error", "0.01")
    assert result.exit_code == 0
    assert "lambda =" not in result.stdout
    card = json.loads((tmp_path / "out" / "mine.json").read_text())
    assert card["training"]["adaptation"]["regularization"] == 2e-4
    assert card["training"]["adaptation"]["error"] == 0.01


def test_wrong_input_is_refused_in_one_sentence(adapt, cohort, tmp_path, refused):
    empty = tmp_path / "empty"
    empty.mkdir()
    field = cohort / "other_localfield.nii"
    before = {path for path in tmp_path.rglob("*") if "out" in path.parts}
    refused(adapt(empty), "holds no local field")
    refused(adapt(tmp_path / "nowhere"), "neither a file nor a folder")
    refused(adapt(cohort, start="nowhere"), "no weights 'nowhere'")
    refused(adapt(cohort, start="plain"), "no standard deviation")
    refused(adapt(cohort, start="other"), "family 'qsmnet'")
    refused(adapt(cohort, key="a/b"), "cannot name weights")
    refused(adapt(cohort, "--lambda", "5"), "--lambda")
    copy = cohort / "copy_localfield.nii"
    copy.write_bytes(field.read_bytes())
    (cohort / "copy_mask.nii").write_bytes((cohort / "other_mask.nii").read_bytes())
    refused(adapt(cohort), "is there twice")
    copy.write_bytes(b"no image")
    refused(adapt(cohort), "copy_localfield.nii")
    made = {path for path in tmp_path.rglob("*.json") if "out" in path.parts}
    assert made == before


def test_interrupting_keeps_what_was_reached(adapt, cohort, tmp_path, monkeypatch):
    """Between two steps a checkpoint is written; within one the last checkpoint stands."""
    from napari_qsm.training.adaptation import Adapter

    step, pressed = Adapter._adapt, []

    def interrupted(self, turn):
        if self.step == 2 and not pressed:
            pressed.append(True)
            self._whole = False
            raise KeyboardInterrupt
        self.save()
        return step(self, turn)

    monkeypatch.setattr(Adapter, "_adapt", interrupted)
    result = adapt(cohort, "--steps", "4")
    assert result.exit_code == 130
    assert "--resume goes on" in result.stdout
    assert [int(row["step"]) for row in log(tmp_path / "out")] == [1]
    assert adapt(cohort, "--steps", "4", "--resume").exit_code == 0
    assert [int(row["step"]) for row in log(tmp_path / "out")] == [1, 2, 3, 4]

"""``train`` and ``networks`` on the command line: from a recipe to weights that load."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from napari_qsm.generators import finished
from napari_qsm.networks import weights
from napari_qsm.training import session, trainer
from napari_qsm.training.blocks import HELD_OUT_CASES


@pytest.fixture(autouse=True)
def own(tmp_path, monkeypatch):
    """The user's folder of weights."""
    folder = tmp_path / "own"
    monkeypatch.setenv(weights.FOLDER_VARIABLE, str(folder))
    monkeypatch.setattr(weights, "shipped_folder", lambda: None)
    return folder


@pytest.fixture
def train(run, tmp_path, monkeypatch):
    """Train a tiny recipe; cases are drawn in this process, which starts faster."""
    original = session.train
    monkeypatch.setattr(session, "train", lambda *a, **k: original(*a, **k, beside=False))

    def invoke(made, *more):
        where = ("-o", tmp_path / "out", "--pool", made.pool, "--device", "cpu")
        return run("train", made.path, *where, *more)

    return invoke


def logged(folder):
    return list(csv.DictReader((folder / trainer.LOG).read_text().splitlines()))


def test_fifty_steps_lower_the_loss_and_write_weights_that_load(tiny, train, own, monkeypatch):
    monkeypatch.setattr(trainer, "EVERY", 10)
    made = tiny(loss="absolute = 1.0\nlikelihood = 0.1", network="uncertain = true")
    result = train(made, "--steps", "50")
    assert result.exit_code == 0, result.output
    out = made.path.parent / "out"
    rows = logged(out)
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])

    own.mkdir()
    for name in ("tiny.json", "tiny.safetensors"):
        (out / name).rename(own / name)
    network, card = weights.load_network("tiny")
    assert card.training["steps"] == 50
    assert card.training["fingerprint"] == made.recipe.fingerprint
    assert card.metrics["nrmse"] == pytest.approx(float(rows[-1]["nrmse"]), rel=1e-3)
    population = made.recipe.data.population
    small, large = population.voxel_size
    assert card.voxel_size == pytest.approx((small, large * population.anisotropy))
    assert "synthetic" in card.limits
    with torch.no_grad():
        estimate = network(0.02 * torch.ones(1, 2, 8, 8, 8))
    assert torch.isfinite(estimate.mean).all()
    assert str(out / "tiny.json") in result.stdout
    assert str(own) in result.stdout


def test_a_stopped_training_says_how_to_go_on_and_goes_on(tiny, train):
    made = tiny(steps=8)
    first = train(made, "--steps", "5")
    assert "Stopped after step 5 of 8; the same command with --resume goes on" in first.stdout
    second = train(made, "--resume")
    assert second.exit_code == 0, second.output
    assert "from step 5" in second.stdout
    assert "Stopped" not in second.stdout
    assert [row["step"] for row in logged(made.path.parent / "out")] == ["5", "8"]


def test_a_whole_training_calibrates_sigma_and_describes_its_fields(tiny, train):
    made = tiny(steps=6, network="uncertain = true", loss="normalised = 1.0\nspread = 1.0")
    out = made.path.parent / "out"
    train(made, "--steps", "3")
    early = weights.Card.read(out / "tiny.json")
    assert early.calibration == 1
    assert not early.statistics
    result = train(made, "--resume")
    assert "Looking at whole cases" in result.stdout
    card = weights.Card.read(out / "tiny.json")
    assert card.calibration != 1
    assert card.metrics["held_out_cases"] == HELD_OUT_CASES
    low, high = card.statistics["spread"]
    assert 0 < low <= high


def test_minutes_end_it_too(tiny, train):
    result = train(tiny(), "--minutes", "0")
    assert result.exit_code == 0, result.output
    assert "Stopped after step 0" in result.stdout


def test_a_bar_shows_loss_and_speed(tiny, tmp_path):
    made = tiny(steps=4)
    running = session.train(
        str(made.path), tmp_path / "out", device="cpu", pool=made.pool, beside=False, say=str
    )
    steps = list(running)
    assert steps[0].message == "Drawing the first cases"
    assert [s.fraction for s in steps] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert steps[-1].message.startswith("loss 0.")
    assert steps[-1].message.endswith("steps/s")


def test_the_first_interrupt_ends_it_after_its_step_with_checkpoint_and_weights(
    tiny, train, monkeypatch
):
    learn = trainer.Trainer._train

    def interrupted(self, batch):
        if self.step == 2:
            signal.raise_signal(signal.SIGINT)
        return learn(self, batch)

    monkeypatch.setattr(trainer.Trainer, "_train", interrupted)
    made = tiny()
    before = signal.getsignal(signal.SIGINT)
    result = train(made)
    assert result.exit_code == 130
    assert "Stopped after step 3 of 60; the same command with --resume" in result.stdout
    assert "nothing was written" not in result.output
    assert signal.getsignal(signal.SIGINT) is before
    out = made.path.parent / "out"
    assert weights.Card.read(out / "tiny.json").training["steps"] == 3
    state = torch.load(out / trainer.CHECKPOINT, weights_only=True)
    assert state["step"] == 3


def test_curves_go_to_tensorboard_where_it_is_installed(tiny, tmp_path, monkeypatch):
    written = []

    class Writer:
        def __init__(self, folder):
            assert folder == str(tmp_path / "out")

        def add_scalar(self, key, value, step):
            written.append((key, step))

        def close(self):
            written.append("closed")

    module = type(sys)("torch.utils.tensorboard")
    module.SummaryWriter = Writer
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    made = tiny(steps=2)
    where = {"pool": made.pool, "device": "cpu", "beside": False, "say": str}
    finished(session.train(str(made.path), tmp_path / "out", **where))
    assert written == [("loss", 2), ("absolute", 2), ("nrmse", 2), "closed"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("train", "nothing"), "There is no recipe 'nothing'"),
        (("train", "qsmnet", "--device", "cuda:9"), "device 'cuda:9' is not available"),
        (("train", "qsmnet", "--steps", "0"), "--steps"),
    ],
)
def test_what_cannot_be_trained_is_one_sentence(run, refused, words, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(run(*words), told)
    assert not (tmp_path / "training").exists()


def test_a_second_training_in_one_folder_is_refused(tiny, train, refused):
    made = tiny()
    train(made, "--steps", "1")
    refused(train(made, "--steps", "1"), "holds a training already")


def test_networks_lists_recipes_and_weights(tiny, train, run, own, monkeypatch):
    monkeypatch.setenv("COLUMNS", "220")
    empty = run("networks")
    assert "There are no weights yet." in empty.stdout
    assert str(own) in empty.stdout
    for name in ("qsmnet", "deepqsm", "pdi", "qsmnet_full", "pdi_full"):
        assert name in empty.stdout
    made = tiny()
    train(made, "--steps", "1")
    (made.path.parent / "out").rename(own)
    found = run("networks")
    assert found.exit_code == 0, found.output
    assert "{:g} to {:g}".format(*weights.find("tiny").voxel_size) in found.stdout
    assert "nrmse" in found.stdout
    (own / "tiny.safetensors").unlink()
    assert "missing" in run("networks").stdout


START = Path(sys.executable).with_name("napari-qsm")


def command(made, out, *more):
    words = ("train", made.path, "-o", out, "--pool", made.pool, "--device", "cpu")
    return [str(word) for word in (START, *words, "--threads", "1", *more)]


TOGETHER = """
import sys
from pathlib import Path
from napari_qsm.generators import finished
from napari_qsm.training.session import train

recipe, folder, pool = sys.argv[1:]
finished(train(recipe, Path(folder), device="cpu", pool=Path(pool), threads=1, beside=False))
"""


def test_two_processes_train_one_network_together(tiny, tmp_path):
    """Started as torchrun starts them, without the launcher; they meet over gloo."""
    made, out = tiny(steps=3, network="norm = 'scale'"), tmp_path / "out"
    words = [sys.executable, "-c", TOGETHER, made.path, out, made.pool]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "WORLD_SIZE": "2"}
    running = [
        subprocess.Popen(
            words,
            env=os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        said = [one.communicate(timeout=240) for one in running]
    finally:
        for one in running:
            one.kill()
    assert [one.returncode for one in running] == [0, 0], said
    assert "Weights:" in said[0][0]
    assert said[1][0] == ""
    assert weights.Card.read(out / "tiny.json").training["steps"] == 3
    assert [row["step"] for row in logged(out)] == ["3"]


def free_port():
    import socket

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return str(one.getsockname()[1])


def test_ctrl_c_in_a_terminal_is_clean(tiny, tmp_path):
    """A whole process group gets the signal, the one that draws cases as well."""
    made, out = tiny(steps=100_000), tmp_path / "out"
    log = tmp_path / "stdout"
    with log.open("w") as file:
        process = subprocess.Popen(
            command(made, out),
            stdout=file,
            stderr=subprocess.PIPE,
            start_new_session=True,
            text=True,
        )
        end = time.monotonic() + 200
        while not (out / trainer.LOG).exists() and time.monotonic() < end:
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "goes on from there" in log.read_text()
    assert "Traceback" not in err

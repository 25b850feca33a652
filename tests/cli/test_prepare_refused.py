"""What is wrong is said in one sentence before any work, and nothing is left behind."""

import builtins
import os
import signal

import pytest

from napari_qsm.cli.application import load_torch
from napari_qsm.preparation.registry import Place, stage, unregister
from napari_qsm.process import Parameters, Step


def test_several_measurements_are_listed_to_choose_from(
    typed, refused, source, bids, below, tmp_path
):
    bids("other")
    before = below()
    result = typed("prepare")
    refused(result, "There are 2 measurements; choose one with --select NAME.")
    for name in ("sub-1_acq-other", "sub-1_acq-toy"):
        assert any(line.startswith(f"{name} ") for line in result.stdout.splitlines())
    refused(typed("prepare", "--select", "nothing"), "There is no measurement 'nothing'")
    assert below() == before
    assert typed("prepare", "--select", "sub-1_acq-other").exit_code == 0
    assert all("_acq-other_" in p.name for p in (tmp_path / "out").rglob("*.nii.gz"))


def test_nothing_is_overwritten_and_that_is_said_before_any_work(typed, refused, below, toys):
    assert typed("run").exit_code == 0
    before, begun = below(), list(toys.LOG)
    refused(typed("run"), "exists already")
    refused(typed("prepare", "--dry-run"), "exists already")
    assert below() == before
    assert begun == toys.LOG
    assert typed("run", "--overwrite", "--set", "field.scale=3").exit_code == 0
    assert below() != before


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--set", "scale=2"), "PLACE.PARAM=VALUE"),
        (("--set", "unwrap.scale"), "PLACE.PARAM=VALUE"),
        (("--set", "unwrap.=2"), "PLACE.PARAM=VALUE"),
        (("--set", "skull.scale=2"), "'skull' is no place of the chain"),
        (("--set", "unwrap.scael=2"), "has no parameter 'scael'"),
        (("--set", "unwrap.scale=2000"), "cannot use scale"),
        (("--set", "unwrap.scale=much"), "cannot use scale"),
        (("--set", "unwrap.scale=2", "--set", "unwrap.scale=3"), "twice"),
        (("--set", "method.nothing=2"), "has no parameter 'nothing'"),
        (("--set", "reference.to=csf"), "'none' has no parameter 'to'"),
        (("--stage", "skull=bet"), "'skull' is no place of the chain"),
        (("--stage", "unwrap"), "PLACE=KEY"),
        (("--stage", "unwrap=toy_field"), "twice"),
        (("--method", "nothing"), "There is no method 'nothing'"),
        (("--preset", "absent.toml"), "There is no preset 'absent.toml'"),
        (("--te", "soon"), "--te was given 'soon'"),
        (("--te", "4,8,12"), "seconds"),
        (("--te", "0.004,0.008"), "echo"),
        (("--b0", "3000"), "B0"),
        (("--b0-dir", "0,0"), "--b0-dir"),
        (("--phase-scale", "turns"), "--phase-scale was given 'turns'"),
        (("--device", "tpu"), "device 'tpu'"),
        (("--mask", "absent.nii"), "absent.nii"),
        (("--magnitude", "absent.nii"), "magnitude"),
        (("--stem", "../x"), "no part of a file name"),
        (("--nonsense",), "--nonsense"),
    ],
)
def test_wrong_options_are_one_sentence_and_change_nothing(typed, refused, below, more, words):
    before = below()
    refused(typed("run", *more), words)
    assert below() == before


def test_a_stage_of_another_place_is_refused(typed, refused):
    refused(typed("prepare", unwrap="toy_field"), "'toy_field' does not belong to [unwrap]")


def test_a_wrong_preset_is_named(typed, refused, tmp_path):
    (tmp_path / "mine.toml").write_text("[unwrap]\nuse = 'nothing'\n")
    result = typed("prepare", "--preset", tmp_path / "mine.toml")
    refused(result, "mine.toml: There is no stage 'nothing'")


@pytest.mark.parametrize("inputs", ["absent", "empty"])
def test_a_source_without_measurements_is_refused(typed, refused, below, tmp_path, inputs):
    (tmp_path / "empty").mkdir()
    before = below()
    refused(typed("prepare", inputs=[tmp_path / inputs]))
    assert below() == before


def test_the_input_folder_is_not_written_to(typed, refused, below):
    before = below()
    refused(typed("prepare", output="bids"), "is where the input lies")
    assert below() == before


@pytest.fixture
def breaking():
    """Register a stage that breaks in the middle of its work in the way that is set."""
    errors, closed = [], []

    @stage(
        key="breaking", label="Breaking", summary="Breaks.", place=Place.BACKGROUND, needs=(),
        parameters=Parameters, references=(), gives=(Place.BACKGROUND.gives,),
    )  # fmt: skip
    def run(acquisition, parameters, device):
        try:
            yield Step(0.5, "half way")
            raise errors[0]
        finally:
            closed.append(True)

    yield errors, closed
    unregister("breaking")


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (KeyboardInterrupt(), 130, "Cancelled; nothing was written."),
        (RuntimeError("two\nlines"), 1, "napari-qsm failed (RuntimeError: two lines)"),
        (MemoryError(), 1, "The memory did not suffice"),
    ],
)
def test_a_failure_or_ctrl_c_leaves_nothing(
    typed, tmp_path, below, breaking, monkeypatch, error, status, words
):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", os.fspath(tmp_path / "temporary"))
    monkeypatch.setattr("tempfile.tempdir", None)
    before, (errors, closed) = below(), breaking
    errors.append(error)
    result = typed("prepare", background="breaking")
    assert result.exit_code == status
    assert words in result.stderr
    assert result.stderr.count("\n") == 1
    assert closed == [True]
    assert below() == before


def test_ctrl_c_waits_for_the_import_of_torch(monkeypatch):
    importing, done = builtins.__import__, []

    def interrupted(name, *more):
        if name == "torch":
            signal.raise_signal(signal.SIGINT)
            done.append(True)
        return importing(name, *more)

    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(builtins, "__import__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load_torch()
    assert done == [True]
    assert signal.getsignal(signal.SIGINT) is before

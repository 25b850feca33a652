"""What a result is exported as makes the result again: scripts and commands that really run."""

import runpy
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from napari_qsm import pipeline
from napari_qsm.acquisition import InputError, Maps, Provenance, Quantity, Volume
from napari_qsm.cli import app
from napari_qsm.generators import finished
from napari_qsm.io.importer import Corrections, open_source
from napari_qsm.io.nifti import read_volume, write_volume
from napari_qsm.methods.registry import find
from napari_qsm.physics.units import FieldUnit
from napari_qsm.pipeline import Choice, Recipe
from napari_qsm.preparation.assemble import assemble
from napari_qsm.preparation.orientations import Orientation, with_orientations
from napari_qsm.preparation.registry import find as find_stage
from napari_qsm.training.phantom import orientations, sample_head
from napari_qsm.training.raw_head import sample_raw_head
from napari_qsm.workbench.report import as_command, as_python, methods_paragraph

HEAD = sample_head("haemorrhage", 5.0)
FIELD, MASK, MAGNITUDE = Quantity.LOCAL_FIELD, Quantity.MASK, Quantity.MAGNITUDE


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Function that writes the head's volumes into an empty folder and returns their paths."""
    monkeypatch.chdir(tmp_path)

    def write(acquisition=HEAD.acquisition, factor=1.0, unit="ppm", name=""):
        paths = {}
        for quantity in (FIELD, MASK, MAGNITUDE):
            data = acquisition[quantity] * (factor if quantity is FIELD else 1)
            paths[quantity] = tmp_path / f"{name}{quantity.key} of me.nii.gz"
            stated = {"Units": unit} if quantity is FIELD and unit else {}
            write_volume(paths[quantity], data, acquisition.grid, stated)
        return paths

    return write


def repeated(maps):
    """Run the script and the commands of a result; return the susceptibility of both."""
    Path("again.py").write_text(as_python(maps))
    runpy.run_path("again.py")
    script = read_volume("results/again_Chimap.nii.gz").data
    for line in as_command(maps, "typed").splitlines():
        if not line.startswith("#"):
            program, *words = shlex.split(line)
            assert program == "napari-qsm"
            result = CliRunner().invoke(app, words)
            assert result.exit_code == 0, (line, result.stderr)
    last = "again-referenced" if "--stem again-referenced" in as_command(maps, "typed") else "again"
    return script, read_volume(f"typed/{last}_Chimap.nii.gz").data


def given(paths, **stated):
    """Assemble an acquisition from files as a user's choices do."""
    field, mask, magnitude = (read_volume(paths[q]) for q in (FIELD, MASK, MAGNITUDE))
    constants = {"field_strength": 3.0, "echo_time": 0.02}
    return assemble(field, mask, magnitude, **(constants | stated))


SETTINGS = {
    "tv": {},
    "tkd": {"threshold": 0.17, "variant": "zeroed"},
    "tv+two_pass": {"strong": 0.25},
    "ndi": {"step": 0.5},
}


@pytest.mark.parametrize("key", SETTINGS)
def test_script_and_command_make_the_same_map_bit_by_bit(files, key, capsys):
    method = find(key)
    maps = finished(method(given(files()), method.with_settings(SETTINGS[key])))
    script, typed = repeated(maps)
    assert np.array_equal(script, maps[Quantity.CHI])
    assert np.array_equal(typed, maps[Quantity.CHI])
    for name in maps.provenance.chosen:
        assert f"--set {name}=" in as_command(maps)
    assert "will differ" not in capsys.readouterr().out


def test_what_was_chosen_from_the_data_is_stated(files):
    maps = finished(find("tv")(given(files())))
    chosen = maps.provenance.chosen["regularization"]
    assert f"'regularization': {chosen!r}" in as_python(maps)
    assert f"--set regularization={chosen!r}" in as_command(maps)


@pytest.mark.parametrize("stated", [True, False], ids=["by the user", "by the file"])
def test_units_and_b0_go_along_whoever_stated_them(files, stated):
    hertz = 42.577 * 3
    paths = files(factor=hertz, unit="" if stated else "Hz")
    more = {"unit": FieldUnit.HZ, "b0_direction": (0.0, 0.3, 1.0)} if stated else {}
    maps = finished(find("tkd")(given(paths, **more)))
    script, typed = repeated(maps)
    assert np.allclose(script, maps[Quantity.CHI], atol=1e-6)
    assert np.allclose(typed, maps[Quantity.CHI], atol=1e-6)
    assert ("--b0-dir" in as_command(maps)) == stated


def test_several_orientations_go_along(files):
    first = orientations(HEAD, [(0.3, 0.0, 1.0), (0.0, -0.4, 1.0)]).acquisition
    turned = []
    for number, other in enumerate(first.others):
        paths = files(replace(other, others=()), name=f"{number} ")
        turned.append(Orientation(read_volume(paths[FIELD]), other.grid.b0_direction))
    maps = finished(find("cosmos")(with_orientations(given(files()), turned)))
    script, typed = repeated(maps)
    assert as_command(maps).count("--also") == 2
    assert np.allclose(script, maps[Quantity.CHI], atol=1e-6)
    assert np.allclose(typed, maps[Quantity.CHI], atol=1e-6)


def test_a_mask_that_was_derived_is_derived_again(files):
    paths = files()
    acquisition = assemble(read_volume(paths[FIELD]))
    maps = finished(find("tkd")(acquisition))
    script, typed = repeated(maps)
    assert "--mask" not in as_command(maps)
    assert np.array_equal(script, maps[Quantity.CHI])
    assert np.array_equal(typed, maps[Quantity.CHI])


def test_a_reference_that_was_asked_for_is_given_again(files, tmp_path):
    labels = (HEAD.truth[Quantity.LABELS] == 1).astype(np.uint8)
    acquisition = given(files())
    maps = finished(find("tkd")(acquisition))
    beside = acquisition.with_volumes({Quantity.LABELS: labels})
    choice = Choice("reference", {"to": "roi"})
    zeroed = finished(pipeline.referenced(maps, beside, choice))
    write_volume(tmp_path / "labels.nii.gz", labels, acquisition.grid)
    script, typed = repeated(zeroed)
    assert "labels.nii.gz stands for" in as_python(zeroed)
    assert not np.array_equal(maps[Quantity.CHI], zeroed[Quantity.CHI])
    assert np.array_equal(script, zeroed[Quantity.CHI])
    assert np.allclose(typed, zeroed[Quantity.CHI], atol=1e-6)
    assert "10.1002/mrm.26946" in methods_paragraph(zeroed)


def test_what_was_no_file_is_named_and_can_be_saved(files, tmp_path):
    paths = files()
    mask = Volume(read_volume(paths[MASK]).data, HEAD.acquisition.grid, source="my brush")
    maps = finished(find("tkd")(assemble(read_volume(paths[FIELD]), mask)))
    sentence = "# 'my brush' was a layer and no file; save it as mask.nii.gz first."
    assert sentence in as_python(maps)
    assert sentence in as_command(maps)
    write_volume(tmp_path / "mask.nii.gz", mask.data, mask.grid)
    script, typed = repeated(maps)
    assert np.array_equal(script, maps[Quantity.CHI])
    assert np.array_equal(typed, maps[Quantity.CHI])


def test_another_input_is_noticed(files, capsys):
    paths = files()
    maps = finished(find("tkd")(given(paths)))
    write_volume(paths[FIELD], 2 * HEAD.acquisition[FIELD], HEAD.acquisition.grid, overwrite=True)
    repeated(maps)
    assert "not those of the result" in capsys.readouterr().out


# -- prepared from what was measured ------------------------------------------------------------


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Phase, magnitude and mask of a small raw head as 4D files without sidecars."""
    head, folder = sample_raw_head("healthy", 5.0), tmp_path_factory.mktemp("raw")
    volumes = {**head.acquisition.volumes, MASK: head.truth[MASK]}
    paths = {q: folder / f"{q.key}.nii.gz" for q in (Quantity.PHASE, MAGNITUDE, MASK)}
    for quantity, path in paths.items():
        write_volume(path, volumes[quantity], head.acquisition.grid)
    return paths, head.acquisition


RECIPE = (
    Recipe()
    .stating("mask", "given")
    .stating("unwrap", "laplacian")
    .stating("relaxation", "none")
    .stating("background", "vsharp")
    .stating("method", "tv", {"max_iterations": 15})
)


@pytest.fixture(scope="module")
def prepared(measured):
    paths, head = measured
    opening = open_source([paths[Quantity.PHASE]], magnitude=[paths[MAGNITUDE]], mask=paths[MASK])
    corrections = Corrections(echo_times=head.echo_times, field_strength=3.0)
    with finished(opening) as source:
        acquisition = source.load(source.measurements[0], corrections)
    return finished(pipeline.prepare(acquisition, RECIPE)).acquisition


def test_a_whole_chain_is_repeated_from_the_raw_files(prepared, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    maps = finished(pipeline.reconstruct(prepared, RECIPE))
    assert maps.provenance.chosen
    script, typed = repeated(maps)
    assert as_command(maps).startswith("napari-qsm run ")
    assert np.array_equal(script, maps[Quantity.CHI])
    assert np.array_equal(typed, maps[Quantity.CHI])


def test_a_prepared_field_that_was_handed_over_is_repeated_in_two_steps(
    prepared, tmp_path, monkeypatch
):
    """As the window does it where its row says none: the method does not see the field's noise."""
    monkeypatch.chdir(tmp_path)
    volumes = {
        q: Volume(prepared[q], prepared.grid, q.unit or None, 3.0, prepared.echo_times)
        for q in (FIELD, MASK, MAGNITUDE)
    }
    field = replace(volumes[FIELD], history=prepared.history, notes=prepared.notes)
    maps = finished(find("tv")(assemble(field, volumes[MASK], volumes[MAGNITUDE])))
    assert Quantity.FIELD_NOISE.key not in maps.provenance.inputs
    script, typed = repeated(maps)
    lines = as_command(maps).splitlines()
    assert [line.split()[1] for line in lines] == ["prepare", "reconstruct"]
    assert np.array_equal(script, maps[Quantity.CHI])
    assert np.array_equal(typed, maps[Quantity.CHI])


def test_a_noise_map_from_a_file_goes_along(files, tmp_path):
    paths, path = files(), tmp_path / "noise of me.nii.gz"
    noise = np.where(HEAD.acquisition.mask, 0.001 + np.abs(HEAD.acquisition[FIELD]) / 10, 0)
    write_volume(path, noise.astype(np.float32), HEAD.acquisition.grid, {"Units": "ppm"})
    field, mask = (read_volume(paths[q]) for q in (FIELD, MASK))
    maps = finished(find("tv")(assemble(field, mask, noise=read_volume(path))))
    assert f"--noise '{path}'" in as_command(maps)
    script, typed = repeated(maps)
    assert np.array_equal(script, maps[Quantity.CHI])
    assert np.array_equal(typed, maps[Quantity.CHI])


def test_a_noise_map_chosen_in_place_of_the_chains_is_repeated(prepared, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "mine.nii.gz"
    mine = (prepared[Quantity.FIELD_NOISE] * (1 + prepared[MASK][::-1])).astype(np.float32)
    write_volume(path, mine, prepared.grid, {"Units": "ppm"})
    field, mask, magnitude = (
        Volume(prepared[q], prepared.grid, q.unit or None, 3.0, prepared.echo_times, source)
        for q, source in ((FIELD, "V-SHARP"), (MASK, "V-SHARP"), (MAGNITUDE, ""))
    )
    field = replace(field, history=prepared.history, notes=prepared.notes)
    maps = finished(find("tv")(assemble(field, mask, magnitude, read_volume(path))))
    assert f"--noise {path}" in as_command(maps)
    script, typed = repeated(maps)
    assert np.array_equal(script, maps[Quantity.CHI])
    assert np.array_equal(typed, maps[Quantity.CHI])


def test_a_file_for_each_echo_goes_along(measured, tmp_path, monkeypatch):
    """Files are named one by one; what ``reconstruct`` cannot take is said instead of left out."""
    monkeypatch.chdir(tmp_path)
    _, head = measured
    names = {Quantity.PHASE: [], MAGNITUDE: []}
    for quantity, paths in names.items():
        for echo in range(len(head.echo_times)):
            path = tmp_path / f"{quantity.key}_{echo + 1}.nii.gz"
            paths.append(write_volume(path, head[quantity][..., echo], head.grid))
    opening = open_source(names[Quantity.PHASE], magnitude=names[MAGNITUDE])
    stated = Corrections(echo_times=head.echo_times, field_strength=3.0, flip_phase=True)
    with finished(opening) as source:
        acquisition = source.load(source.measurements[0], stated)
    recipe = RECIPE.stating("mask", "threshold").stating("method", "tkd")
    prepared = finished(pipeline.prepare(acquisition, recipe)).acquisition
    maps = finished(pipeline.reconstruct(prepared, recipe))
    script, typed = repeated(maps)
    assert "--flip-phase" in as_command(maps)
    assert np.array_equal(script, maps[Quantity.CHI])
    assert np.array_equal(typed, maps[Quantity.CHI])
    less = {q: prepared[q] for q in (FIELD, MASK, MAGNITUDE)}
    weighted = finished(find("tv")(replace(prepared, volumes=less)))
    assert "may differ a little" in as_command(weighted)


def test_dicom_is_named_by_its_folder_and_measurement(prepared, tmp_path):
    maps = finished(pipeline.reconstruct(prepared, RECIPE.stating("method", "tkd")))
    folder = tmp_path / "study (1)"
    folder.mkdir()
    sources = dict.fromkeys(("phase", "magnitude"), f"{folder} (GRE (2))")
    history = tuple(replace(one, sources=sources) for one in maps.provenance.history)
    made = replace(maps, provenance=replace(maps.provenance, history=history))
    words = shlex.split(as_command(made).splitlines()[-1])
    assert words[2] == str(folder)
    assert words[words.index("--select") + 1] == "GRE (2)"
    assert "--magnitude" not in words
    assert "if m.name == 'GRE (2)'" in as_python(made)
    compile(as_python(made), "again.py", "exec")


def test_the_paragraph_tells_every_stage_with_its_citation(prepared):
    maps = finished(pipeline.reconstruct(prepared, RECIPE))
    text, references = methods_paragraph(maps).split("\n\n")
    for one in maps.provenance.history:
        stage = find_stage(one.method)
        assert stage.label in text or one.method == "given"
        assert all(f"https://doi.org/{doi}" in references for doi in stage.references)
    for doi in find("tv").references:
        assert f"https://doi.org/{doi}" in references
    for words in (
        "4 echo times of",
        "3 T",
        "A mask that was drawn beforehand",
        f"λ = {maps.provenance.chosen['regularization']:.4g} ppm mm",
        "max iterations = 15",
        "was weighted by one over its noise variance",
        "was referenced to its mean in the mask",
        f"NumPy {np.__version__}",
    ):
        assert words in text, words
    numbers = [line.partition(" ")[0] for line in references.splitlines()]
    assert numbers == [f"[{k}]" for k in range(1, len(numbers) + 1)]


def test_the_paragraph_of_a_field_from_a_file_claims_no_preparation(files):
    text = methods_paragraph(finished(find("tkd")(given(files()))))
    assert "removed beforehand" in text
    assert "unwrapped" not in text
    assert "an echo time of 20 ms" in text


def test_a_map_that_no_method_made_is_refused_in_a_sentence():
    for made in (Provenance(), HEAD.truth.provenance):
        maps = Maps(HEAD.acquisition.grid, {Quantity.CHI: HEAD.truth[Quantity.CHI]}, made)
        for export in (as_python, as_command, methods_paragraph):
            with pytest.raises(InputError):
                export(maps)

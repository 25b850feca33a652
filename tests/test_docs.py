"""The documentation says what the code does."""

import re
import runpy
from pathlib import Path

import pytest

from napari_qsm import listing
from napari_qsm.training import phantom

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def test_the_readme_lists_the_methods_there_are():
    readme = (ROOT / "README.md").read_text()
    table = re.search(r"<!-- methods:.*?-->\n(.*?)<!-- end of methods -->", readme, re.DOTALL)
    assert table is not None
    assert table[1].strip() == listing.markdown().strip()


def test_the_docs_list_the_stages_there_are():
    document = (ROOT / "docs/preparation.md").read_text()
    table = re.search(r"<!-- stages:.*?-->\n(.*?)<!-- end of stages -->", document, re.DOTALL)
    assert table is not None
    assert table[1].strip() == listing.stage_markdown().strip()


@pytest.mark.parametrize("document", sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]))
def test_every_relative_link_and_picture_exists(document):
    for target in re.findall(r"\]\(([^)#]+)", document.read_text()):
        if not target.startswith(("http", "mailto")):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda p: p.stem)
def test_examples_run(example, monkeypatch, tmp_path):
    """On coarser heads than they state: what they do is the same, and nobody looks at the maps."""
    finer = phantom.sample_head
    monkeypatch.setattr(phantom, "sample_head", lambda case, voxel_size: finer(case, 6.0))
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(example), run_name="__main__")

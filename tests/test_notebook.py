"""docs/own_folder.ipynb: it runs from top to bottom, and its model names drawn faces; its stored outputs are small."""

import json
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.conftest import ROOT

NOTEBOOK = ROOT / "docs" / "own_folder.ipynb"
# Settings that a test has time for.
SMALLER = {"IMAGE_SIZE = 64": "IMAGE_SIZE = 32", "EPOCHS = 40": "EPOCHS = 20"}
# Appended, to see what the notebook found.
FOUND = """
import json
print(json.dumps({"results": results, "named": named, "threshold": recognizer.bundle.calibration.threshold}))
"""
MAX_BYTES = 250_000


@pytest.fixture
def notebook() -> nbformat.NotebookNode:
    return nbformat.read(NOTEBOOK, as_version=4)


def test_stored_outputs_are_of_one_run_and_small(notebook):
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    assert any("image/jpeg" in output.get("data", {}) for output in code[-1].outputs)
    assert NOTEBOOK.stat().st_size < MAX_BYTES


@pytest.mark.slow
def test_notebook_trains_on_drawn_faces_and_names_new_ones(notebook, tmp_path, monkeypatch):
    settings = next(cell for cell in notebook.cells if cell.cell_type == "code")
    for setting, smaller in SMALLER.items():
        assert settings.source.count(setting) == 1, setting
        settings.source = settings.source.replace(setting, smaller)
    notebook.cells.append(nbformat.v4.new_code_cell(FOUND))
    # IPython and Jupyter write to the home folder.
    monkeypatch.setenv("HOME", str(tmp_path))
    NotebookClient(notebook, timeout=1800, resources={"metadata": {"path": str(tmp_path)}}).execute()
    found = json.loads("".join(output.text for output in notebook.cells[-1].outputs if output.name == "stdout"))
    # Chance is 1/12.
    assert found["results"]["best"]["top1_accuracy"] > 0.5 and found["results"]["best"]["examples"] == 12 * 15
    answers = {Path(row["path"]).stem.removesuffix("_1000"): row for row in found["named"]}
    characters = sorted(path.name for path in (tmp_path / "characters").iterdir())
    assert len(characters) == 12 and len(answers) == 16 and set(characters) < set(answers)
    assert sum(answers[name]["predictions"][0]["class"] == name for name in characters) >= 8
    for row in answers.values():
        best = row["predictions"][0]
        is_unknown = best["probability"] < found["threshold"]
        assert row["answer"] == ("unknown" if is_unknown else best["class"])
    assert (tmp_path / "mine.msgpack").exists()
    (figure,) = [output for output in notebook.cells[-3].outputs if "data" in output]
    assert figure.data["image/jpeg"]

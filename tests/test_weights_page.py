"""docs/weights.md and the table "Start from" of docs/models.md."""

import re
import shutil
from pathlib import Path

import animesion_jax
from animesion_jax.configs import dafre_128
from animesion_jax.paper import DAFRE_128, SHORT_NAMES
from animesion_jax.pretrained.sources import NAMED
from benchmarks.models import print_sources, read_results
from tests.conftest import ROOT
from tfds_builders.toyfaces.draw import write_new_faces

TEXT = (ROOT / "docs" / "weights.md").read_text(encoding="utf-8")


def test_names_of_the_page_start_a_training():
    names = re.findall(r"`(\w+,pretrained(?:=\w+)?)`", TEXT)
    assert len(names) > 5
    assert all(dafre_128.get_config(name).pretrained for name in names)


def test_table_of_the_models_page_is_what_the_benchmark_prints(capsys):
    print_sources(read_results())
    printed = capsys.readouterr().out
    assert printed in (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^\| `\w+` \| \**`([^`]+)`", printed, re.MULTILINE)) == sorted(NAMED)
    assert "— | — |" not in printed  # every model is measured


def test_papers_figures_are_those_of_its_table():
    pattern = r"^\| (ViT|ResNet)-(\S+) \| (\S+) \| 128 \| (\S+) \| (\S+) \| (?:\[arXiv|the same)"
    rows = re.findall(pattern, TEXT, re.MULTILINE)
    models = {short: model for model, short in SHORT_NAMES.items()}
    assert len(rows) == 4
    for family, size, start, *percents in rows:
        model = models[size.replace("/", "-") if family == "ViT" else f"R-{size}"]
        assert tuple(map(float, percents)) == DAFRE_128.rows[(model, start != "random")]


def test_block_takes_the_images_with_an_id_modulo_1000_of_950_or_more(bundle_path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    faces = write_new_faces(Path("drawn"), per_class=1)[:5]
    shutil.copy(bundle_path, "wd_b16.msgpack")
    ids = [answer[0]["class_id"] for answer in animesion_jax.load("wd_b16.msgpack").predict(faces, top_k=1)]
    # Two of three unseen images are right; those of the training and of neither set are wrong.
    ids[1:] = [ids[1], ids[2] + 1, ids[3] + 1, ids[4] + 1]
    lines = []
    for face, folder, class_id in zip(faces, ("0950", "0999", "0973", "0899", "0949"), ids, strict=True):
        path = Path("MANUAL/faces", folder, f"12{folder[1:]}.jpg")
        path.parent.mkdir(parents=True)
        shutil.copy(face, path)
        lines.append(f"{class_id},{folder}/{path.name}\n")
    Path("MANUAL/labels").mkdir()
    Path("MANUAL/labels/test.csv").write_text("".join(lines), encoding="utf-8")
    (block,) = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    exec(compile(block, "weights.md", "exec"), {})
    assert capsys.readouterr().out == "66.67% of 3 images that the tagger was not trained on\n"

"""The model card of bundles that lack something, or whose names are markup."""

import jax
import numpy as np
import pytest
import yaml
from markdown_it import MarkdownIt

from animesion_jax.bundle import build_bundle
from animesion_jax.errors import escape
from animesion_jax.export.model_card import MAX_NAMES, write_card
from animesion_jax.models import abstract_variables, create_model
from animesion_jax.pretrained.published import NAMED
from tests.hostile_seeds import CALIBRATION, CROPS, bundle_tree


def _card(tree):
    """Returns (metadata, text) of the card of a tree."""
    _, header, text = write_card(build_bundle("a bundle", tree), "hf://me/toy@v1", "unknown").split("---\n", 2)
    return yaml.safe_load(header), text


def test_card_of_a_bundle_without_a_run_has_no_metrics_and_no_recipe():
    data, text = _card(bundle_tree() | {"training": {}})
    assert not {"model-index", "metrics", "datasets"} & set(data) and data["license"] == "unknown"
    assert "# toy\n" in text and 'load("hf://me/toy@v1")' in text and "it names every image" in text
    assert not any(word in text for word in ("## Metrics", "recipe", "seed", "is_unknown", "random weights"))


def test_card_names_the_enrolled_characters_and_the_origin():
    enrolled = {"names": ["mio"], "embeddings": np.eye(1, 512, dtype=np.float32), "counts": [2]}
    origin = {"address": "hf://them/toy", "file": "b.msgpack", "revision": "0" * 40, "sha256": "f" * 64}
    _, text = _card(bundle_tree() | {"calibration": CALIBRATION, "enrolled": enrolled, "origin": origin})
    assert "yui, あかり, mio." in text and "with their number of images: mio (2)" in text and "is_unknown" in text
    assert f"address `hf://them/toy`, file `b.msgpack`, revision `{'0' * 40}`, sha256 `{'f' * 64}`" in text


def test_card_shows_the_warning_of_the_weights_whole():
    note = NAMED["wd_vit_b16"].note
    _, text = _card(bundle_tree() | {"training": {"pretrained": {"address": "wd_vit_b16", "note": f"{note} <b>|"}}})
    assert f"`wd_vit_b16`, {note} _b__ |" in text


@pytest.mark.parametrize(("detector", "argument"), [("heads.xml", "DETECTOR"), ("hf://them/heads/m.onnx", "auto")])
def test_card_shows_how_heads_are_cut_out_of_whole_pictures(detector, argument):
    assert "Whole pictures" not in _card(bundle_tree())[1]
    _, text = _card(bundle_tree() | {"crops": CROPS | {"detector": detector}})
    assert f"\nanimesion predict --bundle=hf://me/toy@v1 --detector={argument} picture.jpg\n" in text
    assert f"| detector | `{detector}` |\n| its SHA-256 | `{'0' * 64}` |\n" in text
    assert "| scale | 1.5 times" in text and "| shift | 0.25 heights" in text and "white square |" in text


NAMES = [
    "<script>x</script>",
    "a|b",
    "[x](http://y)",
    "![x](y)",
    "**b** _c_",
    "a\n# b",
    "`c`",
    "```",
    "&lt;",
    "$x$",
    "\\*",
]


def _named(name):
    tree = bundle_tree()
    tree["classes"][0] = tree["training"]["dataset"] = name
    tree["crops"] = CROPS | {"detector": name.replace("/", "")}
    tree["training"] |= {"images": {name: 3}, "config": {"dataset": name}, "metrics": {"top1_accuracy": 0.5}}
    return tree


@pytest.mark.parametrize("name", NAMES)
def test_names_of_characters_are_text_and_not_markup(name):
    """The peer is a parser of CommonMark."""
    data, text = _card(_named(name))
    parser = MarkdownIt("commonmark").enable("table")
    blocks, plain = parser.parse(text), parser.parse(_card(_named("plain"))[1])
    assert [each.type for each in blocks] == [each.type for each in plain]
    for block, other in zip(blocks, plain, strict=True):
        kinds = {child.type for child in block.children or ()} - {"text_special"}
        assert kinds == {child.type for child in other.children or ()}, block.content
    shown = ["".join(child.content for child in each.children) for each in blocks if each.type == "inline"]
    assert f"{escape(name)}, あかり." in shown
    assert data["model-index"][0]["results"][0]["dataset"]["name"] == name


def test_card_lists_the_first_characters_of_many():
    tree = bundle_tree()
    names = [f"name{number}" for number in range(MAX_NAMES + 7)]
    tree["classes"], tree["model"]["num_classes"] = names, len(names)
    model = create_model(**tree["model"])
    tree["variables"] = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), abstract_variables(model, 16))
    _, text = _card(tree)
    assert f"name{MAX_NAMES - 1} and 7 more, which the bundle lists." in text and f"name{MAX_NAMES}" not in text

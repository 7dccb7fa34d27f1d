"""The description of a run in its workdir."""

import json

import pytest

from animesion_jax.config import default_config
from animesion_jax.errors import InputError
from animesion_jax.workdir.run import read_config, save_description


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"stages": []}, r"config\.stages is \(\); allowed: one stage or more"),
        ({"mean": [1, 2]}, r"config\.mean is \(1, 2\); allowed: three numbers"),
        ({"model": None}, r"config\.model is None; allowed: a value of type str"),
        ({"model": "resnet19"}, r"unknown model 'resnet19'; allowed: shallownet, "),
    ],
)
def test_read_config_names_the_file_and_the_invalid_field(change, words, tmp_path):
    save_description(str(tmp_path), default_config(), ["a", "b"])
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(InputError, match=rf"config\.json: {words}"):
        read_config(str(tmp_path))

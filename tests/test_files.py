import pytest
from etils import epath

from animesion_jax.files import replacing


@pytest.mark.parametrize("before", [None, "old"])
def test_replacing_keeps_the_old_file_until_the_new_one_is_complete(tmp_path, before):
    path = epath.Path(tmp_path) / "results.json"
    if before:
        path.write_text(before)
    with pytest.raises(OSError), replacing(path) as fresh:
        fresh.write_text("half")
        raise OSError("no space left")
    assert [file.read_text() for file in tmp_path.iterdir()] == [before] * bool(before)
    with replacing(path) as fresh:
        fresh.write_text("whole")
        assert path.exists() == bool(before)
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("results.json", "whole")]

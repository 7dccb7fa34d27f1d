"""A small bundle and an image for the server."""

import pytest

from tests.serve.running import write_bundle, write_face


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("bundle") / "b.msgpack")


@pytest.fixture(scope="module")
def face(tmp_path_factory):
    return write_face(tmp_path_factory.mktemp("face") / "face.png")

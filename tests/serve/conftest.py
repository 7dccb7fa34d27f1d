"""Small bundles, an image, and a picture of several heads for the server."""

import pytest

from tests.serve.pictures import write_detector, write_knowing_bundle, write_scene
from tests.serve.running import write_bundle, write_face


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("bundle") / "b.msgpack")


@pytest.fixture(scope="module")
def face(tmp_path_factory):
    return write_face(tmp_path_factory.mktemp("face") / "face.png")


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return write_scene(tmp_path_factory.mktemp("scene") / "scene.png")


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    return write_detector(tmp_path_factory.mktemp("detector") / "blobs.onnx")


@pytest.fixture(scope="module")
def knowing(detector, scene, tmp_path_factory):
    """A bundle that knows two of the scene's three heads."""
    return write_knowing_bundle(tmp_path_factory.mktemp("knowing") / "b.msgpack", detector, scene)

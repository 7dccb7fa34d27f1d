import os
import struct
import tracemalloc
import zipfile

import pytest
from PIL import Image

from tfds_builders.common.image_files import broken_images
from tfds_builders.moeimouto.face_files import MAX_BYTES, ZIPS, find_faces

FACE = "000_miku/face_1_2_3.png"


def _zip(folder, members, method=zipfile.ZIP_DEFLATED, name=ZIPS[0]):
    """Writes a zip of (name, bytes) pairs."""
    with zipfile.ZipFile(folder / name, "w", method) as archive:
        for member, content in members:
            archive.writestr(zipfile.ZipInfo(member) if member.endswith("/") else member, content)
    return folder / name


def _fault(folder):
    faces = find_faces(folder)
    return broken_images([faces.find(path) for path in faces.paths], "PNG").get(0)


@pytest.fixture
def png(tmp_path):
    Image.effect_noise((64, 64), 50).convert("RGB").save(tmp_path / "face.png")
    return (tmp_path / "face.png").read_bytes()


@pytest.mark.parametrize(("depth", "name"), list(enumerate(ZIPS)))
def test_zip_may_nest_faces_below_folders_of_the_trees_name(tmp_path, png, depth, name):
    above = depth * "moeimouto-faces/"
    others = ("000_miku/color.csv", "000_miku/._face.png", "danbooru-images/0000/1.png", "__MACOSX/000_miku/a.png")
    members = [(f"{above}000_miku/", b""), (above + FACE, png), *((other, b"") for other in others)]
    _zip(tmp_path, members, name=name)
    faces = find_faces(tmp_path)
    assert faces.paths == [FACE]
    assert faces.find(FACE).read_bytes() == png and _fault(tmp_path) is None


def test_unpacked_tree_may_lie_in_a_folder_of_its_name(tmp_path, png):
    path = tmp_path / "moeimouto-faces" / "moeimouto-faces" / FACE
    path.parent.mkdir(parents=True)
    path.write_bytes(png)
    faces = find_faces(tmp_path)
    assert faces.paths == [FACE] and faces.find(FACE) == path and _fault(tmp_path) is None


def test_paths_are_sorted_by_folder_then_file(tmp_path, png):
    names = ["015_c/b.png", "015_c/a.png", "015_c.c/a.png"]
    _zip(tmp_path, [(name, png) for name in names])
    zipped = find_faces(tmp_path).paths
    for name in names:
        (tmp_path / "moeimouto-faces" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "moeimouto-faces" / name).write_bytes(png)
    assert zipped == find_faces(tmp_path).paths == ["015_c/a.png", "015_c/b.png", "015_c.c/a.png"]


@pytest.mark.parametrize("name", ["../000_miku/a.png", "/000_miku/a.png", "000_miku/../../a.png", "C:/000_miku/a.png"])
def test_zip_with_unsafe_member_name_is_refused(tmp_path, png, name):
    path = _zip(tmp_path, [(FACE, png), (name, png)])
    with pytest.raises(ValueError, match=r"the path leaves the folder") as error:
        find_faces(tmp_path)
    assert str(error.value).startswith(f"{path}: {name!r}: ")


def test_zip_with_repeated_face_is_refused(tmp_path, png):
    path = _zip(tmp_path, [(FACE, png), (f"moeimouto-faces/{FACE}", png)])
    with pytest.raises(ValueError, match=f"^{path} holds '{FACE}' twice"):
        find_faces(tmp_path)


def test_truncated_zip_is_refused(tmp_path, png):
    path = _zip(tmp_path, [(FACE, png)])
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ValueError, match=rf"^{path} is not a complete zip file: .*; download it again$"):
        find_faces(tmp_path)


def test_zip_without_faces_is_refused(tmp_path):
    path = _zip(tmp_path, [("000_miku/color.csv", b"0,0,0")])
    with pytest.raises(ValueError, match=f"^{path} holds no NNN_name/FILE.png; expected"):
        find_faces(tmp_path)


def _set_unpacked_size(path, size):
    """Changes the unpacked size in the central directory of a zip with one member."""
    content = bytearray(path.read_bytes())
    entry = content.index(b"PK\x01\x02")
    struct.pack_into("<I", content, entry + 24, size)
    path.write_bytes(content)


def test_member_larger_than_its_header_is_read_in_part_and_broken(tmp_path):
    path = _zip(tmp_path, [(FACE, bytes(4 * MAX_BYTES))])
    assert path.stat().st_size < MAX_BYTES // 100
    _set_unpacked_size(path, 1000)
    tracemalloc.start()
    try:
        fault = _fault(tmp_path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert fault.startswith("broken: damaged in the zip: Bad CRC-32") and peak < MAX_BYTES // 4


def test_member_above_16_mib_is_not_unpacked(tmp_path, png):
    _zip(tmp_path, [(FACE, png + bytes(MAX_BYTES))])
    assert _fault(tmp_path) == f"broken: {len(png) + MAX_BYTES} bytes; allowed: {MAX_BYTES}"


def test_member_compressed_by_another_method_is_broken(tmp_path, png):
    _zip(tmp_path, [(FACE, png)], zipfile.ZIP_BZIP2)
    assert _fault(tmp_path) == f"broken: compressed by method {zipfile.ZIP_BZIP2}; zip it again with deflate"


@pytest.mark.parametrize(
    ("start", "fault"), [(b"PK\x01\x02", "File .* is encrypted"), (None, "Bad CRC-32|Error -3 while decompressing")]
)
def test_encrypted_and_damaged_members_are_broken(tmp_path, png, start, fault):
    path = _zip(tmp_path, [(FACE, png)])
    content = bytearray(path.read_bytes())
    if start:
        for signature, offset in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
            content[content.index(signature) + offset] |= 1
    else:
        content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(OSError, match=f"^damaged in the zip: .*({fault})"):
        find_faces(tmp_path).find(FACE).read_bytes()
    assert _fault(tmp_path).startswith("broken: damaged in the zip: ")


def test_zipped_symbolic_link_is_not_followed(tmp_path, png):
    (tmp_path / "secret.png").write_bytes(png)
    link = zipfile.ZipInfo(FACE)
    link.create_system, link.external_attr = 3, 0o120777 << 16
    with zipfile.ZipFile(tmp_path / ZIPS[0], "w") as archive:
        archive.writestr(link, os.fspath(tmp_path / "secret.png"))
    assert _fault(tmp_path) == "not PNG"

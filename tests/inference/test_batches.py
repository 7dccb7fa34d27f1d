"""Batches of crops of several files: the same outputs as file by file, bounded files ahead."""

import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from animesion_jax.errors import InputError
from animesion_jax.inference import batches
from animesion_jax.inference.batches import Cut, apply_to_crops, apply_to_files

SIZE = 4


def _crops(file):
    """Returns as many crops as the first part of the name says, each filled with another value."""
    count, first = (int(part) for part in file.stem.split("_"))
    return [np.full((SIZE, SIZE, 3), (first + number) % 251, np.uint8) for number in range(count)]


def _files(counts):
    return [Path(f"{count}_{place}.png") for place, count in enumerate(counts)]


class _Sums:
    """Sums the pixels of each crop; records the batches."""

    def __init__(self):
        self.batches = []

    def __call__(self, images):
        self.batches.append(images.copy())
        return images.sum((1, 2, 3), dtype=np.int64)


def _cut(file):
    return Cut(_crops(file), f"about {file}")


@pytest.mark.parametrize("batch_size", [1, 3, 8, 1000])
@pytest.mark.parametrize(
    "counts",
    [[], [0], [0, 0, 0], [1], [7], [3, 0, 0, 5, 1, 0], [500, 1, 0, 500], [0] * 50 + [1], [1] + [0] * 50, [2, 2, 2, 2]],
)
def test_outputs_are_those_of_each_file_alone(counts, batch_size):
    files, sums = _files(counts), _Sums()
    results = list(apply_to_crops(sums, files, _cut, SIZE, batch_size, 4))
    assert [(file, about) for file, about, _ in results] == [(file, f"about {file}") for file in files]
    for file, _, outputs in results:
        assert outputs == [crop.sum(dtype=np.int64) for crop in _crops(file)]
    assert all(images.shape == (batch_size, SIZE, SIZE, 3) for images in sums.batches)


def test_crops_of_several_files_share_batches_and_zeros_fill_up_the_last_one():
    sums = _Sums()
    list(apply_to_crops(sums, _files([3, 2, 0, 1, 4]), _cut, SIZE, 4, 2))
    values = [images[:, 0, 0, 0].tolist() for images in sums.batches]
    assert values == [[0, 1, 2, 1], [2, 3, 4, 5], [6, 7, 0, 0]]


def test_without_padding_the_last_batch_is_smaller():
    sums, files = _Sums(), _files([3, 2, 0, 1, 3])
    results = list(apply_to_crops(sums, files, _cut, SIZE, 4, 2, pad=False))
    assert [len(images) for images in sums.batches] == [4, 4, 1]
    assert results == list(apply_to_crops(_Sums(), files, _cut, SIZE, 4, 2))


def test_a_batch_is_not_changed_after_the_call():
    """The function may read it later: JAX's calls are asynchronous."""
    kept = []

    def keep(images):
        kept.append(images)
        return images.sum((1, 2, 3), dtype=np.int64)

    list(apply_to_crops(keep, _files([5, 4, 3]), _cut, SIZE, 2, 4))
    assert [images[:, 0, 0, 0].tolist() for images in kept] == [[0, 1], [2, 3], [4, 1], [2, 3], [4, 2], [3, 4]]


def test_files_without_crops_are_not_kept_waiting_without_end():
    """One crop waits for a full batch of 2; of a thousand files without crops, only a bounded number wait behind it."""
    read = []

    def cut(file):
        read.append(file)
        return _cut(file)

    results = apply_to_crops(_Sums(), _files([1] + [0] * 1000), cut, SIZE, 2, 3)
    assert next(results)[0].stem == "1_0"
    assert len(read) <= batches.BATCHES_WAITING * 2 + 1 + 3
    assert len(list(results)) == 1000


def _recorded(seconds):
    """Returns a `cut` that takes some time, and the list of the files that it was called with."""
    read, lock = [], threading.Lock()

    def cut(file):
        with lock:
            read.append(file)
        time.sleep(seconds)
        return _cut(file)

    return cut, read


def test_at_most_so_many_files_are_read_ahead():
    cut, read = _recorded(0)
    results = apply_to_crops(_Sums(), _files([1] * 200), cut, SIZE, 1, 5)
    for taken in range(1, 20):
        next(results)
        time.sleep(0.005)  # lets the threads read as far as they may
        # The outputs of a batch arrive after the next one has started: one file more than the caller has seen.
        assert len(read) <= taken + 1 + 5
    assert len(list(results)) == 200 - 19


def test_no_file_is_read_after_the_caller_stops():
    """Only those that the threads have begun are read to their end."""
    cut, read = _recorded(0.02)
    before = threading.active_count()
    results = apply_to_crops(_Sums(), _files([1] * 200), cut, SIZE, 1, 200)
    next(results)
    results.close()
    stopped, deadline = len(read), time.monotonic() + 30
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before and len(read) <= stopped + os.cpu_count() < 200


def test_an_error_of_the_cut_reaches_the_caller():
    def cut(file):
        if file.stem == "1_2":
            raise RuntimeError("a fault")
        return _cut(file)

    results = apply_to_crops(_Sums(), _files([1, 1, 1, 1]), cut, SIZE, 1, 2)
    with pytest.raises(RuntimeError, match="a fault"):
        list(results)


def test_whole_files_keep_their_order_and_their_errors(tmp_path):
    values = [40, None, 90, 200, None]
    files = [tmp_path / f"{number}.png" for number in range(len(values))]
    for file, value in zip(files, values, strict=True):
        if value is None:
            file.write_bytes(b"no image")
        else:
            Image.new("RGB", (9, 7), (value, value, value)).save(file)
    results = list(apply_to_files(lambda images: images.mean((1, 2, 3))[:, None], files, SIZE, "squash", 2))
    assert [file for file, _ in results] == files
    for value, (_, output) in zip(values, results, strict=True):
        if value is None:
            assert isinstance(output, InputError) and "not a readable image" in str(output)
        else:
            assert output == [value]

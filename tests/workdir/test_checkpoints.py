"""Checkpoints of small made-up arrays: which ones stay, and how damaged ones are handled."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from animesion_jax.errors import InputError
from animesion_jax.workdir.checkpoints import DAMAGED_FOLDER, FOLDER, Checkpoints, latest_step

DEVICES = jax.devices()[:1]


def _items(step, width=1000):
    """Returns items whose numbers are in [step, step + 1), halved in the optimizer state."""
    values = jax.random.uniform(jax.random.key(step), (width,)) + step
    return {
        "weights": {"params": {"head": {"kernel": values, "bias": values[:3]}}},
        "rest": {"step": jnp.int32(step), "opt_state": ({"head": {"kernel": values / 2, "bias": values[:3] / 2}}, ())},
    }


def _like(step):
    return jax.eval_shape(lambda: _items(step))


def _saved(workdir, scores, **options):
    """Saves a checkpoint per step, and a validation row if its score is not None."""
    workdir.mkdir(exist_ok=True)
    checkpoints = Checkpoints(str(workdir), **options)
    rows = []
    for step, score in scores.items():
        checkpoints.save(step, _items(step), {"totals": {"loss": 0.1 + 0.2 * step}, "streamed": False})
        if score is not None:
            checkpoints.score(step, step / 2, {"top1_accuracy": score})
            rows.append({"step": step, "epoch": step / 2, "split": "validation", "top1_accuracy": score})
            (workdir / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    checkpoints.close()
    return workdir


def _restore_newest(workdir):
    checkpoints = Checkpoints(str(workdir))
    restored = checkpoints.restore_newest(_like, DEVICES)
    left = checkpoints.steps()
    checkpoints.close()
    return restored, left


def _assert_equal(items, expected):
    jax.tree.map(np.testing.assert_array_equal, items, expected)


def test_checkpoints_keep_the_last_and_the_best_across_restarts(tmp_path):
    workdir = _saved(tmp_path / "run", {1: 0.5, 2: 0.7, 3: 0.7, 4: None, 5: 0.1, 6: None})
    checkpoints = Checkpoints(str(workdir), read_only=True)
    assert checkpoints.steps() == [3, 5, 6]
    assert (checkpoints.step_of("best"), checkpoints.step_of("last")) == (3, 6)
    with pytest.raises(InputError, match="unknown weights 'first'; allowed: best, last"):
        checkpoints.step_of("first")
    _saved(workdir, {7: 0.6, 8: None})
    assert Checkpoints(str(workdir), read_only=True).steps() == [3, 7, 8]
    _saved(workdir, {9: 0.8, 10: None, 11: None})
    assert Checkpoints(str(workdir), read_only=True).steps() == [9, 10, 11]


def test_restore_forgets_scores_of_later_steps(tmp_path):
    """The run was killed after the validation row of step 4 and before its checkpoint was complete."""
    workdir = _saved(tmp_path / "run", {1: 0.8, 2: None, 3: None})
    with (workdir / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 4, "epoch": 2, "split": "validation", "top1_accuracy": 0.9}) + "\n")
    checkpoints = Checkpoints(str(workdir))
    checkpoints.restore_newest(_like, DEVICES)
    checkpoints.save(4, _items(4), {"streamed": False})
    checkpoints.score(4, 2, {"top1_accuracy": 0.7})
    checkpoints.close()
    assert Checkpoints(str(workdir), read_only=True).steps() == [1, 3, 4]


def test_best_is_from_the_last_stage_once_it_has_started(tmp_path):
    first = {2: 0.5, 4: 0.9, 6: 0.8}
    workdir = _saved(tmp_path / "run", first | {8: 0.6, 10: 0.7, 12: 0.4, 14: 0.3}, last_stage_epoch=3)
    checkpoints = Checkpoints(str(workdir), read_only=True, last_stage_epoch=3)
    assert checkpoints.steps() == [10, 12, 14]
    assert checkpoints.step_of("best") == 10
    begun = _saved(tmp_path / "begun", first | {7: None}, last_stage_epoch=3)
    assert Checkpoints(str(begun), read_only=True, last_stage_epoch=3).steps() == [4, 6, 7]


def test_best_without_scores_is_the_last(tmp_path):
    workdir = _saved(tmp_path / "run", {1: None, 2: None, 3: None}, keep_last=1)
    checkpoints = Checkpoints(str(workdir), read_only=True)
    assert checkpoints.steps() == [3]
    assert checkpoints.step_of("best") == checkpoints.step_of("last") == latest_step(str(workdir)) == 3


def test_restore_newest_returns_the_saved_arrays_and_progress(tmp_path):
    restored, _ = _restore_newest(_saved(tmp_path / "run", {1: None, 2: None}))
    assert restored.step == 2
    assert restored.progress == {"totals": {"loss": 0.1 + 0.2 * 2}, "streamed": False}
    _assert_equal(restored.items, _items(2))


@pytest.fixture(scope="module")
def two_checkpoints(tmp_path_factory):
    return _saved(tmp_path_factory.mktemp("whole") / "run", {1: None, 2: None})


# Orbax reads both items in parallel and never retrieves the second error.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("damage", ["removed", "emptied", "cut", "overwritten"])
def test_damaged_newest_checkpoint_falls_back_to_the_one_before(damage, two_checkpoints, tmp_path, caplog):
    """Damages each file of the newest checkpoint in turn: restoring returns one of the two checkpoints, unaltered."""
    newest = two_checkpoints / FOLDER / "2"
    files = sorted(path.relative_to(newest) for path in newest.rglob("*") if path.is_file())
    fell_back = set()
    for number, name in enumerate(files):
        workdir = shutil.copytree(two_checkpoints, tmp_path / str(number))
        file = workdir / FOLDER / "2" / name
        content = file.read_bytes()
        if damage == "removed":
            file.unlink()
        else:
            left = {"emptied": b"", "cut": content[: len(content) // 2], "overwritten": b"\0" * len(content)}
            file.write_bytes(left[damage])
        caplog.clear()
        restored, left = _restore_newest(workdir)
        _assert_equal(restored.items, _items(restored.step))
        if restored.step == 1:
            fell_back.add(name.parts[-1])
            assert left == [1]
            if (workdir / DAMAGED_FOLDER).exists():
                assert "checkpoint 2 is damaged" in caplog.text and "taking 1" in caplog.text
                assert (workdir / DAMAGED_FOLDER / "2").is_dir()
        else:
            assert (restored.step, left) == (2, [1, 2])
            assert restored.progress["totals"] == {"loss": 0.5}
    assert {"_CHECKPOINT_METADATA", "manifest.ocdbt", "_METADATA"} <= fell_back


def test_all_checkpoints_damaged_moves_none(two_checkpoints, tmp_path):
    workdir = shutil.copytree(two_checkpoints, tmp_path / "run")
    for step in ("1", "2"):
        (workdir / FOLDER / step / "rest" / "manifest.ocdbt").unlink()
    with pytest.raises(InputError, match=r"every checkpoint of .*run is damaged \(2, 1: .*restore a copy or"):
        _restore_newest(workdir)
    assert latest_step(str(workdir)) == 2
    checkpoints = Checkpoints(str(workdir), read_only=True)
    with pytest.raises(InputError, match=r"checkpoint 2 of .* is damaged .*start the training again"):
        checkpoints.restore(2, _like(2))


def test_checkpoint_of_another_model_is_not_damaged(two_checkpoints, tmp_path):
    workdir = shutil.copytree(two_checkpoints, tmp_path / "run")
    checkpoints = Checkpoints(str(workdir))
    with pytest.raises(InputError, match=r"another model or optimizer: params/head/kernel is \(1000,\) there, \(9,\)"):
        checkpoints.restore_newest(lambda step: _items(step, width=9), DEVICES)
    without_momentum = _items(0) | {"rest": {"step": jnp.int32(0), "opt_state": ((), ())}}
    with pytest.raises(InputError, match=r"opt_state/0/head/bias is \(3,\) there, absent by the config"):
        checkpoints.restore_newest(lambda _: without_momentum, DEVICES)
    checkpoints.close()
    assert not (workdir / DAMAGED_FOLDER).exists()


@pytest.mark.parametrize("damage", ["removed", "junk"])
def test_restore_reads_the_weights_alone(damage, two_checkpoints, tmp_path):
    workdir = shutil.copytree(two_checkpoints, tmp_path / "run")
    rest = workdir / FOLDER / "2" / "rest"
    if damage == "removed":
        shutil.rmtree(rest)
    else:
        for file in [path for path in rest.rglob("*") if path.is_file()]:
            file.write_bytes(b"\xff junk")
    checkpoints = Checkpoints(str(workdir), read_only=True)
    weights = checkpoints.restore(2, {"weights": _like(2)["weights"]})
    _assert_equal(weights, {"weights": _items(2)["weights"]})


@pytest.mark.parametrize("item", ["weights", "rest"])
@pytest.mark.parametrize("content", [None, b"\xff\xfe junk", b"{}", b"null"])
def test_item_without_readable_metadata_falls_back_to_the_checkpoint_before(item, content, two_checkpoints, tmp_path):
    workdir = shutil.copytree(two_checkpoints, tmp_path / "run")
    folder = workdir / FOLDER / "2" / item
    if content is None:
        shutil.rmtree(folder)
    else:
        (folder / "_METADATA").write_bytes(content)
    restored, left = _restore_newest(workdir)
    _assert_equal(restored.items, _items(1))
    assert left == [1] and (workdir / DAMAGED_FOLDER / "2").is_dir()


@pytest.mark.parametrize("message", ["UNAVAILABLE: try again", "RESOURCE_EXHAUSTED: too many open files", "a bug"])
def test_restore_newest_raises_other_errors_and_moves_no_checkpoint(message, two_checkpoints, tmp_path, monkeypatch):
    workdir = shutil.copytree(two_checkpoints, tmp_path / "run")
    checkpoints = Checkpoints(str(workdir))

    def fail(*_, **__):
        raise ValueError(message)

    monkeypatch.setattr(checkpoints._manager, "restore", fail)
    with pytest.raises(ValueError, match=message):
        checkpoints.restore_newest(_like, DEVICES)
    monkeypatch.undo()
    assert checkpoints.steps() == [1, 2] and not (workdir / DAMAGED_FOLDER).exists()


def test_save_raises_errors_other_than_the_file_systems_unchanged(tmp_path, monkeypatch):
    checkpoints = Checkpoints(str(tmp_path))

    def fail(*_, **__):
        raise ValueError("a bug")

    monkeypatch.setattr(checkpoints._manager, "save", fail)
    with pytest.raises(ValueError, match="a bug"):
        checkpoints.save(1, _items(1), {})
    checkpoints.close()


def test_checkpoint_deleted_while_it_is_read_is_not_called_damaged(tmp_path):
    workdir = _saved(tmp_path / "run", {1: 0.5, 2: 0.7})
    with Checkpoints(str(workdir), read_only=True) as checkpoints:
        assert checkpoints.steps() == [1, 2]
        shutil.rmtree(workdir / FOLDER / "2")
        with pytest.raises(InputError, match=r"checkpoint 2 of .* was deleted while it was read, by a training"):
            checkpoints.restore(2, _like(2))

import csv
import io
import json
import shutil

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, top_k_accuracy_score

from animesion_jax.main import main
from animesion_jax.metrics import count_by_class, finalize, metric_sums, summarize, to_csv
from animesion_jax.training.evaluate import evaluate

HEADER = "class_id,class,train_images,test_images,top1_accuracy,top5_accuracy,most_confused_with,confusions"


def test_metric_sums_match_float64_numpy_and_ignore_padding():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(40, 12)).astype(np.float32) * 3
    labels = rng.integers(0, 12, 40)
    mask = (np.arange(40) < 33).astype(np.float32)
    logits[35] = np.nan
    result = finalize({k: float(v) for k, v in metric_sums(jnp.asarray(logits), jnp.asarray(labels), mask).items()})
    x = logits[:33].astype(np.float64)
    loss = np.log(np.exp(x).sum(1)) - x[np.arange(33), labels[:33]]
    top5 = np.argsort(-x, axis=1)[:, :5]
    assert abs(result["loss"] - loss.mean()) < 1e-5
    assert np.isclose(result["top1_accuracy"], (x.argmax(1) == labels[:33]).mean(), rtol=1e-6)
    assert np.isclose(result["top5_accuracy"], (top5 == labels[:33, None]).any(1).mean(), rtol=1e-6)


def test_label_ranks_give_ties_to_the_lower_class_and_count_nan_as_wrong():
    logits = jnp.asarray([[1.0, 1, 1, 1, 1, 1, 1]] * 3 + [[jnp.nan] * 7])
    sums = metric_sums(logits, jnp.asarray([0, 4, 5, 0]), jnp.ones(4))
    assert (float(sums["top1_accuracy"]), float(sums["top5_accuracy"])) == (1.0, 2.0)


def test_metric_sums_count_all_of_fewer_than_five_classes_as_top_five():
    sums = metric_sums(jnp.asarray([[0.0, 1, 2]] * 3), jnp.arange(3), jnp.ones(3))
    assert (float(sums["top1_accuracy"]), float(sums["top5_accuracy"])) == (1.0, 3.0)


def _random_results():
    """Returns labels, scores, predictions and ranks of 4,000 examples of 30 classes; 7 and 29 have no example."""
    rng = np.random.default_rng(0)
    tested = np.setdiff1d(np.arange(30), [7, 29])
    labels = rng.choice(tested, 4000, p=rng.dirichlet(np.full(28, 0.8)))
    scores = rng.normal(size=(4000, 30)) + 2 * np.eye(30)[labels] + rng.normal(size=30)
    order = np.argsort(-scores, axis=1)
    return labels, scores, order[:, 0], np.argmax(order == labels[:, None], axis=1)


def _rows(text):
    return list(csv.DictReader(io.StringIO(text, newline="")))


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
def test_count_by_class_agrees_with_scikit_learn():
    labels, scores, predicted, ranks = _random_results()
    results = count_by_class(labels, predicted, ranks, np.full(30, 50))
    matrix = confusion_matrix(labels, predicted, labels=np.arange(30))
    np.testing.assert_array_equal(results.test_images, matrix.sum(axis=1))
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(results.top1_accuracy, np.diag(matrix) / matrix.sum(axis=1))
    wrong = matrix - np.diag(np.diag(matrix))
    np.testing.assert_array_equal(results.confusions, wrong.max(axis=1))
    np.testing.assert_array_equal(results.confused_with, np.where(wrong.any(axis=1), wrong.argmax(axis=1), -1))
    for class_id in range(30):
        mine = labels == class_id
        expected = top_k_accuracy_score(labels[mine], scores[mine], k=5, labels=np.arange(30)) if mine.any() else np.nan
        np.testing.assert_allclose(results.top5_accuracy[class_id], expected)
    summary = summarize(results)
    assert summary["macro_accuracy"] == pytest.approx(balanced_accuracy_score(labels, predicted))
    assert summary["medium_shot"] == {"classes": 28, "images": 4000, "top1_accuracy": summary["macro_accuracy"]}
    assert summary["many_shot"] == summary["few_shot"] == {"classes": 0, "images": 0, "top1_accuracy": None}


def test_summarize_groups_by_training_images_and_weights_classes_equally():
    # Top-1 accuracies are 1/2, 1, 0, 1/4 and 3/4. The fifth class has no training image, the last no test image.
    images = np.asarray([2, 1, 3, 4, 4, 0])
    labels = np.repeat(np.arange(6), images)
    ranks = np.asarray([0, 1, 0, 2, 5, 9, 0, 1, 1, 1, 0, 0, 0, 4])
    results = count_by_class(labels, np.where(ranks, 5, labels), ranks, np.asarray([101, 100, 20, 19, 0, 500]))
    assert summarize(results) == {
        "macro_accuracy": (0.5 + 1 + 0 + 0.25 + 0.75) / 5,
        "many_shot": {"classes": 1, "images": 2, "top1_accuracy": 0.5},
        "medium_shot": {"classes": 2, "images": 4, "top1_accuracy": 0.5},
        "few_shot": {"classes": 2, "images": 8, "top1_accuracy": 0.5},
    }
    np.testing.assert_array_equal(results.top5_accuracy, [1, 1, 1 / 3, 1, 1, np.nan])


def test_to_csv_quotes_names_and_leaves_unknown_cells_empty():
    names = ['a, "b"', "ずんだもん\nnew line", "plain"]
    labels = np.asarray([0, 0, 0, 0, 0, 2])
    predicted = np.asarray([2, 1, 1, 2, 0, 2])  # twice 1 and twice 2: names the lower class id
    text = to_csv(count_by_class(labels, predicted, np.where(predicted == labels, 0, 5), np.asarray([3, 0, 7])), names)
    assert text.splitlines()[0] == HEADER
    assert [list(row.values()) for row in _rows(text)] == [
        ["0", names[0], "3", "5", "0.2", "0.2", names[1], "2"],
        ["1", names[1], "0", "0", "", "", "", ""],
        ["2", names[2], "7", "1", "1.0", "1.0", "", ""],
    ]


def test_count_by_class_of_correct_predictions_has_no_confusions():
    labels = np.asarray([0, 1, 1])
    results = count_by_class(labels, labels, np.zeros(3, int), np.asarray([5, 5]))
    assert list(results.confused_with) == [-1, -1] and list(results.confusions) == [0, 0]
    assert summarize(results)["macro_accuracy"] == 1


def test_evaluate_per_class_adds_to_the_metrics_and_writes_a_csv(trained, tmp_path, capsys):
    workdir = shutil.copytree(trained[0], tmp_path / "run")
    assert main(["animesion", "evaluate", f"--workdir={workdir}", "--per_class"]) == 0
    result = json.loads(capsys.readouterr().out)
    plain = evaluate(str(workdir), "test")
    assert plain.items() <= result.items()
    assert result.keys() - plain.keys() == {"macro_accuracy", "many_shot", "medium_shot", "few_shot", "per_class"}
    assert result["per_class"] == str(workdir / "per_class.csv")
    rows = _rows((workdir / "per_class.csv").read_text())
    assert [row["class"] for row in rows] == json.loads((workdir / "classes.json").read_text())
    images, top1, top5, train_images = (
        np.asarray([float(row[name]) for row in rows])
        for name in ("test_images", "top1_accuracy", "top5_accuracy", "train_images")
    )
    assert images.sum() == result["examples"] == 420
    assert np.average(top1, weights=images) == pytest.approx(result["top1_accuracy"], rel=1e-6)
    assert np.average(top5, weights=images) == pytest.approx(result["top5_accuracy"], rel=1e-6)
    assert result["macro_accuracy"] == pytest.approx(top1.mean())
    # Five characters have more than 100 training images, three fewer than 20.
    assert [result[name]["classes"] for name in ("many_shot", "medium_shot", "few_shot")] == [5, 12, 3]
    assert result["few_shot"]["top1_accuracy"] == pytest.approx(top1[train_images < 20].mean())
    assert train_images.sum() == 1411
    # Another split writes another file.
    written = (workdir / "per_class.csv").read_text()
    assert evaluate(str(workdir), "validation", per_class=True)["per_class"] == str(
        workdir / "validation_per_class.csv"
    )
    assert (workdir / "per_class.csv").read_text() == written

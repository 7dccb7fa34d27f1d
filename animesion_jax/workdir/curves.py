"""curves.png: loss, accuracies and learning rate of a run."""

from typing import Any

from etils import epath

CURVES = "curves.png"


def draw_curves(rows: list[dict[str, Any]], path: epath.Path) -> None:
    """Draws loss, accuracies and learning rate of metrics.jsonl rows over the epochs into a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 3.8), layout="constrained")
    loss, accuracy, rate = figure.subplots(1, 3)
    for split, color in (("train", "tab:blue"), ("validation", "tab:orange")):
        points = [row for row in rows if row["split"] == split]
        epochs = [row["epoch"] for row in points]
        loss.plot(epochs, [row["loss"] for row in points], color=color, label=split)
        for name, style in (("top1_accuracy", "-"), ("top5_accuracy", "--")):
            label = f"{split} {name.split('_')[0].replace('top', 'top-')}"
            accuracy.plot(epochs, [100 * row[name] for row in points], style, color=color, label=label)
        if split == "train":
            rate.plot(epochs, [row["learning_rate"] for row in points], color="tab:green")
    for axes, title in ((loss, "loss (nats)"), (accuracy, "accuracy (%)"), (rate, "learning rate")):
        axes.set(title=title, xlabel="epoch")
        axes.grid(alpha=0.3)
    loss.set_ylim(bottom=0)
    accuracy.set_ylim(0, 100)
    rate.set_ylim(bottom=0)
    loss.legend()
    accuracy.legend(loc="lower right")
    with path.open("wb") as file:
        figure.savefig(file, format="png", dpi=110)

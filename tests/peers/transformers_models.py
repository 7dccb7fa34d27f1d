"""transformers' ViTs with given weights. The fixture `transformers_peers` imports it if transformers is installed."""

from pathlib import Path

import numpy as np
import safetensors.numpy
import torch
import transformers

from tests.drawn import draw_arrays
from tests.peer_cases import Case
from tests.peers import torch_models

# Arguments of `save_pretrained` for the names of parameters until 4.x, and since 5.0.
GENERATIONS = {4: {"save_original_format": True}, 5: {"save_original_format": False}}


def untrained(case: Case, image_size: int) -> torch.nn.Module:
    """Returns the model of a case with transformers' start."""
    options = {case.depth: case.peer_layers, "num_labels": case.classes, **case.peer_options}
    return getattr(transformers, case.peer)(transformers.ViTConfig(image_size=image_size, **options)).eval()


def save(model: torch.nn.Module, folder: Path, generation: int) -> str:
    """Writes a model with the names of a generation, and returns the path of the weights."""
    model.save_pretrained(folder, **GENERATIONS[generation])
    return str(folder / "model.safetensors")


def shapes_in(file: str) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of a file's arrays by name."""
    return {name: array.shape for name, array in safetensors.numpy.load_file(file).items()}


def drawn(case: Case, image_size: int, folder: Path, generation: int) -> tuple[torch.nn.Module, str]:
    """Returns the model with the weights of `draw_arrays` for the names of its file, and that file, as it writes it."""
    file = save(untrained(case, image_size), folder / "untrained", generation)
    arrays = draw_arrays(shapes_in(file))
    safetensors.numpy.save_file(arrays, file, {"format": "pt"})
    model, report = getattr(transformers, case.peer).from_pretrained(folder / "untrained", output_loading_info=True)
    assert not any(report.values()), report
    file = save(model, folder / "drawn", generation)
    written = safetensors.numpy.load_file(file)
    assert written.keys() == arrays.keys() and all(np.array_equal(written[name], arrays[name]) for name in arrays)
    return model.eval(), file


class Outputs(torch.nn.Module):
    """A model that returns the logits, or the pooler's output if it has no classifier."""

    def __init__(self, model: torch.nn.Module):
        super().__init__()
        self.model, self.classifier = model, getattr(model, "classifier", None)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        outputs = self.model(images)
        return outputs.pooler_output if self.classifier is None else outputs.logits


def features_and_logits(model: torch.nn.Module, images: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns the classifier's input and output for (batch, S, S, 3) images; without one the pooler's output."""
    return torch_models.features_and_logits(Outputs(model), images)

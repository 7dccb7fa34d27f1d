"""The table of published weights that `configs --weights` prints."""

import functools
import shutil
import textwrap
from collections.abc import Iterator

# Columns of a pipe or a file, so that each source has one line.
UNLIMITED = 10_000
LEGEND = "*: MODEL,pretrained starts from it. Parameters are counted at 224 px without the classifier."


def weights_table() -> Iterator[str]:
    """Yields the lines of the table; in a narrow terminal, two lines for each source. Notes follow the table."""
    from animesion_jax.models import family_of
    from animesion_jax.pretrained.sources import NAMED

    defaults = {weights for source in NAMED.values() for weights in family_of(source.model).weights.values()}
    models = {name: source.model + " *" * (name in defaults) for name, source in NAMED.items()}
    name_width, model_width = (max(map(len, names)) for names in (models, models.values()))
    licence_width = max(len(source.licence) for source in NAMED.values())
    columns = shutil.get_terminal_size((UNLIMITED, 0)).columns

    def line(name: str, model: str, pixels: str, parameters: str, licence: str, trained_on: str) -> str:
        details = f"{model:{model_width}}  {pixels:>6}  {parameters:>10}  {licence:{licence_width}}  {trained_on}"
        return f"{name:{name_width}}  {details}" if fits else f"{name}\n    {details}"

    longest = max(len(source.trained_on) for source in NAMED.values())
    fits = name_width + model_width + licence_width + longest + len("  448 px  parameters      ") <= columns
    yield line("name", "model", "input", "parameters", "licence", "trained on")
    for name, source in NAMED.items():
        pixels, parameters = f"{source.image_size} px", _parameters(source.model)
        yield line(name, models[name], pixels, parameters, source.licence, source.trained_on)
    notes = dict.fromkeys(source.note for source in NAMED.values() if source.note)
    named = {note: ", ".join(name for name, source in NAMED.items() if source.note == note) for note in notes}
    for note in (LEGEND, *(f"{names}: {note}." for note, names in named.items())):
        yield "\n" + textwrap.fill(note, min(columns, 100))


@functools.cache
def _parameters(model: str) -> str:
    """Returns the parameters of a model at 224 px without its classifier, such as "86 M"."""
    import jax
    import jax.numpy as jnp

    from animesion_jax.models import create_model

    # The classifier of one class is too small to count.
    module = create_model(model, num_classes=1, image_size=224)
    # Neither compiles nor computes.
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), jnp.zeros((1, 224, 224, 3))))
    return f"{sum(leaf.size for leaf in jax.tree.leaves(shapes['params'])) / 1e6:.0f} M"

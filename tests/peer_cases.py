"""Models of timm and transformers beside ours, for the weights that people start from.

Options are literals from the model cards and from the libraries' configurations. To add a model, add a row.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from tests.published import Arrays, google_arrays


class Case(NamedTuple):
    """A published model.

    Attributes:
      peer: timm's model, or the class of transformers.
      model, options: our model and its options.
      peer_options: arguments of `timm.create_model`, or of transformers' `ViTConfig`.
      image_size: of the published weights, in pixels.
      other_size: another size, for which the peer resamples positions.
      peer_layers: layers in `make test-peers`; few in large models, for the time.
      classes: width of the classifier; 0 for a file without one.
      depth: the peer's name for the number of layers.
    """

    peer: str
    model: str
    options: Mapping[str, Any]
    peer_options: Mapping[str, Any]
    image_size: int
    other_size: int
    peer_layers: int = 12
    classes: int = 7
    depth: str = "depth"

    def small(self) -> "Case":
        """Returns the case with 2 layers, and with grids of 4 x 4 and of 3 x 3 patches; the widths stay."""
        patch_size = int(self.model[-2:])
        return self._replace(image_size=4 * patch_size, other_size=3 * patch_size, peer_layers=2)

    def google_arrays(self) -> Arrays:
        """Returns random weights of a ViT by the names of linen in Google's files."""
        token = self.options.get("pool") != "mean"
        sizes = {"names": "linen", "token": token, "num_layers": self.peer_layers}
        return google_arrays(self.model, self.classes, self.image_size, **sizes)


# timm's GELU is exact by default. WD's and SigLIP's weights were trained with the tanh approximation.
EXACT = {"gelu": "erf"}
TANH = {"act_layer": "gelu_tanh"}
MEAN = {"pool": "mean"}
# The mean of all patches after the norm, without a class token. timm's default for "avg" is the norm after the mean.
PEER_MEAN = {"class_token": False, "global_pool": "avg", "fc_norm": False}

TIMM_VITS = {
    "augreg": Case("vit_small_patch16_224", "vit_s16", EXACT, {}, 224, 128),
    "augreg, 32 px": Case("vit_base_patch32_224", "vit_b32", EXACT, {}, 224, 128, 2),
    "wd_vit": Case("vit_base_patch16_224", "vit_b16", MEAN, {**PEER_MEAN, **TANH}, 448, 224),
    "wd_vit_large": Case("vit_large_patch16_224", "vit_l16", MEAN, {**PEER_MEAN, **TANH}, 448, 224, 2),
    "siglip_gap": Case("vit_base_patch16_siglip_gap_224", "vit_b16", MEAN, TANH, 224, 128, 2, classes=0),
    "so400m": Case("vit_so400m_patch14_siglip_gap_224", "vit_so400m14", MEAN, TANH, 224, 378, 2, classes=0),
    "dinov2": Case("vit_small_patch14_dinov2", "vit_s14", EXACT, {}, 518, 224),
    "dinov2, base": Case("vit_base_patch14_dinov2", "vit_b14", EXACT, {}, 518, 224, 2, classes=0),
    "dinov2, large": Case("vit_large_patch14_dinov2", "vit_l14", EXACT, {}, 518, 224, 2, classes=0),
    "dinov2, registers": Case("vit_small_patch14_reg4_dinov2", "vit_s14", {**EXACT, "registers": 4}, {}, 518, 224),
    "fc_norm": Case(
        "vit_small_patch16_224", "vit_s16", {**EXACT, "pool": "mean", "class_token": True, "fc_norm": True},
        {"global_pool": "avg"}, 224, 128, 2,
    ),
}  # fmt: skip

BEITS = {
    "beit": Case("beit_base_patch16_224", "beit_b16", {}, {}, 224, 128, 6),
    "beitv2": Case("beitv2_base_patch16_224", "beit_b16", {}, {}, 224, 384, 2),
}

EVA02S = {
    "eva02": Case("eva02_base_patch14_224", "eva02_b14", {}, {}, 224, 112, 6),
    "eva02_large": Case("eva02_large_patch14_448", "eva02_l14", {}, {}, 448, 224, 2),
    "wd_eva02": Case(
        "eva02_large_patch14_448", "eva02_l14", {"rotary_grid": 32}, {"ref_feat_shape": (32, 32)}, 448, 224, 2
    ),
}

TIMM_CASES = TIMM_VITS | BEITS | EVA02S

# transformers' default epsilon is 1e-12, its default size B/16. The class without a classifier has a pooler instead.
HF_OPTIONS = {**EXACT, "epsilon": 1e-12}
TRANSFORMERS_CASES = {
    "classifier": Case(
        "ViTForImageClassification", "vit_b16", HF_OPTIONS, {}, 224, 128, depth="num_hidden_layers"
    ),
    "pooler": Case(
        "ViTModel", "vit_b16", {**HF_OPTIONS, "pre_logits": True}, {}, 224, 128, classes=0, depth="num_hidden_layers"
    ),
}  # fmt: skip

# big_vision's class token has no position.
BIG_VISION_CASES = {
    "token": Case("vit_small_patch16_224", "vit_s16", {}, {"no_embed_class": True, **TANH}, 224, 224, 2),
    "mean": Case("vit_small_patch16_224", "vit_s16", MEAN, {**PEER_MEAN, **TANH}, 224, 224, 2),
}

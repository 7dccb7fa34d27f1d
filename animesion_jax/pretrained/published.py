"""The published weights: `NAMED` has them by the names that `config.pretrained` takes.

Sizes, normalisation and licences are those of the publishers' model cards and of timm's configurations.
"""

import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

GOOGLE_URL = "https://storage.googleapis.com/vit_models"
PYTORCH_URL = "https://download.pytorch.org/models"
APACHE, BSD, MIT = "Apache-2.0", "BSD-3-Clause", "MIT"


@dataclass(frozen=True)
class Source:
    """A published file of weights.

    Attributes:
      url: an address for `hub.fetch`.
      licence: its SPDX identifier.
      model: the name of the model that the weights fit.
      image_size: side of the images of the last training, in pixels.
      trained_on: these images, in a few words.
      options: config fields by dotted name that differ from our defaults; `MODEL,pretrained=NAME` sets them.
      channels: order of the input's channels, "RGB" or "BGR".
      note: a warning to users of the weights; "" for none.
    """

    url: str
    licence: str
    model: str
    image_size: int
    trained_on: str
    options: Mapping[str, Any] = field(default_factory=dict)
    channels: str = "RGB"
    note: str = ""


IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
HALF = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
MEAN = {"vit.pool": "mean"}

# Number of tags of SmilingWolf's taggers, version 3. No other classifier of `NAMED` has this number of classes.
WD_TAGS = 10_861
WD_NOTE = (
    "trained on about 90 % of DAF:re's test images, with the names of their characters; docs/weights.md says how to "
    "report accuracies"
)
# JAX-CV trained them with an epsilon of 1e-5. Take 1e-6, which timm's configuration has and their users run. The GELU
# is the tanh approximation. The preprocessing pads with white and exchanges red and blue.
WD = {
    name: Source(
        f"hf://SmilingWolf/{repository}/model.safetensors", APACHE, model, 448, "5.7 M Danbooru images",
        {"fit": "pad", **options}, "BGR", WD_NOTE,
    )
    for name, repository, model, options in (
        ("wd_vit_b16", "wd-vit-tagger-v3", "vit_b16", MEAN),
        ("wd_vit_l16", "wd-vit-large-tagger-v3", "vit_l16", MEAN),
        ("wd_eva02_l14", "wd-eva02-large-tagger-v3", "eva02_l14", {"eva02.rotary_grid": 32, **HALF}),
    )
}  # fmt: skip

# By folder: image size in pixels, training images, options, and models by file.
GOOGLE_FOLDERS = {
    "imagenet21k": (224, "ImageNet-21k", {}, {
        "ViT-B_16": "vit_b16", "ViT-B_32": "vit_b32", "ViT-L_16": "vit_l16", "ViT-L_32": "vit_l32",
        "ViT-H_14": "vit_h14", "R50+ViT-B_16": "r50_vit_b16", "R26+ViT-B_32": "r26_vit_b32",
        "R50+ViT-L_32": "r50_vit_l32",
    }),
    "imagenet21k+imagenet2012": (384, "ImageNet-21k, then 1k", {}, {
        "ViT-B_16": "vit_b16", "ViT-B_32": "vit_b32", "ViT-L_16": "vit_l16", "ViT-L_32": "vit_l32",
    }),
    "augreg": (224, "ImageNet-21k", {}, {
        "Ti_16-i21k-300ep-lr_0.001-aug_none-wd_0.03-do_0.0-sd_0.0": "vit_ti16",
        "S_16-i21k-300ep-lr_0.001-aug_light1-wd_0.03-do_0.0-sd_0.0": "vit_s16",
        "S_32-i21k-300ep-lr_0.001-aug_none-wd_0.1-do_0.0-sd_0.0": "vit_s32",
        "B_16-i21k-300ep-lr_0.001-aug_medium1-wd_0.1-do_0.0-sd_0.0": "vit_b16",
        "B_32-i21k-300ep-lr_0.001-aug_light1-wd_0.1-do_0.0-sd_0.0": "vit_b32",
        "L_16-i21k-300ep-lr_0.001-aug_strong1-wd_0.1-do_0.0-sd_0.0": "vit_l16",
    }),
    "sam": (224, "ImageNet-1k", {}, {
        "ViT-S_16": "vit_s16", "ViT-B_16": "vit_b16", "ViT-B_32": "vit_b32", "ViT-L_16": "vit_l16",
        "ViT-L_32": "vit_l32",
    }),
    "gsam": (224, "ImageNet-1k", MEAN, {
        "ViT-S_16": "vit_s16", "ViT-S_32": "vit_s32", "ViT-B_16": "vit_b16", "ViT-B_32": "vit_b32",
    }),
}  # fmt: skip
GOOGLE = {
    f"google/{folder}/{file}": Source(
        f"{GOOGLE_URL}/{urllib.parse.quote(f'{folder}/{file}')}.npz", APACHE, model, image_size, trained_on, options
    )
    for folder, (image_size, trained_on, options, models) in GOOGLE_FOLDERS.items()
    for file, model in models.items()
}

# timm runs its ViTs with the exact GELU. Google trained augreg's and SigLIP's with the tanh approximation; take that.
DINOV2 = {"vit.gelu": "erf", **IMAGENET}
REG4 = {"vit.registers": 4, **DINOV2}
TIMM = {
    f"timm/{name}": Source(
        f"hf://timm/{name}/model.safetensors", licence, model, image_size, trained_on, options
    )
    for name, licence, model, image_size, trained_on, options in (
        *((f"resnet{depth}.tv_in1k", BSD, f"resnet{depth}", 224, "ImageNet-1k", {}) for depth in (
            18, 34, 50, 101, 152,
        )),
        *((f"vit_{size}_224.augreg_in21k", APACHE, model, 224, "ImageNet-21k", {}) for size, model in (
            ("tiny_patch16", "vit_ti16"), ("small_patch16", "vit_s16"), ("small_patch32", "vit_s32"),
            ("base_patch16", "vit_b16"), ("base_patch32", "vit_b32"), ("large_patch16", "vit_l16"),
        )),
        *((f"vit_{size}_patch14_{variant}.lvd142m", APACHE, model, 518, "LVD-142M, no labels", options)
          for variant, options in (("dinov2", DINOV2), ("reg4_dinov2", REG4))
          for size, model in (("small", "vit_s14"), ("base", "vit_b14"), ("large", "vit_l14"))),
        *((f"vit_{size}_siglip_gap_224.v2_webli", APACHE, model, 224, "WebLI, captions", MEAN) for size, model in (
            ("base_patch16", "vit_b16"), ("so400m_patch14", "vit_so400m14"),
        )),
        ("beit_base_patch16_224.in22k_ft_in22k", APACHE, "beit_b16", 224, "ImageNet-22k", {}),
        ("beitv2_base_patch16_224.in1k_ft_in22k", APACHE, "beit_b16", 224, "ImageNet-1k, then 22k", IMAGENET),
        ("eva02_base_patch14_224.mim_in22k", MIT, "eva02_b14", 224, "ImageNet-22k, no labels", {}),
        ("eva02_large_patch14_224.mim_in22k", MIT, "eva02_l14", 224, "ImageNet-22k, no labels", {}),
        ("eva02_large_patch14_224.mim_m38m", MIT, "eva02_l14", 224, "Merged-38M, no labels", {}),
    )
}  # fmt: skip

# The same weights as Google's; transformers runs them with another epsilon and the exact GELU.
TRANSFORMERS = {
    f"transformers/vit-{size}-in21k": Source(
        f"hf://google/vit-{size}-in21k/model.safetensors", APACHE, model, 224, "ImageNet-21k",
        {"vit.epsilon": 1e-12, "vit.gelu": "erf"},
    )
    for size, model in (
        ("base-patch16-224", "vit_b16"), ("large-patch16-224", "vit_l16"), ("huge-patch14-224", "vit_h14"),
    )
}  # fmt: skip

TORCHVISION = {
    f"torchvision/resnet{depth}": Source(
        f"{PYTORCH_URL}/resnet{depth}-{digest}.pth", BSD, f"resnet{depth}", 224, "ImageNet-1k"
    )
    for depth, digest in (
        (18, "f37072fd"), (34, "b627a593"), (50, "0676ba61"), (101, "63fe2227"), (152, "394f9c45"),
    )
}  # fmt: skip

NAMED: dict[str, Source] = WD | GOOGLE | TIMM | TRANSFORMERS | TORCHVISION

"""Every field of a config, with its default: the recipe of the DAF:re paper's tables at 128 px.

Other files import `get_config` from here and override what differs. A config is locked: a field that is not declared
here cannot be set.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    """Returns the default config."""
    config = ml_collections.ConfigDict()

    # Data.
    config.dataset = "toyfaces"  # TFDS name, "name" or "name/config"; build it with `tfds build` first
    config.data_dir = "~/tensorflow_datasets"  # where `tfds build --data_dir` put it; local or gs://
    config.train_split = "train"
    config.validation_split = "validation"  # evaluated after every epoch; "held_out", or "" for none
    config.held_out = 0.0  # part of every class of train_split that is kept from training, 1/8 for example
    config.test_split = "test"  # evaluated once, at the end; "" for none
    config.folder = ""  # folder of pictures per character, of which train builds a data set first; "" for none
    config.min_images = 0  # of config.folder, characters with fewer pictures are left out; 0 for none
    config.skip_broken = False  # of config.folder, leave out pictures that cannot be read instead of refusing it
    config.data = ml_collections.ConfigDict()
    config.data.cache = "auto"  # "device", "decoded", "encoded" or "none"; "auto" picks one of the last three by memory
    config.data.read_groups = 8  # the records are dealt to this many groups; a host reads whole groups
    config.data.shuffle_buffer = 50_000  # records of the shuffle buffer where nothing is cached

    # Input.
    config.image_size = 128  # side of the model's square input, pixels
    config.crop_margin = 32  # train images are resized to image_size + crop_margin, then cropped
    config.mean = (0.5, 0.5, 0.5)  # per channel, of pixels in [0, 1]
    config.std = (0.5, 0.5, 0.5)  # likewise
    config.augment = ml_collections.ConfigDict()
    config.augment.flip = 0.5  # probability of a horizontal flip
    config.augment.brightness = 0.1  # factor drawn from [1 - b, 1 + b]
    config.augment.contrast = 0.1  # likewise
    config.augment.saturation = 0.1  # likewise
    config.augment.hue = 0.1  # shift drawn from [-h, h] turns of the colour circle
    config.augment.erasing = 0.0  # probability that a rectangle of 2 to 33 % of the image becomes noise
    config.mixup = 0.0  # alpha of mixup's Beta(alpha, alpha), which blends neighbours in the batch; 0 for none
    config.cutmix = 0.0  # likewise of CutMix, which exchanges a rectangle; with both, half the pairs take each

    # Model.
    config.model = "shallownet"  # a name of animesion_jax.models.MODELS
    config.dropout_rate = 0.2  # dropout of the model
    config.dtype = "float32"  # compute dtype, "float32" or "bfloat16"; parameters stay float32
    config.vit = ml_collections.ConfigDict()
    config.vit.pool = "token"  # "token" classifies by a class token, "mean" by the mean of the patches, without one
    config.vit.pre_logits = False  # whether a tanh layer comes before the classifier
    config.vit.gelu = "tanh"  # "tanh", Google's approximation, or "erf", the exact one of the paper's runs
    config.vit.dropout_places = "google"  # or "animesion", as in the paper's runs; models/vit.py lists the places
    config.resnet = ml_collections.ConfigDict()
    config.resnet.initializer = "he"  # "he" as torchvision, or "xavier" as the paper's runs from scratch

    # Weights to start from.
    config.pretrained = ""  # file, workdir, bundle, gs://, https:// or a name of pretrained/sources.py; "" for none
    config.keep_head = False  # keep the classifier of such a file where its shape fits; else it starts at zero
    config.trainable = "all"  # "all", or "head": all but the classifier is frozen, and runs in evaluation mode

    # Optimisation.
    config.batch_size = 64  # global, over all devices and hosts
    config.grad_accumulation = 1  # parts that a device takes its share of a batch in, one after the other
    config.epochs = 50
    config.learning_rate = 1e-3
    config.optimizer = "sgd"  # "sgd" or "adamw"
    config.momentum = 0.9  # of SGD, or the first of AdamW's two decay rates
    config.weight_decay = 0.0  # of kernels alone; SGD adds it to the gradient, AdamW takes it off apart from that
    config.schedule = "piecewise"  # "piecewise" or "cosine"
    config.decay_epochs = 20  # piecewise: the learning rate is divided after every so many epochs ...
    config.decay_factor = 3.0  # ... by this
    config.warmup_epochs = 0.0  # cosine: epochs of linear warm-up, fractions allowed
    config.label_smoothing = 0.0  # part of a label that is spread evenly over all classes
    config.logit_adjustment = 0.0  # times the classes' log frequencies, added to logits in the loss; 1 balances them
    config.ema_decay = 0.0  # of a running average of the weights, which is evaluated and exported; 0 for none

    # A second stage: the classifier alone goes on, each class with the same weight, by SGD without weight decay.
    config.rebalance_epochs = 0  # after the `epochs`; 0 for none. The best weights are then chosen among theirs
    config.rebalance_learning_rate = 0.01  # falls to 0 along half a cosine

    # Reproduction aids: what the paper's runs did by accident. Ordinary runs leave them alone.
    config.eval_mode_after_epochs = 0  # layers train in evaluation mode after so many epochs; 0 for never

    # Run.
    config.seed = 0  # parameters, order of the examples, augmentation and dropout
    config.eval_batch_size = 256  # global, over all devices and hosts
    config.log_every_steps = 50  # steps between two rows of training metrics
    config.checkpoint_every_steps = 1000  # steps between two checkpoints, besides one after every epoch; 0 for none
    config.keep_last_checkpoints = 2  # besides the best by validation top-1
    config.default_weights = "best"  # weights that evaluate and export take: "best" by validation top-1, or "last"

    return config.lock()

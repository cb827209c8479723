"""CIFAR-10 with a convolutional pyramid, Adam and a cosine schedule. The whole schema.

Every field is here, with its unit and range; the other configs change some.
"""

from ml_collections import ConfigDict, FieldReference


def get_config() -> ConfigDict:
    """Return the default configuration."""
    config = ConfigDict()

    config.seed = 0  # 0 to 2**32 - 1; of parameters, order, augmentation and dropout
    config.num_epochs = 15  # passes over the training split, 1 to 100,000
    config.batch_size = 128  # examples a step, over all devices; a multiple of their number
    config.label_smoothing = 0.1  # share of each target spread over all classes, [0, 1)
    config.sampling = "shuffled"  # each example once an epoch; balanced: equally many of each class
    config.precision = "auto"  # of the computation: float32, bfloat16, float64 (with
    # JAX_ENABLE_X64=1), or auto: bfloat16 on GPU and TPU, and on CPUs where oneDNN is quicker in
    # it (AMX, AMD's AVX512-BF16), float32 on others
    config.deterministic = False  # on a GPU: slower kernels that always round the same way
    config.convolutions = "auto"  # on a CPU: onednn, xla, or auto: onednn where available

    config.data = ConfigDict()
    config.data.name = "cifar10"  # an image-classification dataset of TFDS, folder or shapes
    config.data.data_dir = ""  # of TFDS; empty: TFDS_DATA_DIR, else ~/tensorflow_datasets
    config.data.cache_dir = ""  # of decoded images; empty: jaxcifar/decoded in the user's cache
    config.data.train_split = "train"  # in TFDS's syntax
    config.data.validation_split = ""  # e.g. train[45000:] with train[:45000] above; empty: none
    config.data.test_split = "test"
    # Pixels to scale and crop images to: the side, or height and width as 64,48; 0: leave them.
    config.data.image_size = FieldReference(0, field_type=object)
    config.data.channels = 0  # 1: grey, 3: RGB; 0: as in TFDS, RGB for a folder
    config.data.image_feature = ""  # of a TFDS dataset; empty: its declared input
    config.data.label_feature = ""  # likewise; empty: its declared target
    # The largest split that devices hold; larger ones are streamed. 0: a quarter of their memory.
    config.data.resident_bytes = 0
    # statistics: of the training split; unit: [0, 1]; symmetric: [-1, 1]; pixels: [0, 255].
    config.data.normalisation = "statistics"
    config.data.folder = ConfigDict()
    config.data.folder.path = ""  # a directory with a subdirectory per class, or a CSV file
    config.data.folder.validation_share = 0.0  # of the files, where no splits are given, [0, 1)
    config.data.folder.test_share = 0.2  # likewise
    config.data.folder.split_seed = 0  # 0 to 2**32 - 1; decides what is held out
    config.data.folder.strict = False  # whether a file that cannot be read ends the run
    config.data.shapes = ConfigDict()
    config.data.shapes.seed = 0
    config.data.shapes.train_examples = 10_000
    config.data.shapes.test_examples = 2_000

    config.augmentation = ConfigDict()
    config.augmentation.flip = ConfigDict({"enabled": False})
    config.augmentation.alternating_flip = ConfigDict({"enabled": True})
    config.augmentation.crop = ConfigDict({"enabled": True})
    config.augmentation.crop.padding = 3  # pixels of shift each way, 0 to image size - 1
    config.augmentation.color_jitter = ConfigDict({"enabled": True})
    config.augmentation.color_jitter.brightness = 0.1  # factor from [1 - x, 1 + x], x from [0, 1]
    config.augmentation.color_jitter.contrast = 0.1  # likewise
    config.augmentation.color_jitter.saturation = 0.1  # likewise
    config.augmentation.color_jitter.hue = 0.02  # up to this share of the circle, [0, 0.5]
    config.augmentation.cutout = ConfigDict({"enabled": True})
    config.augmentation.cutout.size = 8  # side of the square, in pixels, 1 to image size

    config.model = ConfigDict()
    config.model.name = "cnn"  # one of the groups below, or a preset: resnet18, resnet34, resnet50,
    # resnet20, resnet32, resnet44, resnet56, resnet110, resnet8, wrn_16_4, wrn_28_10,
    # densenet_bc_100_12, densenet121, vgg16_bn, mobilenet_v2_x0_5, mobilenet_v2_x1_0,
    # shufflenet_v2_x0_5, shufflenet_v2_x1_0, vit_tiny
    config.model.cnn = ConfigDict()
    config.model.cnn.widths = (64, 128, 256, 256)  # channels of each block, which halves the image
    config.model.cnn.convs_per_block = (2, 2, 2, 2)
    config.model.cnn.kernel_size = 3  # pixels, odd
    config.model.cnn.activation = "gelu"  # elu, gelu, leaky_relu, relu, relu6, silu, tanh
    config.model.cnn.dropout_rate = 0.2  # before the head, [0, 1)
    config.model.cnn.dense_width = 0  # units of a hidden dense layer; 0: global average pooling

    config.model.speednet = ConfigDict()
    config.model.speednet.widths = (64, 256, 256)  # channels of each block; each halves the image

    config.model.resnet = ConfigDict()
    config.model.resnet.widths = (64, 128, 256, 512)  # channels of each stage
    config.model.resnet.blocks_per_stage = (2, 2, 2, 2)
    config.model.resnet.block = "basic"  # of two convolutions; bottleneck: of three
    config.model.resnet.stem = "cifar"  # a 3×3 convolution; imagenet: 7×7, and pooling

    config.model.cifar_resnet = ConfigDict()
    config.model.cifar_resnet.widths = (16, 32, 64)  # channels of each stage
    config.model.cifar_resnet.blocks_per_stage = (3, 3, 3)  # of two convolutions each
    config.model.cifar_resnet.shortcut = "A"  # zeros for new channels; B: a projection

    config.model.mlperf_resnet = ConfigDict()
    config.model.mlperf_resnet.widths = (16, 32, 64)  # channels of each stage, a block each

    config.model.wide_resnet = ConfigDict()
    config.model.wide_resnet.depth = 28  # 10, 16, 22 … (6 n + 4)
    config.model.wide_resnet.widening_factor = 10  # times 16, 32 and 64 channels
    config.model.wide_resnet.dropout_rate = 0.0  # between the convolutions of a block, [0, 1)

    config.model.densenet = ConfigDict()
    config.model.densenet.growth_rate = 12  # channels that a layer adds
    config.model.densenet.layers_per_block = (16, 16, 16)  # of two convolutions each
    config.model.densenet.compression = 0.5  # of the channels, between two blocks, (0, 1]
    config.model.densenet.stem = "cifar"  # a 3×3 convolution; imagenet: 7×7, and pooling

    config.model.vgg = ConfigDict()
    config.model.vgg.widths = (64, 128, 256, 512, 512)  # channels of each block, halving the image
    config.model.vgg.convs_per_block = (2, 2, 3, 3, 3)

    config.model.mobilenet_v2 = ConfigDict()
    config.model.mobilenet_v2.stem_width = 32  # channels of the first convolution
    config.model.mobilenet_v2.widths = (16, 24, 32, 64, 96, 160, 320)  # of each stage
    config.model.mobilenet_v2.blocks_per_stage = (1, 2, 3, 4, 3, 3, 1)
    config.model.mobilenet_v2.last_width = 1280  # channels of the last convolution
    config.model.mobilenet_v2.dropout_rate = 0.2  # before the head, [0, 1)
    config.model.mobilenet_v2.stem = "cifar"  # imagenet: the image is halved twice more

    config.model.shufflenet_v2 = ConfigDict()
    config.model.shufflenet_v2.stem_width = 24  # channels of the first convolution
    config.model.shufflenet_v2.widths = (116, 232, 464)  # of each stage, even
    config.model.shufflenet_v2.blocks_per_stage = (4, 8, 4)
    config.model.shufflenet_v2.last_width = 1024  # channels of the last convolution
    config.model.shufflenet_v2.stem = "cifar"  # imagenet: the image is halved twice more

    config.model.vit = ConfigDict()
    config.model.vit.patch_size = 4  # pixels; divides the image's sides
    config.model.vit.width = 192  # features of a patch; a multiple of heads
    config.model.vit.depth = 12  # blocks
    config.model.vit.heads = 3  # of attention, in each block
    config.model.vit.mlp_ratio = 4  # hidden units of a block's MLP, times width
    config.model.vit.stochastic_depth_rate = 0.0  # of the examples, in the last block, [0, 1)

    config.optimizer = ConfigDict()
    config.optimizer.name = "adam"  # adam, adamw, muon, sgd
    config.optimizer.learning_rate = 3e-3  # the peak of the schedule, above 0
    config.optimizer.l2_penalty = 1e-4  # adds l2_penalty / 2 * ||weights||² to the loss, >= 0
    config.optimizer.clip_norm = 0.0  # largest norm of the gradient; 0: any
    config.optimizer.adam = ConfigDict({"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8})
    config.optimizer.adamw = ConfigDict({"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8})
    config.optimizer.adamw.weight_decay = 0.05  # a step takes learning rate times this away, >= 0
    config.optimizer.sgd = ConfigDict({"momentum": 0.9, "nesterov": True})
    config.optimizer.sgd.weight_decay = 0.0  # likewise
    config.optimizer.muon = ConfigDict({"momentum": 0.6, "newton_schulz_steps": 3})  # 1 to 20
    config.optimizer.muon.sgd_momentum = 0.85  # of all parameters but kernels, [0, 1)
    config.optimizer.muon.bias_multiplier = 440.0  # times the learning rate, for biases, above 0
    config.optimizer.muon.head_multiplier = 5600.0  # likewise, for the head
    config.optimizer.muon.weight_decay = 0.1  # of biases and head, as for adamw

    config.schedule = ConfigDict()
    config.schedule.name = "cosine"  # cosine, linear, step, constant
    config.schedule.warmup_epochs = 1.0  # of linear rise to the peak, [0, num_epochs]
    config.schedule.cosine = ConfigDict({"final_fraction": 0.0})  # of the peak, [0, 1]
    config.schedule.linear = ConfigDict({"final_fraction": 0.0})  # likewise
    config.schedule.step = ConfigDict()
    config.schedule.step.boundaries = (0.5, 0.75)  # shares of the steps after the warm-up
    config.schedule.step.factor = 0.1  # multiplies the rate at each boundary

    config.loss = ConfigDict()
    # balanced: every class counts the same; or a weight for each class, as 1,2.5.
    config.loss.class_weights = FieldReference("none", field_type=object)
    config.loss.focal_gamma = 0.0  # the exponent of the focal loss, 0 to 10; 0: cross-entropy

    # The fields below may differ when a run is resumed; of those above, only convolutions, data_dir,
    # cache_dir, resident_bytes, folder.path, folder.strict and the held-out splits may.
    config.logging = ConfigDict()
    config.logging.every_steps = 50  # optimiser steps a record, at least 1; also at an epoch's end
    config.logging.loggers = ""  # functions of step and values, as my_logger:log,another:log

    config.evaluation = ConfigDict()
    config.evaluation.every_epochs = 1  # and after the last
    config.evaluation.batch_size = 512  # examples a step, over all devices
    config.evaluation.test_time_augmentation = "none"  # mirror, mirror_translate: evaluate the test
    # split once more at the end, with several views of each image, and report the result apart

    config.checkpoint = ConfigDict()
    config.checkpoint.every_epochs = 1  # and after the last
    config.checkpoint.keep = 2  # how many of the newest

    return config.lock()

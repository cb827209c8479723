"""The models, by name. Each is a Linen class in a file of its own family."""

from jaxcifar.models.cifar_resnet import CifarResNet
from jaxcifar.models.cnn import CNN
from jaxcifar.models.densenet import DenseNet
from jaxcifar.models.mlperf_resnet import MLPerfResNet
from jaxcifar.models.mobilenet_v2 import MobileNetV2
from jaxcifar.models.resnet import ResNet
from jaxcifar.models.shufflenet_v2 import ShuffleNetV2
from jaxcifar.models.speednet import SpeedNet
from jaxcifar.models.vgg import VGG
from jaxcifar.models.vit import ViT
from jaxcifar.models.wide_resnet import WideResNet

MODELS = {
    "cnn": CNN,
    "speednet": SpeedNet,
    "resnet": ResNet,
    "cifar_resnet": CifarResNet,
    "mlperf_resnet": MLPerfResNet,
    "wide_resnet": WideResNet,
    "densenet": DenseNet,
    "vgg": VGG,
    "mobilenet_v2": MobileNetV2,
    "shufflenet_v2": ShuffleNetV2,
    "vit": ViT,
}
"""`MODELS[name](classes=…, compute=…, **options)`, with
`__call__(images: [batch, height, width, channel], *, train) -> logits: [batch, class]`. A model that
initialises variables from the data also has `initialise_from(variables, images)`."""

PRESETS = {
    preset: (family, options)
    for family, model in MODELS.items()
    for preset, options in getattr(model, "presets", {}).items()
}
"""The published sizes: for each name, the family and the options that differ from the family's defaults."""

"""The models, by name. Each is a Linen class in a file of its own family."""

from jaxcifar.models.cnn import CNN
from jaxcifar.models.resnet import ResNet
from jaxcifar.models.speednet import SpeedNet

MODELS = {"cnn": CNN, "resnet": ResNet, "speednet": SpeedNet}
"""`MODELS[name](classes=…, compute=…, **options)`, with
`__call__(images: [batch, height, width, channel], *, train) -> logits: [batch, class]`. A model that
takes something from the data before it is trained has `initialise_from(variables, images)` too."""

"""The models, by name. Each is a Linen class in a file of its own family."""

from jaxcifar.models.cnn import CNN

MODELS = {"cnn": CNN}
"""`MODELS[name](classes=…, dtype=…, axis_name=…, **options)`, with
`__call__(images: [batch, height, width, channel], *, train) -> logits: [batch, class]`."""

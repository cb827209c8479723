"""A small pyramid on the built-in images: no download, less than a minute on two cores."""

from ml_collections import ConfigDict

from configs import default


def get_config() -> ConfigDict:
    """Return the configuration."""
    config = default.get_config()
    config.data.name = "shapes"
    config.num_epochs = 8
    config.batch_size = 64
    config.label_smoothing = 0.0
    config.augmentation.cutout.enabled = False
    config.model.cnn.widths = (16, 32, 64)
    config.model.cnn.convs_per_block = (1, 2, 2)
    return config

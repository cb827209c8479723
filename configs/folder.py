"""Your own images: --config.data.folder.path is a directory with a subdirectory per class, or a CSV file."""

from ml_collections import ConfigDict

from configs import default


def get_config() -> ConfigDict:
    """Return the configuration."""
    config = default.get_config()
    config.num_epochs = 30
    config.batch_size = 32
    config.data.name = "folder"
    config.data.image_size = 64
    config.data.validation_split = "validation"
    config.data.folder.validation_share = 0.15
    config.data.folder.test_share = 0.15
    config.augmentation.crop.padding = 6
    config.augmentation.cutout.size = 16
    return config

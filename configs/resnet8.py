"""CIFAR-10 with the network of MLPerf Tiny, in 20 epochs; the benchmark's own recipe has 500."""

from ml_collections import ConfigDict

from configs import default


def get_config() -> ConfigDict:
    """Return the configuration."""
    config = default.get_config()
    config.num_epochs = 20
    config.label_smoothing = 0.0
    config.data.normalisation = "pixels"
    config.augmentation.color_jitter.enabled = False
    config.augmentation.cutout.enabled = False
    config.model.name = "resnet8"
    return config

"""CIFAR-10 with the network and the recipe of the speedruns: most accuracy for a given time."""

from ml_collections import ConfigDict

from configs import default


def get_config() -> ConfigDict:
    """Return the configuration."""
    config = default.get_config()
    config.num_epochs = 8
    config.batch_size = 1000
    config.label_smoothing = 0.2
    config.augmentation.crop.padding = 2
    config.augmentation.color_jitter.brightness = 0.14
    config.augmentation.color_jitter.contrast = 0.13
    config.augmentation.color_jitter.saturation = 0.0
    config.augmentation.color_jitter.hue = 0.0
    config.augmentation.cutout.enabled = False
    config.model.name = "speednet"
    config.optimizer.name = "muon"
    config.optimizer.learning_rate = 0.17
    config.optimizer.muon.bias_multiplier = 311.0
    config.optimizer.muon.head_multiplier = 3950.0
    config.optimizer.muon.weight_decay = 0.078
    config.optimizer.l2_penalty = 0.0
    config.schedule.name = "linear"
    config.schedule.warmup_epochs = 0.0
    config.logging.every_steps = 10
    config.evaluation.batch_size = 1000
    config.evaluation.test_time_augmentation = "mirror_translate"
    return config

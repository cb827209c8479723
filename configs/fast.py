"""CIFAR-10 with the network and the recipe of the speedruns: most accuracy for a given time."""

from ml_collections import ConfigDict

from configs import default


def get_config() -> ConfigDict:
    """Return the configuration."""
    config = default.get_config()
    config.num_epochs = 7
    config.batch_size = 500
    config.label_smoothing = 0.2
    config.augmentation.flip.enabled = False
    config.augmentation.alternating_flip.enabled = True
    config.augmentation.crop.padding = 2
    config.augmentation.color_jitter.enabled = False
    config.augmentation.cutout.enabled = False
    config.model.name = "speednet"
    config.optimizer.name = "muon"
    config.optimizer.learning_rate = 0.12
    config.optimizer.muon.bias_multiplier = 220.0
    config.optimizer.muon.head_multiplier = 2790.0
    config.optimizer.muon.weight_decay = 0.055
    config.optimizer.l2_penalty = 0.0
    config.schedule.name = "linear"
    config.schedule.warmup_epochs = 0.0
    config.logging.every_steps = 10
    config.evaluation.batch_size = 1000
    config.evaluation.test_time_augmentation = "mirror_translate"
    return config

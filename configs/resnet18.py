"""CIFAR-10 with ResNet-18 by the recipe of pytorch-cifar: momentum, a cosine schedule, 200 epochs.

Meant for a GPU; a CPU takes days.
"""

from ml_collections import ConfigDict

from configs import default


def get_config() -> ConfigDict:
    """Return the configuration."""
    config = default.get_config()
    config.num_epochs = 200
    config.label_smoothing = 0.0
    config.augmentation.alternating_flip.enabled = False
    config.augmentation.flip.enabled = True
    config.augmentation.crop.padding = 4
    config.augmentation.color_jitter.enabled = False
    config.augmentation.cutout.enabled = False
    config.model.name = "resnet18"
    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 0.1
    config.optimizer.l2_penalty = 5e-4
    config.optimizer.sgd.nesterov = False
    config.schedule.warmup_epochs = 0.0
    return config

"""The recipe of cifar10-airbench's `airbench94_muon` (github.com/KellerJordan/cifar10-airbench).

As published, except that the whitening's bias is trained to the end, not for three epochs. The published
learning rates are for a loss that is summed over the batch.
"""

from ml_collections import ConfigDict

from configs import fast


def get_config() -> ConfigDict:
    """Return the configuration."""
    config = fast.get_config()
    config.num_epochs = 8
    config.batch_size = 2000
    config.augmentation.color_jitter.enabled = False
    config.optimizer.learning_rate = 0.24
    config.optimizer.muon.bias_multiplier = 0.053 * 2000 / 0.24
    config.optimizer.muon.head_multiplier = 0.67 * 2000 / 0.24
    config.optimizer.muon.weight_decay = 2e-6 * 2000 / (1 - 0.85) / 0.24
    return config

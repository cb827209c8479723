"""The recipe of cifar10-airbench's `airbench94_muon`, as published (github.com/KellerJordan)."""

from ml_collections import ConfigDict

from configs import fast


def get_config() -> ConfigDict:
    """Return the configuration."""
    config = fast.get_config()
    config.num_epochs = 8
    config.batch_size = 2000
    config.optimizer.learning_rate = 0.24
    config.optimizer.muon.bias_multiplier = 440.0
    config.optimizer.muon.head_multiplier = 5600.0
    config.optimizer.muon.weight_decay = 0.1
    return config

"""Files, checkpoints, progress and signals: what knows nothing of the rest."""

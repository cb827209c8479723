"""Files, checkpoints, progress and signals: independent of the rest."""

"""Evaluation of a whole split, padded and masked, and analysis of the predictions."""

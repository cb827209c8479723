"""Augmentations of training and of test time."""

"""Convolutions in oneDNN, for CPUs."""

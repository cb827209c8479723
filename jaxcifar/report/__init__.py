"""Workdir files to plots and pages, without JAX."""

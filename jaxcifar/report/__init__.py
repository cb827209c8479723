"""Turns workdir files into plots and pages, without JAX."""

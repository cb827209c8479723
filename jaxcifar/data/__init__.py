"""Datasets: from files to arrays."""

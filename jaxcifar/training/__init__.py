"""A run and its loop."""

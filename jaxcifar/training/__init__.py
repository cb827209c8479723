"""The recipe and its loop."""

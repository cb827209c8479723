"""Flags, config files, and what can be wrong with either."""

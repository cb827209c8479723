"""The one set-up: from config and workdir to layout, data, steps and state."""

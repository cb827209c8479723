"""Pure functions of arrays: one batch in, new state and counts out."""

"""A whole split, padded and masked, and what its answers tell."""

"""The kind of a parameter, told by its name and its module's name, as Flax's layers name them."""

import re
from typing import Any

import jax


def kinds(params: Any) -> Any:
    """Return the kind of each parameter, in a tree of the same structure.

    - `bias`: offsets and scales of channels: names that end in `bias` or `scale`, and all parameters
      with at most one dimension;
    - `embedding`: added or prepended position by position: names that end in `embedding` or `token`;
    - `head`: the matrix of a dense layer after the features: of a layer directly in the network, not within
      a block, or of a module called `head` or `head_0`;
    - `kernel`: all others: convolutions, and the matrices within blocks.
    """
    return jax.tree_util.tree_map_with_path(_kind, params)


def is_decayed(params: Any) -> Any:
    """Return true for the parameters that are decayed: kernels and heads, not biases or embeddings."""
    return jax.tree.map(lambda kind: kind in ("kernel", "head"), kinds(params))


def _kind(path, leaf):
    *modules, name = (
        (str(getattr(key, "key", key)).lower() for key in path) if path else ("kernel",)
    )
    if leaf.ndim <= 1 or name.endswith(("bias", "scale")):
        return "bias"
    if name.endswith(("embedding", "token")):
        return "embedding"
    in_head = len(modules) <= 1 or re.fullmatch(r"head(_\d+)?", modules[-1]) is not None
    return "head" if leaf.ndim == 2 and in_head else "kernel"

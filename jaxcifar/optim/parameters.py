"""What a parameter is: told by its name and the module it lies in, as Flax's layers name them."""

import re
from typing import Any

import jax


def kinds(params: Any) -> Any:
    """Return what each parameter is, in a tree of the same form.

    - `bias`: offsets and scales of channels: `bias`, `scale`, names that end so, and all that has one
      dimension;
    - `embedding`: what is added or prepended place by place: names that end in `embedding` or `token`;
    - `head`: a matrix that lies in the network itself or in a module that is called `head` or `head_0`, not
      within a block: a dense layer after the features;
    - `kernel`: all else: convolutions, and the matrices within blocks.
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

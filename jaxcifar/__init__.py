"""Image classification in JAX and Flax: `Classifier` answers with a model that was trained here."""

__version__ = "0.1.0"

__all__ = ["Classifier"]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str):
    """Import what is exported when it is first asked for: the rest does without JAX."""
    if name == "Classifier":
        from jaxcifar.evaluation.classifier import Classifier

        return Classifier
    raise AttributeError(f"module 'jaxcifar' has no attribute {name!r}")

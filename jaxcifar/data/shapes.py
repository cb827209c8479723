"""The built-in images: ten shapes, drawn from a seed, for machines that cannot fetch a dataset."""

import numpy as np

SIZE = 32
"""Height and width in pixels."""

# Each function takes coordinates in which the shape has about radius 1, with r the distance from its
# centre, and returns about the signed distance from the outline, negative inside.
_OUTLINES = {
    "disc": lambda u, v, r: r - 1,
    "ring": lambda u, v, r: abs(r - 0.72) - 0.25,
    "square": lambda u, v, r: np.maximum(abs(u), abs(v)) - 0.8,
    "frame": lambda u, v, r: abs(np.maximum(abs(u), abs(v)) - 0.65) - 0.2,
    "triangle": lambda u, v, r: np.maximum(-v, 0.866 * abs(u) + 0.5 * v) - 0.55,
    "plus": lambda u, v, r: np.minimum(
        np.maximum(abs(u) - 1, abs(v) - 0.3), np.maximum(abs(v) - 1, abs(u) - 0.3)
    ),
    "star": lambda u, v, r: r - 0.65 - 0.35 * np.cos(5 * np.arctan2(v, u)),
    "crescent": lambda u, v, r: np.maximum(r - 1, 0.8 - np.hypot(u - 0.5, v)),
    "half": lambda u, v, r: np.maximum(r - 1, v) - 0.05,
    "bars": lambda u, v, r: np.maximum(abs(abs(v) - 0.55) - 0.25, abs(u) - 0.9),
}
CLASS_NAMES = tuple(_OUTLINES)


def draw_shapes(examples: int, seed: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Draw one shape an image, of random position, size, angle, colours, background and noise.

    Returns:
      `images: [examples, 32, 32, 3] uint8` and `labels: [examples] int32`, the classes as evenly
      shared as they can be, in random order; functions of `examples` and `seed` alone.
    """
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(examples, dtype=np.int32) % len(CLASS_NAMES))
    images = np.empty((examples, SIZE, SIZE, 3), np.uint8)
    for start in range(0, examples, 1000):
        part = labels[start : start + 1000]
        images[start : start + 1000] = _draw(part, rng)
    return images, labels


def _draw(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    def draw(low, high, *shape):
        return rng.uniform(low, high, (len(labels), *shape)).astype(np.float32)

    radius = draw(6, 13)[:, None, None]
    x, y = (0.8 * radius + draw(0, 1)[:, None, None] * (SIZE - 1 - 1.6 * radius) for _ in "xy")
    angle = draw(0, 2 * np.pi)[:, None, None]
    down, across = np.mgrid[:SIZE, :SIZE].astype(np.float32)
    u = ((across - x) * np.cos(angle) + (down - y) * np.sin(angle)) / radius
    v = ((down - y) * np.cos(angle) - (across - x) * np.sin(angle)) / radius
    distance = np.empty_like(u)
    for label, outline in enumerate(_OUTLINES.values()):
        chosen = labels == label
        distance[chosen] = outline(u[chosen], v[chosen], np.hypot(u[chosen], v[chosen]))
    inside = np.clip(0.5 - distance * radius, 0, 1)[..., None]

    # The background runs from one colour to another along a random direction.
    direction = draw(0, 2 * np.pi)[:, None, None]
    along = (across - SIZE / 2) * np.cos(direction) + (down - SIZE / 2) * np.sin(direction)
    share = np.clip(0.5 + along / SIZE, 0, 1)[..., None]
    back = draw(0, 1, 1, 1, 3)
    other = np.clip(back + draw(-0.4, 0.4, 1, 1, 3), 0, 1)
    # Each channel of the shape's colour lies 0.25 to 0.5 of the scale from the first background's,
    # up or down at random (wrapped around where it would leave the scale).
    front = (back + rng.choice([-1, 1], back.shape) * draw(0.25, 0.5, 1, 1, 3)) % 1
    clean = inside * front + (1 - inside) * ((1 - share) * back + share * other)
    noise = rng.standard_normal(clean.shape, np.float32) * draw(0, 0.1)[:, None, None, None]
    return (np.clip(clean + noise, 0, 1) * 255).round().astype(np.uint8)

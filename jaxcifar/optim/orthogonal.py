"""Newton-Schulz iterations for all kernels of a network at once."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike


def orthogonalise(
    kernels: Sequence[jax.Array], coefficients: jax.Array, steps: int, dtype: DTypeLike | None
) -> list[jax.Array]:
    """Move all singular values of kernels near one by Newton-Schulz iterations (Jordan et al. 2024).

    Up to rounding, `optax.contrib.scale_by_muon` does the same kernel by kernel. A kernel is a matrix X with
    a column for each output channel, transposed here if it has fewer rows than columns, and divided by its
    Frobenius norm. The matrices are stacked into one or a few batches (`_batches`), padded with zeros below
    and to the right. The zeros change no result: [[X, 0], [0, 0]]ᵀ [[X, 0], [0, 0]] = [[XᵀX, 0], [0, 0]], and
    an iteration X P(XᵀX), with the polynomial P, gives [[X P(XᵀX), 0], [0, 0]], whatever P has on the
    diagonal of the added columns.

    Args:
      kernels: [..., out channel] each, float32 or wider; results and norms have the same type.
      coefficients: [3], those of 1, XᵀX and (XᵀX)² in P.
      steps: iterations.
      dtype: of the products, or None for the kernels' type.
    """
    matrices = [kernel.reshape(-1, kernel.shape[-1]) for kernel in kernels]
    is_wide = [rows < columns for rows, columns in (matrix.shape for matrix in matrices)]
    matrices = [matrix.T if wide else matrix for matrix, wide in zip(matrices, is_wide)]
    results = list(kernels)
    for batch in _batches([matrix.shape for matrix in matrices]):
        x = _iterate(_stack([matrices[i] for i in batch]), coefficients, steps, dtype)
        for place, i in enumerate(batch):
            rows, columns = matrices[i].shape
            matrix = x[place, :rows, :columns].astype(kernels[i].dtype)
            results[i] = (matrix.T if is_wide[i] else matrix).reshape(kernels[i].shape)
    return results


def _batches(shapes):
    """Return batches of indices, largest matrices first; padding at most doubles a batch's work."""

    def work(rows, columns):
        return 4 * rows * columns**2 + 2 * columns**3

    batches = [[]]
    for i in sorted(range(len(shapes)), key=lambda i: work(*shapes[i]), reverse=True):
        together = [shapes[j] for j in (*batches[-1], i)]
        largest = map(max, zip(*together))
        if len(together) * work(*largest) > 2 * sum(work(*shape) for shape in together):
            batches.append([])
        batches[-1].append(i)
    return [batch for batch in batches if batch]


def _stack(matrices):
    rows, columns = map(max, zip(*(matrix.shape for matrix in matrices)))
    return jnp.stack(
        [
            jnp.pad(matrix, ((0, rows - matrix.shape[0]), (0, columns - matrix.shape[1])))
            for matrix in matrices
        ]
    )


def _iterate(x, coefficients, steps, dtype):
    norm = jnp.linalg.norm(x, axis=(1, 2), keepdims=True)
    x = (x / (norm + 1e-8)).astype(dtype or x.dtype)  # as in Optax; a kernel of zeros stays zero
    first, second, third = coefficients
    # Here the term costs nothing; `first * x`, added after the product, would be a pass over the batch.
    constant = first * jnp.eye(x.shape[-1])
    for _ in range(steps):
        square = jnp.einsum("kri,krj->kij", x, x)
        polynomial = constant + second * square + third * (square @ square)
        x = x @ polynomial.astype(x.dtype)
    return x

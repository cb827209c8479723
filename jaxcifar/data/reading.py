"""How image files are read: the size, the channels, the threads and the cache."""

import collections
import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from jaxcifar.data.array_cache import Arrays
from jaxcifar.errors import UserError
from jaxcifar.host import progress
from jaxcifar.host.files import expanded, user_cache

_BLOCK_BYTES = 16 * 2**20
"""Bytes of the pixels that one thread decodes before they are written."""


@dataclasses.dataclass(frozen=True)
class Reading:
    """Say how images are converted, and where the pixels are cached."""

    image_size: int | tuple[int, int] = 0
    """Height and width to which images are scaled and cropped: of a square, or both; 0 to leave them."""
    channels: int = 0
    """1 for grey, 3 for RGB; 0 for the dataset's own."""
    cache_dir: str = ""
    """Where decoded images are cached; empty for the user's cache, if there is one."""

    @property
    def height_width(self) -> tuple[int, int] | None:
        """Return the size, None for the images' own size."""
        size = self.image_size
        return ((size, size) if isinstance(size, int) else size) if size else None

    def cache(self) -> Path | None:
        """Return the directory in which decoded images are kept, None if there is none.

        Raises:
          UserError: a file has that name.
        """
        cache = expanded(self.cache_dir) if self.cache_dir else user_cache("decoded")
        if cache and cache.is_file():
            raise UserError(f"--config.data.cache_dir={self.cache_dir} is a file: name a directory")
        return cache


def decoded(
    decode: Callable[[range], Arrays],
    count: int,
    shape: tuple[int, ...],
    threads: int,
    words: str,
) -> Iterator[Arrays]:
    """Yield `decode(index)` for stretches of `count` images of a shape, in order, and show the progress.

    Each thread decodes at most two stretches ahead.
    """
    size = min(max(_BLOCK_BYTES // math.prod(shape), 1), 1000)
    starts = iter(range(0, count, size))
    waiting: collections.deque[tuple[range, Future[Arrays]]] = collections.deque()
    with progress.bar(count, words) as advance, ThreadPoolExecutor(threads) as pool:
        try:
            while True:
                for start in itertools.islice(starts, 2 * threads + 1 - len(waiting)):
                    index = range(start, min(start + size, count))
                    waiting.append((index, pool.submit(decode, index)))
                if not waiting:
                    return
                index, block = waiting.popleft()
                yield block.result()
                advance(len(index))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

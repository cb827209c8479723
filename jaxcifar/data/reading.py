"""How the files of images are read: to which size and channels, by how many threads, kept where."""

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
"""Of the pixels that one thread decodes before they are written."""


@dataclasses.dataclass(frozen=True)
class Reading:
    """Say what images are made into, and where the pixels are kept."""

    image_size: int | tuple[int, int] = 0
    """Height and width to which images are scaled and cropped: of a square, or both; 0 to leave them."""
    channels: int = 0
    """1 for grey, 3 for RGB; 0 for what the dataset says."""
    cache_dir: str = ""
    """Where decoded images are kept; empty for the user's cache, if there is one."""

    @property
    def height_width(self) -> tuple[int, int] | None:
        """Return the size, None for that of the images."""
        size = self.image_size
        return ((size, size) if isinstance(size, int) else size) if size else None

    def cache(self) -> Path | None:
        """Return the directory in which decoded images are kept, None if there is none.

        Raises:
          UserError: a file has its name.
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
    """Yield `decode(index)` for stretches of `count` images of a shape, in order, and show how far it is.

    Threads decode at most two stretches each ahead.
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

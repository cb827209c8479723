"""Where the arrays of a split lie: on the devices, or on the host, which sends rows of them ahead."""

import collections
import itertools
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxcifar.devices.layout import Layout
from jaxcifar.host.files import unmap

_CHUNK_BYTES = 64 * 2**20
"""Bytes of the rows that are sent at once, unless a single row is larger."""
_THREADS = min(4, os.cpu_count() or 1)
"""Threads that gather rows; each is at most one dispatch ahead of the devices."""


class Span(NamedTuple):
    """Name rows of an order."""

    order: int
    """Which order, such as an epoch."""
    start: int
    stop: int


class Supply(NamedTuple):
    """Hold what a mapped step takes to run a span: `run(state, *supply, key)`."""

    data: Any
    order: Any
    start: int
    stop: int


Order = Callable[[int], np.ndarray]
"""Returns an order, by its number: [rows, batch] int32, indices of examples, negative for padding."""


class Resident:
    """Arrays that every device holds."""

    streamed = False
    most_rows = 2**31 - 1
    """Rows that one dispatch may take."""

    def __init__(self, layout: Layout, arrays: Sequence[np.ndarray]):
        self._layout, self._host, self._placed = layout, tuple(arrays), None
        self._orders: dict[int, jax.Array] = {}

    def like(self, rows: int, order: jax.ShapeDtypeStruct) -> tuple[Any, Any]:
        """Return arrays, or their shapes, like the data and the order of a supply of `rows` rows."""
        del rows
        return self._host, order

    def supply(self, spans: Iterable[Span], order: Order) -> Iterator[Supply]:
        """Return the supply of each span, in turn; an order is sent while the previous one is used."""
        if self._placed is None:
            self._placed = self._layout.put(self._host)
        return self._supplied(self._placed, spans, order)

    def _supplied(
        self, placed: tuple[jax.Array, ...], spans: Iterable[Span], order: Order
    ) -> Iterator[Supply]:
        for number, start, stop in spans:
            self._orders = {number: self._order(number, order)}
            yield Supply(placed, self._orders[number], start, stop)

    def _order(self, number: int, order: Order) -> jax.Array:
        found = self._orders.get(number)
        return self._layout.put(order(number)) if found is None else found


class Streamed:
    """Arrays on the host, whose rows threads gather and send to the devices before they are needed."""

    streamed = True

    def __init__(self, layout: Layout, arrays: Sequence[np.ndarray], batch_size: int):
        self._layout, self._host = layout, tuple(arrays)
        row = sum(batch_size * math.prod(a.shape[1:]) * a.dtype.itemsize for a in arrays)
        self.most_rows = max(_CHUNK_BYTES // row, 1)

    def like(self, rows: int, order: jax.ShapeDtypeStruct) -> tuple[Any, Any]:
        """Return the shapes of the data and the order of a supply of `rows` rows."""
        devices, batch = len(self._layout.devices), order.shape[1]
        split = (rows, devices, batch // devices)
        data = tuple(
            jax.ShapeDtypeStruct((*split, *array.shape[1:]), array.dtype) for array in self._host
        )
        return data, jax.ShapeDtypeStruct((rows, batch), order.dtype)

    def supply(self, spans: Iterable[Span], order: Order) -> Iterator[Supply]:
        """Yield the supply of each span, in turn; threads prepare it ahead of time."""
        orders: dict[int, np.ndarray] = {}

        def rows_of(span: Span) -> np.ndarray:
            if span.order not in orders:
                orders.clear()
                orders[span.order] = order(span.order)
            return orders[span.order][span.start : span.stop]

        waiting: collections.deque[Future[Supply]] = collections.deque()
        left = iter(spans)
        with ThreadPoolExecutor(_THREADS) as pool:
            try:
                while True:
                    for span in itertools.islice(left, _THREADS + 1 - len(waiting)):
                        waiting.append(pool.submit(self._send, rows_of(span)))
                    if not waiting:
                        return
                    yield waiting.popleft().result()
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _send(self, rows: np.ndarray) -> Supply:
        devices = len(self._layout.devices)
        index = rows.reshape(len(rows), devices, -1)
        data = tuple(self._gathered(array, index) for array in self._host)
        for array in self._host:
            unmap(array)
        return Supply(data, self._layout.put(rows), 0, len(rows))

    def _gathered(self, array: np.ndarray, index: np.ndarray) -> jax.Array:
        """Return `array[index]`; this process reads only the part for its own devices."""
        return jax.make_array_from_callback(
            (*index.shape, *array.shape[1:]),
            self._layout.split_rows,
            lambda part: array[index[(part or ())[: index.ndim]]],
        )

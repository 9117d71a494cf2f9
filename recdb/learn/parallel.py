"""Work on all cores, in order and with bounded memory."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from threadpoolctl import threadpool_limits

CORES = os.cpu_count() or 1

Job = TypeVar("Job")
Result = TypeVar("Result")


def in_threads(work: Callable[[Job], Result], jobs: Iterable[Job], threads: int = CORES) -> Iterator[Result]:
    """Yield the results of jobs in their order; twice as many as work at once are taken from `jobs` ahead.

    Meanwhile each product of matrices is computed by one thread: the threads of several at once would wait for each
    other.
    """
    running: deque[Future[Result]] = deque()
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(threads) as pool:
        for job in jobs:
            running.append(pool.submit(work, job))
            if len(running) > 2 * threads:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()

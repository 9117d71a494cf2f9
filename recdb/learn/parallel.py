"""Runs jobs on all cores, with results in order and in bounded memory."""

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
    """Yield the results of jobs in the order of the jobs; at most twice as many jobs as threads are pending.

    Meanwhile BLAS computes each product of matrices with one thread: with more, the threads of several products would
    wait for each other.
    """
    running: deque[Future[Result]] = deque()
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(threads) as pool:
        for job in jobs:
            running.append(pool.submit(work, job))
            if len(running) > 2 * threads:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()

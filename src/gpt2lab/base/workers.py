"""Tasks in several processes that end with their parent; with progress, and a way on when a process dies."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from gpt2lab.base.control_groups import usable_processors
from gpt2lab.base.errors import BadInput

Advance = Callable[[int], None]
LOOKS_EVERY_SECONDS = 0.5


def run_tasks(
    function: Callable[..., None],
    tasks: Sequence[tuple[Any, ...]],
    workers: int,
    advance: Advance,
    bereaved: Callable[..., None] | None = None,
    apart: bool = False,
) -> None:
    """Call `function(*task, advance)` for every task, in `workers` processes, first ones first.

    0 workers are one for each processor that this process may keep busy. What one process can do alone is done in this
    one, unless `apart` asks for another. When a process dies, what is left is done one task at a time, each in a
    process of its own, and `bereaved(*task, advance)` is called here for each task that dies again. Without it raises
    BadInput when a process dies; raises whatever a task raises.
    """
    workers = min(workers or usable_processors(), len(tasks))
    if workers < 2 and not apart:
        for task in tasks:
            function(*task, advance)
        return
    left = _run_in_pool(function, tasks, max(workers, 1), advance)
    if left and bereaved is None:
        raise BadInput(
            "a worker process died (out of memory?); the files that were done are kept. Run the same command again with"
            " --workers 1."
        )
    for task in left:
        if _run_in_pool(function, [task], 1, advance) and bereaved:
            bereaved(*task, advance)


def survives(function: Callable[..., None], task: tuple[Any, ...]) -> bool:
    """Whether a process of its own that does one task lives to its end."""
    return not _run_in_pool(function, [task], 1, lambda _: None)


def _run_in_pool(
    function: Callable[..., None], tasks: Sequence[tuple[Any, ...]], workers: int, advance: Advance
) -> list[tuple[Any, ...]]:
    """The tasks that were left when a process died, in their order; none where all went well."""
    # Not "fork": a forked child of a process with threads (pyarrow has some) may hang.
    context = multiprocessing.get_context("spawn" if os.name == "nt" else "forkserver")
    done_by_workers = context.Value("q", 0)
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker, initargs=(done_by_workers,))
    try:
        task_of = {pool.submit(_run, function, task): task for task in tasks}
        pending = set(task_of)
        seen = 0
        while pending:
            finished, pending = wait(pending, LOOKS_EVERY_SECONDS, FIRST_EXCEPTION)
            done = done_by_workers.value
            advance(done - seen)
            seen = done
            for one in finished:
                one.result()
                del task_of[one]
    except BrokenProcessPool:
        return [task for future, task in task_of.items() if not _did(future)]
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return []


def _did(future: Future[None]) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None


_done: Any = None  # the number that a worker process shares with its parent


def _start_worker(done: Any) -> None:
    """A worker ends at once at Ctrl-C, and when the process that started it is gone, even killed."""
    global _done
    _done = done
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    parent = multiprocessing.parent_process()
    if parent is not None:

        def end_with_parent() -> None:
            parent.join()
            os._exit(1)

        threading.Thread(target=end_with_parent, daemon=True).start()


def _run(function: Callable[..., None], task: tuple[Any, ...]) -> None:
    function(*task, _advance)


def _advance(amount: int) -> None:
    with _done.get_lock():
        _done.value += amount

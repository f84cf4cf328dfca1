"""One task a file: in several processes of this machine, or on a Ray cluster; with progress."""

from collections.abc import Callable, Sequence
from typing import Any

from gpt2lab.base import workers as local
from gpt2lab.base.errors import BadInput
from gpt2lab.base.workers import Advance
from gpt2lab.webtext.engine import ray_cluster


def run_tasks(
    function: Callable[..., None],
    tasks: Sequence[tuple[Any, ...]],
    workers: int,
    advance: Advance,
    ray: str | None = None,
    bereaved: Callable[..., None] | None = None,
) -> None:
    """Call `function(*task, advance)` for every task, here (see base/workers.py) or on a Ray cluster.

    With the address of a Ray cluster the tasks run there, one a core; it must see the same files under the same names.
    """
    if ray is None:
        local.run_tasks(function, tasks, workers, advance, bereaved)
    else:
        _run_on_ray(function, tasks, ray, advance)


def _run_on_ray(
    function: Callable[..., None], tasks: Sequence[tuple[Any, ...]], address: str, advance: Advance
) -> None:
    """Ray runs a task again on another machine when one is lost."""
    ray = ray_cluster(address)
    remote = ray.remote(num_cpus=1, max_retries=3)(_run_and_count)
    pending = [remote.remote(function, task) for task in tasks]
    try:
        while pending:
            finished, pending = ray.wait(pending)
            for amount in ray.get(finished):
                advance(amount)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except ray.exceptions.RayError as error:
        raise BadInput(
            f"the Ray cluster failed ({type(error).__name__}); the files that were done are kept. Run the same command"
            " again."
        ) from None
    finally:
        for one in pending:
            ray.cancel(one, force=True)


def _run_and_count(function: Callable[..., None], task: tuple[Any, ...]) -> int:
    amounts: list[int] = []
    function(*task, amounts.append)
    return sum(amounts)

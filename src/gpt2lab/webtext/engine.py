"""The data engine: Daft for joins and groupings, and Ray where a build is to run on a cluster."""

import logging
import os
import socket
from typing import Any

from gpt2lab.base.errors import BadOption

ANSWER_WITHIN_SECONDS = 5.0

_QUIET = {
    "DAFT_ANALYTICS_ENABLED": "0",
    "DAFT_PROGRESS_BAR": "0",
    "DAFT_RUNNER": "native",  # or it imports Ray, where it is installed, to see whether it runs: half a second
    "RAY_USAGE_STATS_ENABLED": "0",
}


def daft_engine() -> Any:
    """The module `daft`; imported late, since it takes half a second, and without reporting its use to its makers."""
    _be_quiet()
    import daft

    return daft


def ray_cluster(address: str) -> Any:
    """The module `ray`, connected to the cluster at `address` ("host:port", or "auto" on one of its machines).

    From then on this process's Daft plans run there, too. Raises BadOption when Ray is not installed or nothing
    answers.
    """
    _be_quiet()
    try:
        import ray
    except ImportError:
        raise BadOption("ray: Ray is not installed; pip install 'gpt2lab[ray]' here and on the cluster.") from None
    if not ray.is_initialized():
        _demand_answer(address)
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[0][:200]
            raise BadOption(f"ray: can't connect to the cluster at {address} ({reason}).") from None
        os.environ["DAFT_RUNNER"] = "ray"
        daft_engine().set_runner_ray(address=address, noop_if_initialized=True)
    return ray


def _be_quiet() -> None:
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)


def _demand_answer(address: str) -> None:
    """Ray itself would go on trying for minutes."""
    if address == "auto":
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), ANSWER_WITHIN_SECONDS).close()
    except (OSError, ValueError) as error:
        raise BadOption(
            f"ray: nothing answers at {address!r} ({error}); give the HOST:PORT that `ray start --head` printed."
        ) from None

"""Packages that can be called, so that the Python API reads like the command line: `gpt2lab.train(recipe, ...)`.

`gpt2lab.train` is a folder of modules, and importing any of them binds that name to the package; so the package itself
carries the function.
"""

import sys
import types
from collections.abc import Callable
from typing import Any


class _CallablePackage(types.ModuleType):
    _function: Callable[..., Any]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._function(*args, **kwargs)


def callable_package(name: str, function: Callable[..., Any]) -> None:
    """Make the imported package `name` call `function`, and show its documentation and signature."""
    package = sys.modules[name]
    package.__class__ = _CallablePackage
    package._function = function  # type: ignore[attr-defined]
    package.__wrapped__ = function  # type: ignore[attr-defined]  # what inspect.signature follows

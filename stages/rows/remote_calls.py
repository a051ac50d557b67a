"""Calls in other processes. Errors are raised again as they were, whatever arguments their constructors take."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


class RemoteTraceback(Exception):
    """Traceback of an error in the process that raised it; attached as the cause."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


@dataclass(frozen=True)
class CallResult(Generic[ResultT]):
    """Picklable result of a call, or its error as (type, arguments, attributes, traceback)."""

    result: ResultT | None = None
    error: tuple[type[Exception], tuple[Any, ...], dict[str, Any], str] | None = None

    def get(self) -> ResultT:
        """Return the result, or raise the error."""
        if self.error is not None:
            kind, arguments, attributes, trace = self.error
            error = kind.__new__(kind)
            error.args = arguments
            error.__dict__.update(attributes)
            raise error from RemoteTraceback(trace)
        return self.result  # type: ignore[return-value]


def call(function: Callable[[ItemT], ResultT], item: ItemT) -> CallResult[ResultT]:
    """Return the result or the error of function(item)."""
    try:
        return CallResult(function(item))
    except Exception as error:
        return CallResult(error=(type(error), error.args, dict(vars(error)), traceback.format_exc()))

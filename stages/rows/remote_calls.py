"""Calls in other processes: their errors come back as they were, whatever an exception's constructor takes."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


class RemoteTraceback(Exception):
    """The cause of an error that was raised in another process: its traceback there."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


@dataclass(frozen=True)
class Outcome(Generic[ResultT]):
    """What a call gave: a result, or an error taken apart (kind, arguments, attributes, traceback)."""

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


def call(function: Callable[[ItemT], ResultT], item: ItemT) -> Outcome[ResultT]:
    """Return what function(item) gives or raises."""
    try:
        return Outcome(function(item))
    except Exception as error:
        return Outcome(error=(type(error), error.args, dict(vars(error)), traceback.format_exc()))

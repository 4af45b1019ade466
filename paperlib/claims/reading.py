"""Tables about which a claim is asked several questions in a row, so that what they share is worked out once."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import wraps
from typing import Any, TypeVar

import pandas as pd

from paperlib.store import Frames

Answer = TypeVar("Answer")


class Reading(dict[str, pd.DataFrame]):
    """A finding's tables, which nobody changes while it is read, and the answers found so far."""

    def __init__(self, tables: Frames) -> None:
        super().__init__(tables)
        self._answers: dict[Hashable, Any] = {}

    def answer(self, question: Hashable, ask: Callable[[], Answer]) -> Answer:
        """The answer to a question, which is asked the first time only."""
        if question not in self._answers:
            self._answers[question] = ask()
        return self._answers[question]


def once(method: Callable[[Any, Frames], Answer]) -> Callable[[Any, Frames], Answer]:
    """A claim's method, asked once of a :class:`Reading`; of other tables, which may change, it is asked each time.

    Examples
    --------
    >>> class Claim:
    ...     @once
    ...     def judge(self, tables):
    ...         print("judging")
    ...         return "reproduced"
    >>> claim, tables = Claim(), Reading({})
    >>> claim.judge(tables), claim.judge(tables)
    judging
    ('reproduced', 'reproduced')
    """

    @wraps(method)
    def asked(self: Any, tables: Frames) -> Answer:
        if not isinstance(tables, Reading):
            return method(self, tables)
        return tables.answer((self, method.__qualname__), lambda: method(self, tables))

    return asked

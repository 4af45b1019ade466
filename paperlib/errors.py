"""The errors a user can meet: each is one sentence that says what was wrong and what to do."""

from __future__ import annotations

from paperlib._text import lines


class PaperlibError(RuntimeError):
    """Base of the library's own errors.  In a notebook only its sentence is shown, not the way to it."""

    def _render_traceback_(self) -> list[str]:  # IPython's hook
        return [f"{type(self).__name__}: {lines(str(self))}"]


class ConfigError(PaperlibError, ValueError):
    """A parameter is unknown, of the wrong type or impossible."""


class DataError(PaperlibError):
    """A data set cannot be had, or what was found is damaged."""


class RecordError(PaperlibError):
    """A record is malformed or of another schema version."""


class CheckpointError(PaperlibError):
    """A checkpoint is damaged or belongs to another run."""


class ProjectionError(PaperlibError, ValueError):
    """A held kernel cannot be projected.  ``names`` are those of its convolutions in the model."""

    def __init__(self, message: str, names: list[str]) -> None:
        super().__init__(message)
        self.names = names


class ProcessError(PaperlibError):
    """The processes that train one run together are no longer all there, or do not agree."""

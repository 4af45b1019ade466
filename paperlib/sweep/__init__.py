"""Many runs as one piece of work: which they are, what they will cost, how far they are, and the command for all."""

from paperlib.sweep.file import Job, Sweep, read

__all__ = ["Job", "Sweep", "read"]

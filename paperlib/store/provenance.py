"""Where and how something was made: which code, on which machine, when, and by which command."""

from __future__ import annotations

import json
import platform
import subprocess
import time
from collections.abc import Iterable
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Annotated

import torch
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from paperlib import __version__

PACKAGES = ("torch", "torchvision", "numpy", "pandas")  # what the numbers depend on besides


class Device(BaseModel):
    """What computed: ``type`` is ``"cpu"`` or ``"cuda"``, ``name`` the processor's or the GPU's."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: str = Field(description="of device")
    name: str = Field(description="its own")


class Session(BaseModel):
    """One stretch of work without an interruption: its code, versions, device, and time.

    ``commit`` is that of the checkout that holds the package, ``dirty`` whether it had uncommitted changes; both are
    None for a package that was installed without one.  ``settings`` is what was chosen of torch's arithmetic
    (:func:`paperlib.machine.in_force`), and the number of ``processes`` over one.  Device and threads are those of the
    first process.  ``started`` is UTC in ISO 8601.
    """

    model_config = ConfigDict(extra="forbid")

    commit: str | None = Field(description="that of the checkout")
    dirty: bool | None = Field(description="whether the checkout had uncommitted changes")
    versions: dict[str, str] = Field(description="of Python and of each package that matters")
    device: Device = Field(description="what computed")
    threads: int = Field(description="on the CPU")
    settings: dict[str, str] = Field({}, description="what was chosen of torch's arithmetic")
    started: str = Field(description="when, UTC in ISO 8601")
    seconds: float = Field(0.0, description="how long it took")

    _began: float = PrivateAttr(default_factory=time.monotonic)

    @classmethod
    def here(
        cls, device: torch.device | str = "cpu", threads: int | None = None, settings: dict[str, str] | None = None
    ) -> Session:
        """The session that begins here and now, with torch's number of CPU threads unless told otherwise."""
        commit, dirty = git_state()
        return cls(
            commit=commit,
            dirty=dirty,
            versions=versions(),
            device=device_here(device),
            threads=threads or torch.get_num_threads(),
            settings=settings or {},
            started=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        )

    def clock(self) -> None:
        """Set ``seconds`` to the time since this session began (in this process)."""
        self.seconds = time.monotonic() - self._began

    @property
    def short_commit(self) -> str:
        """Eight digits of the commit, with a + if there were uncommitted changes."""
        return (self.commit or "none")[:8] + ("+" if self.dirty else "")

    def environment(self) -> dict[str, object]:
        """What can change the numbers: everything but the time."""
        return self.model_dump(exclude={"started", "seconds"})


class Provenance(BaseModel):
    """The command that makes something again, and the sessions that made it.

    A run that was interrupted has several, perhaps from different commits or machines.
    """

    model_config = ConfigDict(extra="forbid")

    command: str = Field(description="what makes it again")
    sessions: Annotated[list[Session], Field(min_length=1, description="in their order")]

    @classmethod
    def here(cls, command: str, device: torch.device | str = "cpu", threads: int | None = None) -> Provenance:
        """Of something that begins to be made here and now.

        Parameters
        ----------
        command : str
            What makes it again.
        device : torch.device or str
            Where it is computed.
        threads : int, optional
            CPU threads; torch's number by default.

        Returns
        -------
        Provenance
            With one session.  ``last.clock()`` sets its time when the work is done.

        Examples
        --------
        >>> made = Provenance.here("python -m paperlib measure C1")
        >>> made.device.type, len(made.sessions), made.seconds
        ('cpu', 1, 0.0)
        """
        return cls(command=command, sessions=[Session.here(device, threads)])

    @property
    def last(self) -> Session:
        """The session that finished it."""
        return self.sessions[-1]

    @property
    def device(self) -> Device:
        """The device of the last session."""
        return self.last.device

    @property
    def threads(self) -> int:
        """The CPU threads of the last session."""
        return self.last.threads

    @property
    def versions(self) -> dict[str, str]:
        """The versions of the last session."""
        return self.last.versions

    @property
    def started(self) -> str:
        """When the first session began, UTC in ISO 8601."""
        return self.sessions[0].started

    @property
    def seconds(self) -> float:
        """The time that all sessions took together."""
        return sum(session.seconds for session in self.sessions)

    @property
    def commits(self) -> list[str]:
        """The commits of all sessions, each once, in eight digits; + marks uncommitted changes."""
        return list(dict.fromkeys(session.short_commit for session in self.sessions))

    @property
    def short_commit(self) -> str:
        """The commits in one word."""
        return ", ".join(self.commits)


def merged(sessions: Iterable[Session]) -> list[Session]:
    """One session for each environment, in the order of their beginnings, with the seconds of all of its sessions."""
    found: dict[str, Session] = {}
    for session in sorted(sessions, key=lambda s: s.started):
        key = json.dumps(session.environment(), sort_keys=True)
        if key in found:
            found[key].seconds += session.seconds
        else:
            found[key] = session.model_copy()
    return list(found.values())


def git_state() -> tuple[str | None, bool | None]:
    """The commit of the checkout that holds the package, and whether it has uncommitted changes; None without one."""
    checkout = Path(__file__).resolve().parents[2]

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=checkout, capture_output=True, text=True, check=True, timeout=20)
        return done.stdout.strip()

    try:
        # A package installed into some other project's checkout must not report that project's commit.
        if Path(git("rev-parse", "--show-toplevel")) != checkout:
            return None, None
        # Outputs do not change what is computed.
        changes = git("status", "--porcelain", "--", "paperlib", "notebooks/*.py", "requirements.txt")
        return git("rev-parse", "HEAD"), bool(changes)
    except (OSError, subprocess.SubprocessError):
        return None, None


def versions() -> dict[str, str]:
    """Versions of Python, of this library and of what the numbers depend on."""
    found = {"python": platform.python_version(), "paperlib": __version__}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def device_here(device: torch.device | str) -> Device:
    """The device with its name: the GPU's, or the processor's as the system calls it."""
    device = torch.device(device)
    if device.type == "cuda":
        return Device(type="cuda", name=torch.cuda.get_device_name(device))
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.lower().startswith("model name")]
    return Device(type=device.type, name=names[0] if names else platform.processor() or platform.machine())

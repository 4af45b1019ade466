"""The one form in which results are kept: a sealed JSON file with provenance, and the tidy tables that it names.

A folder holds one stored thing.  Its tables are written first, under names that contain their checksum; the JSON file,
which names them, comes last and is put in place by one rename.  So a folder holds the old content or the new, and
never a mixture, wherever a process is killed or a disk is full.  Those who save take turns, and those who read need
not wait.  (Renaming a whole folder over another one is not possible on POSIX; exchanging two is possible only on some
file systems, and not on those of most clusters.)

The seal is a SHA-256 over the whole content, with the checksum of every table.  It finds damage and mistakes, such as
a number that was edited by hand.  It is no protection against somebody who seals a forgery again.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import filelock
import pandas as pd
from pyarrow.parquet import ParquetFile
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError

from paperlib import _checks
from paperlib._text import code, markdown
from paperlib.errors import RecordError
from paperlib.store import files
from paperlib.store.provenance import Provenance

if TYPE_CHECKING:
    from typing_extensions import Self

Frames = dict[str, pd.DataFrame]
LOCK = ".save.lock"
ATTEMPTS = 5  # to read what others replace at the same time
CHANGED = "it was changed after it was saved, its seal is not that of its content"
WORDS = 300  # letters of a reason, at most: a damaged file may hold anything


def digest(content: Any) -> str:
    """SHA-256, in hex, of the canonical JSON of ``content``."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def sealed(content: dict[str, Any]) -> dict[str, Any]:
    """``content`` with its digest under ``seal``."""
    return content | {"seal": digest({key: value for key, value in content.items() if key != "seal"})}


def unsealed(raw: bytes) -> dict[str, Any]:
    """The content of a JSON file that was :func:`sealed`, without the seal.

    Raises
    ------
    ValueError
        It is something else, or was changed since; one short sentence says what is wrong.
    """
    content, whole = _opened(raw)
    if not whole:
        raise ValueError(CHANGED)
    return {key: value for key, value in content.items() if key != "seal"}


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; ValueError where a key stands twice, of which a reader might see the other one."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice")
    return found


def _opened(raw: bytes) -> tuple[dict[str, Any], bool]:
    """The JSON object in a file, and whether its seal is right."""
    try:
        content = json.loads(raw, object_pairs_hook=_once)
        content = content if isinstance(content, dict) else {}
        return content, content.get("seal") == sealed(content)["seal"]
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except ValueError as e:
        raise ValueError(f"it is no JSON: {e}".splitlines()[0]) from None


class Stored(BaseModel):
    """Something that was made and is kept: its fields, its provenance, and its tables.

    Subclasses add fields, give ``kind`` a value of its own, and name their file and what to do where it is damaged.
    """

    # A test loss can be infinite or NaN and must survive the way through JSON.
    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True, ser_json_inf_nan="constants")

    FILE: ClassVar[str]
    NOUN: ClassVar[str]  # what it is called in sentences
    REMEDY: ClassVar[str]  # what to do where it cannot be read
    TABLES: ClassVar[tuple[str, ...]] = ()  # tables that there must be
    SCHEMA: ClassVar[int] = 2  # of this kind's fields

    kind: str = Field(description="what it is")
    provenance: Provenance = Field(description="where and how it was made")
    frames: Frames = Field(default_factory=dict, exclude=True, repr=False, description="the tables, by their names")

    _folder: Path | None = PrivateAttr(default=None)

    @property
    def folder(self) -> Path | None:
        """Where it lies, if it was saved or read."""
        return self._folder

    @property
    def commit(self) -> str:
        """The commits that made it, in one word, in Markdown."""
        return markdown(self.provenance.short_commit)

    @property
    def again(self) -> str:
        """The command that makes it again, as code in Markdown."""
        return code(self.provenance.command)

    def __eq__(self, other: object) -> bool:
        """Equal in every field and, bit for bit, in all tables; where they lie does not matter."""
        if not isinstance(other, type(self)):
            return NotImplemented
        same = self.frames.keys() == other.frames.keys()
        same = same and all(frame.equals(other.frames[name]) for name, frame in self.frames.items())
        return same and self.model_dump_json() == other.model_dump_json()  # as text: NaN equals itself

    def save(self, folder: str | Path) -> Path:
        """Write it into ``folder``, in place of what of its kind is there.

        Returns
        -------
        Path
            The folder.

        Raises
        ------
        RecordError
            It cannot be written.  What was there before is left whole.
        """
        folder = _checks.path("folder", folder)
        missing = [name for name in self.TABLES if name not in self.frames]
        if missing or not self.frames:
            raise ValueError(f"a {self.NOUN} without {', '.join(missing) or 'tables'} cannot be saved")
        content = {name: parquet(frame) for name, frame in self.frames.items()}
        checksums = {name: hashlib.sha256(raw).hexdigest() for name, raw in content.items()}
        raw = self.model_dump(mode="json") | {"schema_version": self.SCHEMA, "tables": checksums}
        text = json.dumps(sealed(raw), indent=2)
        paths = {name: _table_file(folder, name, checksum) for name, checksum in checksums.items()}
        made: list[Path] = []
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with filelock.FileLock(folder / LOCK, timeout=60):
                try:
                    for name, path in paths.items():
                        there = path.exists()
                        if not there or path.read_bytes() != content[name]:
                            files.write_atomically(path, content[name])
                        made += [path] * (not there)
                    files.write_atomically(folder / self.FILE, f"{text}\n".encode())
                except BaseException:
                    for path in made:
                        path.unlink(missing_ok=True)
                    raise
                _clear(folder, paths)
        except OSError as e:
            raise RecordError(
                f"the {self.NOUN} could not be written to {folder}: {e.strerror or e}; make room, or choose another "
                "folder: what was there before is whole"
            ) from e
        self._folder = folder
        return folder

    @classmethod
    def read(cls, folder: str | Path) -> Self:
        """Read what :meth:`save` wrote.

        Raises
        ------
        RecordError
            It is missing, damaged, was changed after it was saved, or is of another schema version.
        """
        path = _checks.path("folder", folder)
        path = path if path.name == cls.FILE else path / cls.FILE
        raw = cls._parsed(path)
        for _ in range(ATTEMPTS):
            try:
                return cls._read(path, dict(raw))
            except RecordError:
                # A table may be gone because somebody has just put a new one in the place of what was read.
                before, raw = raw, cls._parsed(path)
                if raw["seal"] == before["seal"]:
                    raise
        return cls._read(path, raw)

    @classmethod
    def _read(cls, path: Path, raw: dict[str, Any]) -> Self:
        checksums, found = raw.get("tables"), cls._without_tables(path, raw)
        if not isinstance(checksums, dict) or not checksums or not {*cls.TABLES} <= checksums.keys():
            raise cls._unreadable(path, "it does not name its tables")
        found.frames = {name: cls._table(path, name, checksum) for name, checksum in checksums.items()}
        found._folder = path.parent
        try:
            wrong = next((said for said, is_so in found.contradictions().items() if is_so), "")
        except (AttributeError, KeyError, TypeError, ValueError) as e:
            wrong = f"its tables are not those of a {cls.NOUN}: {e!r}"
        if wrong:
            raise cls._unreadable(path, wrong)
        return found

    @classmethod
    def _without_tables(cls, path: Path, raw: dict[str, Any]) -> Self:
        """What the JSON in ``path`` says by itself."""
        try:
            return cls.model_validate({k: v for k, v in raw.items() if k not in ("tables", "seal", "schema_version")})
        except ValidationError as e:
            first = e.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the whole"
            raise cls._unreadable(path, f"it is malformed at '{where}': {first['msg'].lower()}") from e

    def contradictions(self) -> dict[str, bool]:
        """How its parts may not fit together, for a sentence, and whether it is so; the first that is so is told."""
        return {}

    @classmethod
    def read_all(cls, root: str | Path, only: Callable[[Self], bool] | None = None) -> list[Self]:
        """Everything of this kind below ``root``, sorted by path; perhaps nothing.  Raises as :meth:`read`.

        ``only`` says of each, from all but its tables, whether it is read: the tables of others are not opened.
        """
        # Folders that are links are followed; hidden ones are scraps.
        found = glob.glob(str(Path(glob.escape(str(_checks.path("root", root))), "**", cls.FILE)), recursive=True)
        paths = sorted(map(Path, found))
        if only is not None:
            paths = [path for path in paths if only(cls._without_tables(path, cls._parsed(path)))]
        return [cls.read(path) for path in paths]

    @classmethod
    def _parsed(cls, path: Path) -> dict[str, Any]:
        """The JSON in ``path``, once its version and its seal have been found right."""
        try:
            raw, whole = _opened(path.read_bytes())
        except FileNotFoundError:
            raise RecordError(f"there is no {cls.NOUN} at {path.parent}: {path.name} is missing") from None
        except OSError as e:
            raise RecordError(f"{path} is not a readable {cls.NOUN} here: {e.strerror or e}") from e
        except ValueError as e:
            raise cls._unreadable(path, str(e)) from e
        version = raw.get("schema_version")
        if isinstance(version, int) and version != cls.SCHEMA:
            newer = version > cls.SCHEMA
            remedy = "a newer paperlib reads it" if newer else "make it again"
            raise RecordError(
                f"{path} is not a readable {cls.NOUN} here: it has schema version {version!r:.20}, and this paperlib "
                f"reads {cls.SCHEMA}; {remedy}"
            )
        if not isinstance(version, int):
            said = f"it has schema version {version!r:.20}, and this paperlib reads {cls.SCHEMA}"
            raise cls._unreadable(path, said)
        if not whole:
            raise cls._unreadable(path, CHANGED)
        return raw

    @classmethod
    def _table(cls, path: Path, name: str, checksum: Any) -> pd.DataFrame:
        file = _table_file(path.parent, Path(name).name, str(checksum))
        try:
            raw = file.read_bytes()
        except FileNotFoundError:
            raise cls._unreadable(path, f"{file.name} is missing") from None
        except OSError as e:
            raise cls._unreadable(path, f"{file.name}: {e.strerror or e}") from e
        except ValueError as e:  # no name that a file can have
            raise cls._unreadable(path, f"it names no table that there could be: {e}") from e
        if hashlib.sha256(raw).hexdigest() != checksum:
            raise cls._unreadable(path, f"{file.name} is damaged: its checksum is not the recorded one")
        try:
            # pandas' own reader comes to the same, by way of data sets and threads, in more than twice the time.
            return ParquetFile(io.BytesIO(raw)).read(use_threads=False).to_pandas(use_threads=False)
        except (OSError, ValueError) as e:
            raise cls._unreadable(path, f"{file.name} is no table: {e}") from e

    @classmethod
    def _unreadable(cls, path: Path, why: str) -> RecordError:
        said = " ".join(why.encode(errors="replace").decode().split())
        return RecordError(f"{path} is not a readable {cls.NOUN} ({said:.{WORDS}}); {cls.REMEDY}")


def _table_file(folder: Path, name: str, checksum: str) -> Path:
    return folder / f"{name}-{checksum[:8]}.parquet"


def _clear(folder: Path, kept: dict[str, Path]) -> None:
    """Remove older versions of the tables, and what killed processes left; what cannot be removed stays."""
    with contextlib.suppress(OSError):
        for name, path in kept.items():
            for other in folder.glob(f"{glob.escape(name)}-{'[0-9a-f]' * 8}.parquet"):
                if other != path:
                    other.unlink(missing_ok=True)
            files.remove_scraps(folder, f"{glob.escape(name)}-*.parquet")
        files.remove_scraps(folder, "*.json")


def parquet(frame: pd.DataFrame) -> bytes:
    """The content of a Parquet file with this table."""
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    return buffer.getvalue()

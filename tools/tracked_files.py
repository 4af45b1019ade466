"""Refuse files that do not belong in the repository: python tools/tracked_files.py {sizes,paths} [FILE ...]

``sizes`` refuses files over 1 MB, ``paths`` those that name an absolute path of one machine: a home folder or this
checkout.  Without files, all that git tracks are checked.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LARGEST = 1_000_000
# The sample of CIFAR-10 is there once; a notebook has its pictures in it.
EXCEPTIONS = {"cifar10_sample.png": 3_000_000, ".ipynb": 2_000_000}
HOME = re.compile(rb"(?<![\w.~/-])(?:/(?:home|Users)/\w[\w.-]*/|/(?:root)/|[A-Za-z]:\\+Users\\)")


def tracked() -> list[Path]:
    """Every file that git tracks and that is there."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True).stdout
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


def sizes(files: list[Path]) -> Iterator[str]:
    """One sentence for each file that is too large."""
    for path in files:
        largest = EXCEPTIONS.get(path.name) or EXCEPTIONS.get(path.suffix, LARGEST)
        if path.stat().st_size > largest:
            yield f"{path} has {path.stat().st_size:,} bytes; at most {largest:,} are allowed"


def paths(files: list[Path]) -> Iterator[str]:
    """One sentence for each line with a path of one machine.  Binary files are not read."""
    checkout = re.compile(rb"(?<![\w.~-])" + re.escape(str(ROOT).encode()) + rb"(?![\w.-])")
    for path in files:
        content = path.read_bytes()
        if b"\0" in content:
            continue
        for number, line in enumerate(content.splitlines(), 1):
            if found := HOME.search(line) or checkout.search(line):
                yield f"{path}:{number} names a path of one machine, {found.group().decode()}"


def main(arguments: list[str]) -> int:
    """Say what is wrong; the exit status is 1 if anything is."""
    checks = {"sizes": sizes, "paths": paths}
    if not arguments or arguments[0] not in checks:
        print(__doc__, file=sys.stderr)
        return 2
    found = list(checks[arguments[0]]([Path(a) for a in arguments[1:]] or tracked()))
    print(*found, sep="\n", end="\n" if found else "", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Review what the lock installs: python tools/review_dependencies.py

Writes DEPENDENCIES.md from the lock and from what each package says of its licence.  Advisories are the matter of the
workflow `audit`, which asks for them again every week.
"""

from __future__ import annotations

import datetime
import re
import subprocess
import sys
import tempfile
from collections import Counter
from importlib import metadata
from importlib.metadata import PackageMetadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
LOCK, PAGE = ROOT / "requirements.txt", ROOT / "DEPENDENCIES.md"
AUDIT = "pipx run --spec pip-audit==2.10.1 pip-audit --disable-pip --require-hashes -r requirements.txt"
# The first whose words stand in what a package says names its kind; so a choice counts as the freer one.
KINDS = {
    "proprietary": r"proprietary|NVIDIA",
    "MPL": r"\bMPL|Mozilla",
    "LGPL": r"\bLGPL|Lesser General",
    "GPL": r"\bA?GPL|General Public",
    "Apache": r"Apache",
    "BSD": r"BSD",
    "MIT": r"\bMIT\b|MIT-",
    "PSF": r"\bPSF|Python Software Foundation",
    "ISC": r"\bISC\b",
    "others": r"\w",
}
SILENT = "it says none"
COPYLEFT = ("MPL", "LGPL", "GPL")
HEAD = """# What is installed

The lock (`requirements.txt`) names {lines} versions of {packages} packages, each with its hashes. This table was made
on {date} by `python tools/review_dependencies.py` from what the packages say of themselves. What counts is the text of
a licence, and not this table.

By kind: {counts}.

* With copyleft, for their own files alone or for some of them: {copyleft}.
* Proprietary: {proprietary}. They come with torch's build for CUDA; on a processor nothing uses them.
* Without a word on it: {silent}.

Nothing of these packages is part of this repository or of its wheel. The built book and an exported page have a copy of
MathJax in them (Apache 2.0, from sphinx-mathjax-offline).

**Advisories** could not be looked up where this was made. The workflow `audit` looks them up for each change of the
lock, and every week, by

```bash
{audit}
```

| package | versions | licence |
|---|---|---|
"""


def requirements() -> list[tuple[Requirement, list[str]]]:
    """Every requirement of the lock, with its hashes."""
    lines = LOCK.read_text(encoding="utf-8").replace("\\\n", "").splitlines()
    return [(Requirement(line.split(" --hash=")[0].strip()), re.findall(r" --hash=(\S+)", line)) for line in lines]


def locked() -> dict[str, list[Requirement]]:
    """The lock's requirements by package."""
    found: dict[str, list[Requirement]] = {}
    for one, _ in requirements():
        found.setdefault(canonicalize_name(one.name), []).append(one)
    return found


def described(lock: dict[str, list[Requirement]]) -> dict[str, PackageMetadata]:
    """What each package says of itself, as it is installed here; pip fetches those that are not."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        missing = [name for name in lock if not list(metadata.distributions(name=name))]
        pins = [f"{name}{lock[name][0].specifier}" for name in missing]
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "-d", folder]
        if pins:
            subprocess.run([*command, *pins], check=True)
        for path in (None, *map(str, Path(folder).glob("*.whl"))):
            for one in metadata.distributions(**({"path": [path]} if path else {})):
                found.setdefault(canonicalize_name(one.metadata["Name"]), one.metadata)
    return found


def licence(said: PackageMetadata) -> str:
    """A package's licence in its own words: an expression, else classifiers, else the first line of a text."""
    marks = [c.split(" :: ")[-1] for c in said.get_all("Classifier") or [] if c.startswith("License :: ")]
    text = (said.get("License") or "").strip().splitlines()
    words = said.get("License-Expression") or ", ".join(marks) or "".join(text[:1])
    return re.sub(r"[^\w .,()+&/-]", "", words)[:90] or SILENT


def kind(said: str) -> str:
    """The kind of a licence."""
    return next(name for name, words in KINDS.items() if re.search(words, said, re.IGNORECASE))


def page(lock: dict[str, list[Requirement]], said: dict[str, str]) -> str:
    """The table, and what stands above it."""
    kinds = {name: kind(words) for name, words in said.items()}

    def those(*which: str) -> str:
        return ", ".join(f"{name} ({said[name]})" for name in said if kinds[name] in which) or "none"

    rows = [f"| {name} | {', '.join(str(r.specifier)[2:] for r in lock[name])} | {said[name]} |" for name in lock]
    head = HEAD.format(
        lines=sum(map(len, lock.values())),
        packages=len(lock),
        date=datetime.date.today().isoformat(),
        counts=", ".join(f"{name} {count}" for name, count in Counter(kinds.values()).most_common()),
        copyleft=those(*COPYLEFT),
        proprietary=", ".join(name for name in said if kinds[name] == "proprietary") or "none",
        silent=", ".join(name for name in said if said[name] == SILENT) or "none",
        audit=AUDIT,
    )
    return head + "\n".join(rows) + "\n"


def main() -> int:
    """Write the page."""
    lock = locked()
    found = described(lock)
    PAGE.write_text(page(lock, {name: licence(found[name]) for name in lock}), encoding="utf-8")
    print(f"review_dependencies: {len(lock)} packages in {PAGE.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

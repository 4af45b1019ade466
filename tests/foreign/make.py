"""Measure the whole compatibility table, store it, and renew its page: ``make compatibility``."""

from __future__ import annotations

import json
import time
from importlib import metadata

import torch
from foreign import table
from foreign.cases import CASES
from foreign.measure import COLUMNS

from paperlib.store import Provenance
from paperlib.store.files import write_atomically
from paperlib.store.stored import sealed

if __name__ == "__main__":
    torch.set_num_threads(1)
    if missing := sorted({case.package for case in CASES if not case.is_installed}):
        raise SystemExit(f"the table has networks of {', '.join(missing)}: pip install {' '.join(missing)}")
    made, rows = Provenance.here("make compatibility"), []
    for case in CASES:
        began = time.perf_counter()
        found = {name: column(case)._asdict() for name, column in COLUMNS.items()}
        rows.append({"network": case.name, "package": case.package, "named": bool(case.blocks), "columns": found})
        outcomes = ", ".join(f"{name} {entry['outcome']}" for name, entry in found.items())
        print(f"{case.package} {case.name}, {time.perf_counter() - began:.0f} s: {outcomes}", flush=True)
    content = {
        "command": made.command,
        "date": made.started[:10],
        "device": made.device.name,
        "threads": made.threads,
        "versions": made.versions.copy() | {name: metadata.version(name) for name in ("timm", "transformers")},
        "git": {"commit": made.last.commit, "dirty": made.last.dirty},
        "rows": rows,
    }
    write_atomically(table.RECORD, (json.dumps(sealed(content), indent=1) + "\n").encode())
    write_atomically(table.PAGE, table.on_page(table.PAGE.read_text(), content).encode())

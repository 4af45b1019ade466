"""Ten seeds of a cell of the channel grid side by side in grouped convolutions, against one after another.

The device is CUDA if there is one: there the grid trains seeds side by side, on a CPU one after another.  Only the
training steps count: the time of a run without any is taken off.
"""

from __future__ import annotations

import time

import torch
from paired import arguments, ratios, report

from paperlib import cifar
from paperlib.channel_grid import Cell, train_cell
from paperlib.machine import keep_freed_memory

SEEDS = range(10)


def steps_seconds(c: int, steps: int, together: bool, device: str, data: cifar.Cifar) -> float:
    """Seconds of ``steps`` steps of all seeds, with the projection."""
    took = []
    for stage in (steps, 0):
        began = time.perf_counter()
        cell = Cell(c=c, d=c, seeds=SEEDS, stages=[stage], probe_images=10, device=device)
        train_cell(cell, data, together=together)
        if device == "cuda":
            torch.cuda.synchronize()
        took.append(time.perf_counter() - began)
    return took[0] - took[1]


if __name__ == "__main__":
    a = arguments(__doc__, rounds=5, channels={"type": int, "nargs": "+", "default": [2, 16, 64]})
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        keep_freed_memory()
    data, steps = cifar.load("cifar10", "sample"), 200 if device == "cuda" else 4
    cells = {}
    for c in a.channels:
        steps_seconds(c, 2, True, device, data)  # warm
        steps_seconds(c, 2, False, device, data)
        apart, together = [], []
        for _ in range(a.rounds):
            apart.append(steps_seconds(c, steps, False, device, data))
            together.append(steps_seconds(c, steps, True, device, data))
        cells[f"{c}->{c}"] = {
            "milliseconds_a_step_of_ten_seeds_together": round(1000 * min(together) / steps, 2),
            "apart_over_together": ratios(apart, together),
        }
    measured = {"on": device, "seeds": len(SEEDS), "batch_size": 128, "rounds": a.rounds, "cells": cells}
    report("channel_grid", measured, a.save)

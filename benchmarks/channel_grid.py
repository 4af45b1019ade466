"""Ten seeds of a cell of the channel grid side by side in grouped convolutions, against one after another.

The device is CUDA if there is one: there the grid trains seeds side by side, on a CPU one after another.  Only the
training steps count.
"""

from __future__ import annotations

from functools import partial
from unittest.mock import patch

import torch
from paired import arguments, ratios, report

from paperlib import cifar
from paperlib.channel_grid import Cell, cell
from paperlib.channel_grid import steps as grid_steps
from paperlib.channel_grid.cell import started
from paperlib.channel_grid.steps import WARM
from paperlib.machine import full_float32, keep_freed_memory, settings
from paperlib.studies.overhead import seconds

SEEDS = range(10)
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def steps_seconds(c: int, steps: int, together: bool, device: torch.device, data: cifar.Cifar) -> float:
    """Seconds of ``steps`` steps of all seeds, with the projection, after some that are not timed."""
    took = 0.0
    for seeds in [SEEDS] if together else [(seed,) for seed in SEEDS]:
        trained = started(Cell(c=c, d=c), seeds, data, device)
        trained.until(2 * (WARM + 1))  # on CUDA, until both graphs are captured
        took += seconds(partial(trained.until, trained.done + steps))
    return took


def in_layout(layout: torch.memory_format, c: int, steps: int, device: torch.device, data: cifar.Cifar) -> float:
    """Milliseconds of a step of all seeds together in a layout of the images, chosen by the device otherwise."""
    with (
        patch.object(cell, "memory_format", lambda device: layout),
        patch.object(grid_steps, "memory_format", lambda device: layout),
    ):
        return round(1000 * min(steps_seconds(c, steps, True, device, data) for _ in range(2)) / steps, 2)


if __name__ == "__main__":
    a = arguments(__doc__, rounds=5, channels={"type": int, "nargs": "+", "default": [2, 16, 64]})
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    keep_freed_memory()
    # An epoch of the sample has eight steps: on CUDA its beginning, on the host, would be what is timed.
    data, steps = (cifar.load("cifar10"), 200) if device.type == "cuda" else (cifar.load("cifar10", "sample"), 4)
    cells = {}
    with settings(str(device)), full_float32():
        for c in a.channels:
            apart, together = [], []
            for _ in range(a.rounds):
                apart.append(steps_seconds(c, steps, False, device, data))
                together.append(steps_seconds(c, steps, True, device, data))
            cells[f"{c}->{c}"] = {
                "milliseconds_a_step_of_ten_seeds_together": round(1000 * min(together) / steps, 2),
                "apart_over_together": ratios(apart, together),
            }
            if device.type == "cuda":  # which layout has the faster kernels there is not known yet
                cells[f"{c}->{c}"]["milliseconds_together_by_layout"] = {
                    name: in_layout(layout, c, steps, device, data) for name, layout in LAYOUTS.items()
                }
    measured = {"on": str(device), "seeds": len(SEEDS), "batch_size": 128, "rounds": a.rounds, "cells": cells}
    report("channel_grid", measured, a.save)

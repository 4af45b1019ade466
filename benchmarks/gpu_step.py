"""Training steps on a CUDA device: the textbook loop, and the library's with and without its shortcuts.

All variants of a depth are timed in one process, in turns.  A variant's time is that of some steps launched one after
another, until the device has done them.  The textbook loop has float32 parameters and images that are on the device
already, torch's defaults (which take TF32 for convolutions), and looks at its loss after each step; so does its twin
with bfloat16 and channels-last images.  The library's steps also gather and augment their batch, watch every block's
gradient norms, and hold the transitions of a ProcResNet.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from paired import arguments, report
from torch import nn

from paperlib import cifar, models
from paperlib.config import RunConfig
from paperlib.machine import full_float32, settings
from paperlib.training.benchmark import BenchmarkRun, noise

BATCH = 128
SHORTCUTS: dict[str, dict[str, Any]] = {
    "one by one": {"fused": False, "cuda_graphs": False},
    "graphs": {"fused": False, "cuda_graphs": True},
    "graphs and fused": {"fused": True, "cuda_graphs": True},
    "graphs and fused blocks": {"fused": "blocks", "cuda_graphs": True},
}


def textbook(arch: str, depth: int, quick: bool) -> Callable[[int], None]:
    """So many steps of a plain loop; ``quick``: in bfloat16 and channels-last."""
    form = torch.channels_last if quick else torch.contiguous_format
    model = models.build(arch, depth).cuda().to(memory_format=form)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    images = torch.randn(BATCH, 3, 32, 32, device="cuda").contiguous(memory_format=form)
    labels = torch.randint(10, (BATCH,), device="cuda")

    def steps(number: int) -> None:
        with settings("cuda", deterministic=False):
            torch.backends.cudnn.benchmark = quick
            for _ in range(number):
                optimizer.zero_grad()
                with torch.autocast("cuda", torch.bfloat16, enabled=quick):
                    loss = F.cross_entropy(model(images), labels)
                loss.backward()
                optimizer.step()
                loss.item()

    return steps


def ours(made: BenchmarkRun) -> Callable[[int], None]:
    """So many steps of the library's loop."""

    def steps(number: int) -> None:
        with settings("cuda", deterministic=made.run.config.deterministic), full_float32():
            made(number)

    return steps


def side_by_side(all_runs: list[BenchmarkRun]) -> Callable[[int], None]:
    """So many steps of each of several runs, in turn, each on its stream."""
    streams = [made.run.stream() for made in all_runs]
    going = [ours(made) for made in all_runs]

    def steps(number: int) -> None:
        for _ in range(number):
            for stream, step in zip(streams, going, strict=True):
                with stream:
                    step(1)

    return steps


def seconds(steps: Callable[[int], None], number: int) -> float:
    """Seconds for a step."""
    torch.cuda.synchronize()
    began = time.perf_counter()
    steps(number)
    torch.cuda.synchronize()
    return (time.perf_counter() - began) / number


def bandwidth() -> float:
    """Bytes that a copy on the device moves per second, read and written."""
    a = torch.randn(1 << 29, device="cuda")
    b = torch.empty_like(a)
    for _ in range(3):
        b.copy_(a)
    began, ended = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    began.record()
    for _ in range(10):
        b.copy_(a)
    ended.record()
    torch.cuda.synchronize()
    return 10 * 2 * a.numel() * 4 / (began.elapsed_time(ended) / 1000)


def floor_bytes(model: models.Network, batch: int, width: int) -> int:
    """The least that a step must move: every convolution reads its input and writes its output forward, and reads both
    sides' values and gradients and writes one gradient backward; each batch normalisation reads its input once more for
    its statistics, forward and backward, because they are complete only at the last pixel.  Weights are not counted.

    ``width`` is the bytes of a number.
    """
    images = torch.zeros(1, 3, 32, 32)
    moved: list[int] = []

    def conv(module: nn.Module, args: Any, out: torch.Tensor) -> None:
        # Its input is read forward, for the weight's gradient and by the norm before; its gradient is written.
        moved.append(4 * args[0].numel() + 3 * out.numel())

    def norm(module: nn.Module, args: Any, out: torch.Tensor) -> None:
        moved.append(2 * out.numel())

    hooks = [
        module.register_forward_hook(conv if isinstance(module, nn.Conv2d) else norm)
        for module in model.modules()
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d)
    ]
    with torch.no_grad():
        model(images)
    for hook in hooks:
        hook.remove()
    return sum(moved) * batch * width


def measure(depth: int, rounds: int, number: int, data: cifar.Cifar, budget: float) -> dict[str, Any]:
    """Images per second of every variant at a depth, and ratios to the textbook loop, round by round."""
    began = time.perf_counter()
    found: dict[str, Any] = {}
    variants: dict[str, Callable[[int], None]] = {}
    base = {"arch": "resnet", "depth": depth, "device": "cuda", "preset": "paper", "seed": 0}

    def add(name: str, make: Callable[[], Callable[[int], None]]) -> None:
        if time.perf_counter() - began > budget / 2:  # the rest is for the timings
            return
        torch.cuda.reset_peak_memory_stats()
        start, before = time.perf_counter(), torch.cuda.memory_allocated()
        try:
            steps = make()
            steps(3)
            torch.cuda.synchronize()
        except Exception as e:
            found[f"{name}: failed"] = f"{type(e).__name__}: {str(e)[:400]}"
            print(depth, name, found[f"{name}: failed"], flush=True)
            return
        found[f"{name}: seconds to the third step"] = round(time.perf_counter() - start, 2)
        # The variants before it stay where they are.
        found[f"{name}: peak GB"] = round((torch.cuda.max_memory_allocated() - before) / 1e9, 2)
        variants[name] = steps

    add("textbook", lambda: textbook("resnet", depth, quick=False))
    add("textbook, bfloat16, channels-last", lambda: textbook("resnet", depth, quick=True))
    # What decides comes first, since the time may not be enough for all.
    for name, shortcuts in reversed(SHORTCUTS.items()):
        config = RunConfig(**base, precision="bfloat16", **shortcuts)
        add(f"bfloat16, {name}", lambda config=config: ours(BenchmarkRun(config.resolve(), data)))
    for name in ("graphs and fused", "graphs and fused blocks"):
        config = RunConfig(**base, precision="float32", **SHORTCUTS[name])
        add(f"float32, {name}", lambda config=config: ours(BenchmarkRun(config.resolve(), data)))
    for title, fused in (("4 side by side", True), ("blocks, 4 side by side", "blocks")) if depth <= 164 else ():
        seeds = [RunConfig(**base | {"seed": seed}, precision="bfloat16", fused=fused) for seed in range(4)]
        add(f"bfloat16, {title}", lambda seeds=seeds: side_by_side([BenchmarkRun(c.resolve(), data) for c in seeds]))
    times: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, steps in variants.items():
            if time.perf_counter() - began < budget:
                times[name].append(seconds(steps, number))
    for name, each in times.items():
        if each:
            several = 4 if "side by side" in name else 1
            found[f"{name}: images per second"] = round(several * BATCH / min(each))  # the best round's
            if len(times.get("textbook", [])) == len(each):
                ratios = [a * several / b for a, b in zip(times["textbook"], each, strict=True)]
                found[f"{name}: over textbook"] = [round(min(ratios), 2), round(max(ratios), 2)]
    found["floor GB a step, bfloat16"] = round(floor_bytes(models.build("resnet", depth), BATCH, 2) / 1e9, 3)
    return found


def profile(depth: int, data: cifar.Cifar, fused: bool) -> str:
    """Where the device's time goes in a step."""
    config = RunConfig(preset="paper", arch="resnet", depth=depth, device="cuda", precision="bfloat16", fused=fused,
                       cuda_graphs=False)  # fmt: skip
    steps = ours(BenchmarkRun(config.resolve(), data))
    steps(3)
    torch.cuda.synchronize()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
        steps(3)
        torch.cuda.synchronize()
    return profiler.key_averages().table(sort_by="cuda_time_total", row_limit=60, max_name_column_width=90)


if __name__ == "__main__":
    a = arguments(
        __doc__, rounds=3,
        depths={"type": int, "nargs": "+", "default": [20, 83, 164, 1001]},
        steps={"type": int, "default": 30},
        budget={"type": float, "default": 60.0, "help": "seconds for a depth"},
        profile={"metavar": "FILE", "help": "write where the device's time goes at depth 164"},
        out={"metavar": "FILE", "help": "write the measurements there"},
    )  # fmt: skip
    data = noise(50_000, 10_000)
    content: dict[str, Any] = {"batch_size": BATCH, "rounds": a.rounds, "steps_a_round": a.steps}
    content["copy_bytes_per_second"] = round(bandwidth())
    if a.profile:
        Path(a.profile).write_text(profile(164, data, fused=True) + "\n\n" + profile(164, data, fused=False))
    for depth in a.depths:
        content[f"depth {depth}"] = measure(depth, a.rounds, a.steps, data, a.budget)
        torch.cuda.empty_cache()
        # After each, since the next may be cut off.
        report("gpu_step", content, a.save and depth == a.depths[-1], out=a.out)

"""The README: its benchmark figures are the stored ones, its example runs, and nothing in it waits to be filled in."""

import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()


def stored(name):
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())


def test_benchmark_figures_are_the_stored_ones():
    step, probe, memory = stored("training_step"), stored("probe_overhead"), stored("memory")
    grid = stored("channel_grid")
    projection, cases = stored("projection"), stored("spectrum")["cases"]
    times = {case: found["numpy_over_ours"]["median"] for case, found in cases.items()}
    reference = projection["over_ours"]["reference"]
    wanted = [
        f"{step['plain_over_ours']['median']:.2f} times as fast (median of {step['rounds']} pairs",
        f"{100 * (probe['of_medians'] - 1):.1f} % longer by medians of {probe['rounds']}",
        f"{100 * probe['hooks_over_rest_of_step']['median']:.1f} % of the step",
        f"{projection['percent_of_a_step']:.2f} % of its training step",
        f"{reference['median']:,.0f} times as long (median of {projection['rounds']['others']} pairs, "
        f"smallest {reference['smallest']:,.0f})",
        f"at every frequency {projection['over_ours']['svd']['median']:.0f} times",
        f"{times['3->64 3x3 n=32']:.1f} times as fast (3→64, 3×3 on 32×32), {times['64->64 3x3 n=32']:.1f} (64→64), "
        f"{times['64->128 1x1 n=16']:.0f} and {times['128->256 1x1 n=8']:.0f} (ProcResNet's 1×1 kernels)",
        f"{grid['cells']['16->16']['apart_over_together']['median']:.2f} times as fast as one after another (16→16, median of {grid['rounds']} pairs)",
        f"{memory['kept']['peak_gib']} GiB; {memory['recomputed']['peak_gib']} GiB",
    ]
    assert [w for w in wanted if w not in README] == []


def test_the_example_runs(capsys):
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL).group(1)
    exec(compile(code, "README.md", "exec"), {})
    low, high = eval(capsys.readouterr().out.splitlines()[-1])
    assert abs(low - 1) < 1e-5 and abs(high - 1) < 1e-5


def test_no_placeholders():
    assert not re.search(r"\b[A-Z]+_[A-Z_]*TABLE\b|\| HOOKS \||TODO|XXX", README)

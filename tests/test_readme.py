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
    wanted = [
        f"{step['plain_over_ours']['median']:.2f} times as fast (median of {step['rounds']} pairs",
        f"{100 * (probe['of_medians'] - 1):.1f} % longer by medians of {probe['rounds']}",
        f"{100 * probe['hooks_over_rest_of_step']['median']:.1f} % of the step",
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

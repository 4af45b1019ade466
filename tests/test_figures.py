"""Figures: they draw what the table says, also for short, diverged and extreme runs, and leave matplotlib's settings alone."""

import math

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from drawing import drawn

from paperlib import figures, models
from paperlib.figures import audit


def epochs(n, bad_end=False):
    frame = pd.DataFrame({"epoch": range(1, n + 1), "lr": [0.1] * (n // 2) + [0.01] * (n - n // 2)})
    for column in ("train_loss", "test_loss", "train_error", "test_error"):
        frame[column] = np.linspace(90, 10, n)
    if bad_end:
        frame.loc[n - 1, ["test_loss", "test_error"]] = np.nan
    return frame


def blocks(n, arch="resnet", depth=29, scale=0.1, bad_end=False):
    rows = []
    names = models.describe(models.build(arch, depth))
    generator = np.random.default_rng(0)
    for e in range(1, n + 1):
        for i, r in enumerate(names, 1):
            value = float("nan") if bad_end and e == n and i > 4 else generator.normal() * scale
            rows.append({"epoch": e, "block": i, "name": r["name"], "kind": r["kind"], "log_ratio": value})
    return pd.DataFrame(rows)


CASES = [(6, 0.1, False), (1, 0.1, False), (100, 0.02, False), (3, 8.0, True), (2, 1e-6, False)]


@pytest.mark.parametrize(("n", "scale", "bad_end"), CASES)
@pytest.mark.parametrize("arch", ["plain", "procresnet"])
def test_every_figure_of_a_run_draws(n, scale, bad_end, arch):
    table = blocks(n, arch, scale=scale, bad_end=bad_end)
    before = dict(mpl.rcParams)
    drawn(figures.learning_curves(epochs(n, bad_end), "title"))
    for draw in (figures.ratio_heatmap, figures.ratio_lines, figures.gradient_profile):
        drawn(draw(table, "title"))
    drawn(figures.compare_runs(pd.concat([epochs(n, bad_end).assign(run=r) for r in "ab"])))
    drawn(figures.compare_ratios(pd.concat([table.assign(run=r) for r in "ab"])))
    assert dict(mpl.rcParams) == before


def test_the_heatmap_shows_the_ratios():
    table = blocks(3)
    image = drawn(figures.ratio_heatmap(table)).axes[0].images[0]
    expected = np.exp(table.pivot(index="block", columns="epoch", values="log_ratio")).to_numpy()
    assert np.allclose(image.get_array(), expected)
    assert image.norm.vmin * image.norm.vmax == pytest.approx(1)  # white is 1


def test_the_profile_multiplies_the_ratios():
    table = blocks(1)
    line = drawn(figures.gradient_profile(table)).axes[0].lines[0]
    logs = table.sort_values("block").log_ratio.to_numpy()
    for block, value in zip(line.get_xdata(), line.get_ydata(), strict=True):
        assert value == pytest.approx(np.exp(-logs[int(block) - 1 :].sum()))


@pytest.mark.parametrize(("arch", "depth"), [("plain", 11), ("resnet", 164), ("procresnet", 1001)])
def test_the_drawing_has_a_box_for_every_block_it_shows(arch, depth):
    table = pd.DataFrame(models.describe(models.build(arch, depth)))
    figure = drawn(figures.network(table, "title"))
    boxes = [p for p in figure.axes[0].patches if type(p).__name__ == "FancyBboxPatch"]
    hidden = sum(int(t.get_text()[1:]) for t in figure.axes[0].texts if t.get_text().startswith("+"))
    assert len(boxes) + hidden == len(table)


def test_the_figures_of_the_audit_draw():
    taps = [
        {"kernel": k, "stage": s, "row": i, "column": j, "energy": e}
        for k in "ab"
        for s, e in (("before", 1.0), ("after", 0.0))
        for i in range(3)
        for j in range(3)
    ]
    assert len(drawn(audit.tap_energy(pd.DataFrame(taps))).axes) >= 4
    values = pd.DataFrame({"kernel": ["a"] * 50 + ["b"] * 50, "ratio": np.linspace(0.3, 1.2, 100)})
    drawn(audit.singular_value_shares(values))
    steps = [
        {"side": s, "precision": p, "steps": n, "error": e}
        for s in ("input side", "output side")
        for p in ("float32", "float64")
        for n, e in ((1, 1.0), (2, 1e-5), (3, math.inf))
    ]
    drawn(audit.gram_sides(pd.DataFrame(steps), taken=2))
    waits = pd.DataFrame(
        {"schedule": ["a", "a", "b"], "wait": [0, 1, 1], "share": [0.6, 0.4, 1.0], "expected": [0.5, 0.25, None]}
    )
    drawn(audit.waiting_times(waits))

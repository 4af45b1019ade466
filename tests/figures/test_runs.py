"""Chapter 4's figures draw what the table says, also of short, diverged and extreme runs."""

import functools

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from drawing import drawn, lines

from paperlib import figures, models


def epochs(n, bad_end=False):
    frame = pd.DataFrame({"epoch": range(1, n + 1), "lr": [0.1] * (n // 2) + [0.01] * (n - n // 2)})
    for column in ("train_loss", "test_loss", "train_error", "test_error"):
        frame[column] = np.linspace(90, 10, n)
    if bad_end:
        frame.loc[n - 1, ["test_loss", "test_error"]] = np.nan
    return frame


@functools.cache
def described(arch, depth):
    return models.describe(models.build(arch, depth))


def blocks(n, arch="resnet", depth=29, scale=0.1, bad_end=False):
    rows = []
    names = described(arch, depth)
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


@pytest.mark.parametrize(("limit", "extend"), [(None, "neither"), (1.01, "both"), (30, "neither")])
def test_the_heatmap_says_that_ratios_are_beyond_its_limit(limit, extend):
    figure = drawn(figures.ratio_heatmap(blocks(3), limit=limit))
    assert figure.axes[0].images[0].colorbar.extend == extend


def test_a_heatmap_is_of_one_run():
    with pytest.raises(ValueError, match="give the rows of one run"):
        figures.ratio_heatmap(pd.concat([blocks(2), blocks(2)]))


def test_the_heatmap_names_the_transitions():
    table = blocks(2)
    labels = [t.get_text() for t in drawn(figures.ratio_heatmap(table)).axes[0].get_yticklabels()]
    for row in table[(table.epoch == 1) & (table.kind == "transition")].itertuples():
        assert f"{row.name.replace('_', ' ')}  ({row.block})" in labels


def test_the_lines_are_the_ratios():
    table = blocks(3)
    figure = drawn(figures.ratio_lines(table))
    residual = table[table.kind == "residual"]
    drawn_lines = [line for line in figure.axes[0].lines if len(line.get_xdata()) == 3]
    assert len(drawn_lines) == residual.block.nunique()
    first = residual[residual.block == residual.block.iloc[0]]
    assert drawn_lines[0].get_ydata() == pytest.approx(np.exp(first.log_ratio).to_numpy())
    assert list(lines(figure)) == ["stage 1", "stage 2", "stage 3"]


def test_a_network_without_transitions_is_told():
    table = blocks(2)
    figure = drawn(figures.ratio_lines(table[table.kind == "residual"]))
    assert [t.get_text() for t in figure.axes[1].texts] == ["this network has none"]
    assert figure.axes[0].get_legend() and not figure.axes[1].get_legend()


def test_the_curves_are_the_columns():
    table = epochs(6, bad_end=True)
    loss, error = drawn(figures.learning_curves(table, "title")).axes
    for ax, what in ((loss, "loss"), (error, "error")):
        train, test, falls = ax.lines
        assert np.array_equal(train.get_ydata(), table[f"train_{what}"])
        assert np.array_equal(test.get_ydata(), table[f"test_{what}"], equal_nan=True)
        assert list(falls.get_xdata()) == [3.5, 3.5]  # the learning rate falls between epochs 3 and 4
    assert (loss.get_yscale(), error.get_yscale()) == ("linear", "linear")
    low, high = table[["train_loss", "test_loss"]].min(axis=None), table[["train_loss", "test_loss"]].max(axis=None)
    assert high < 10 * low
    table.loc[0, "train_loss"] = 10.1 * low
    assert [ax.get_yscale() for ax in figures.learning_curves(table).axes] == ["log", "linear"]


def test_the_profile_multiplies_the_ratios():
    table = blocks(1)
    line = drawn(figures.gradient_profile(table)).axes[0].lines[0]
    logs = table.sort_values("block").log_ratio.to_numpy()
    for block, value in zip(line.get_xdata(), line.get_ydata(), strict=True):
        assert value == pytest.approx(np.exp(-logs[int(block) - 1 :].sum()))


def test_runs_are_compared_by_name():
    table = pd.concat([epochs(3).assign(run="second"), epochs(3).assign(run="first", test_error=[3.0, 2.0, 1.0])])
    found = lines(drawn(figures.compare_runs(table)))
    assert list(found) == ["second", "first"]
    assert found["first"][1].tolist() == [3, 2, 1]


def test_ratios_are_compared_by_the_median_of_their_size():
    table = pd.DataFrame(
        {"run": "a", "epoch": e, "kind": kind, "log_ratio": value * e}
        for e in (1, 2)
        for kind, values in (("residual", (-0.3, 0.1, 0.2)), ("transition", (-1.0, 2.0)))
        for value in values
    )
    figure = drawn(figures.compare_ratios(table))
    assert lines(figure, 0)["a"][1] == pytest.approx(np.exp([0.2, 0.4]))
    assert lines(figure, 1)["a"][1] == pytest.approx(np.exp([1.5, 3.0]))
    # Three transitions have no percentiles to speak of.
    assert [len(ax.collections) for ax in figure.axes] == [1, 0]


@pytest.mark.parametrize(("arch", "depth"), [("plain", 11), ("resnet", 164), ("procresnet", 1001)])
def test_the_drawing_has_a_box_for_every_block_it_shows(arch, depth):
    table = pd.DataFrame(described(arch, depth))
    figure = drawn(figures.network(table, "title"))
    boxes = [p for p in figure.axes[0].patches if type(p).__name__ == "FancyBboxPatch"]
    hidden = sum(int(t.get_text()[1:]) for t in figure.axes[0].texts if t.get_text().startswith("+"))
    assert len(boxes) + hidden == len(table)
    arcs = sum(type(p).__name__ == "PathPatch" for p in figure.axes[0].patches)
    skips = table.skip.isin(["identity", "projection"]).sum()
    assert (arcs > 0) == (skips > 0) and arcs <= skips
    assert any("no skips" in t.get_text() for t in figure.axes[0].texts) == (arch == "plain")

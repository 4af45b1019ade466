"""How ratios are printed and drawn."""

import math
import sys

import matplotlib
import pytest

from paperlib.probes.tables import SHOWN, plot, rows, text


def made(n):
    pairs = [[1.0, 1.0 + i] for i in range(n)]
    return rows([f"b{i}" for i in range(n)], ["block"] * n, pairs, [""] * n)


def test_ratios():
    found = rows(list("abcd"), ["block"] * 4, [[2.0, 1.0], [0.0, 1.0], [0.0, 0.0], [math.nan, 1.0]], [""] * 4)
    assert [row["ratio"] for row in found[:2]] == [0.5, math.inf]
    assert all(math.isnan(row["ratio"]) for row in found[2:])
    assert [row["why"] for row in found[::2]] == ["", "the gradient is zero"]
    assert found[1]["why"] == found[3]["why"] == "the gradient is not finite, or vanishes"


def test_few_blocks_are_all_printed():
    assert len(text("title", made(SHOWN)).splitlines()) == SHOWN + 2


def test_of_many_blocks_the_first_the_last_and_the_extremes():
    lines = text("title", made(100)).splitlines()
    assert len(lines) == 2 + 2 * (SHOWN // 3) + 1 + 2
    assert "… 92 more …" in lines[6]
    assert lines[-2].strip() == "smallest ratio: 1 at b0" and lines[-1].strip() == "largest ratio: 100 at b99"


@pytest.mark.parametrize("n", [2, 100])
def test_plot(n, monkeypatch):
    matplotlib.use("Agg")
    ax = plot(made(n))
    values = next(line.get_ydata() for line in ax.lines if len(line.get_ydata()) == n and line.get_marker() == "o")
    assert list(values) == [1.0 + i for i in range(n)]
    assert plot(made(n), ax) is ax
    matplotlib.pyplot.close("all")
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match="plot needs matplotlib"):
        plot(made(n))


def test_ratios_near_one_have_plain_numbers_beside_them():
    matplotlib.use("Agg")
    ax = plot(rows(["a", "b"], ["block"] * 2, [[2.0, 1.2], [1.0, 1.3]], [""] * 2))
    ax.figure.canvas.draw()
    written = [label.get_text() for which in ("major", "minor") for label in ax.yaxis.get_ticklabels(which=which)]
    assert {"0.7", "1"} <= set(written) and not any("times" in text for text in written)
    matplotlib.pyplot.close("all")

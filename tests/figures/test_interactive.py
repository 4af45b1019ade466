"""What the interactive figures hold: the numbers of their tables, in little space, as JSON that stays in its tag."""

import base64
import json
import math
import re
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import section4_tables as tables
from matplotlib.figure import Figure

from paperlib.channel_grid import VARIANTS, read
from paperlib.figures import interactive
from paperlib.figures._style import ARCHITECTURES
from paperlib.store import results_root
from paperlib.studies import channel_grid, norm_preservation, section4

STATIC = Path(__file__).resolve().parents[2] / "book" / "_static"
LARGEST = 60_000  # characters of JSON in a page


def in_html(html):
    """The data in a piece of HTML."""
    scripts = re.findall(r'<script type="application/json">(.*?)</script>', html, re.DOTALL)
    assert len(scripts) == 1
    return json.loads(scripts[0])


def epochs(**grid):
    table = tables.ratios(archs=("procresnet",), depths=(20,), **grid)
    return table, interactive.ratios_over_epochs(table)["networks"][0]


# -- chapter 5 ---------------------------------------------------------------------------------------------------
def test_ratios_are_geometric_means_over_the_seeds_with_their_spread():
    table, _ = epochs(seeds=(0, 1))
    first = (table.epoch == 2) & (table.block == 1)
    table.loc[first, "log_ratio"] = [math.log(2), math.log(8)]
    found = interactive.ratios_over_epochs(table)["networks"][0]
    assert found["name"] == "ProcResNet-22" and found["blocks"][0] == "stage1 block1"
    assert (found["transitions"], found["epochs"], found["seeds"]) == ([0, 3], [0, 1, 2, 3], [2, 2, 2, 2])
    assert found["heights"][2][0] == 200  # the root of 2 · 8, in hundredths of a doubling
    assert found["spread"][2][0] == 141 and found["spread"][2][1] == 0
    assert found["extreme"][2] == [0, 4.0]
    assert found["median"][2] == pytest.approx(math.exp(0.1), abs=5e-4)


def test_networks_come_by_architecture_the_deepest_first():
    found = interactive.ratios_over_epochs(tables.ratios(archs=("resnet", "plain")))["networks"]
    assert [n["name"] for n in found] == [f"{a}-{d}" for a in ("Plain", "ResNet") for d in (164, 83, 20)]


def test_one_seed_has_no_spread():
    assert epochs(seeds=(0,))[1]["spread"] == [[]] * 4


def test_a_run_that_ended_counts_as_far_as_it_went():
    table, _ = epochs(seeds=(0, 1))
    table.loc[(table.epoch == 2) & (table.seed == 1), "log_ratio"] = math.nan
    found = interactive.ratios_over_epochs(table[(table.epoch < 3) | (table.seed == 0)])["networks"][0]
    assert found["seeds"] == [2, 2, 1, 1]
    assert found["heights"][3] == found["heights"][1] and found["spread"][3] == []


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
def test_what_is_not_finite_is_no_point(bad):
    table, _ = epochs(seeds=(0,))
    table.loc[table.epoch == 1, "log_ratio"] = bad
    found = interactive.ratios_over_epochs(table)["networks"][0]
    assert found["heights"][1] == [None] * 5 and found["extreme"][1] == [] and found["median"][1] is None
    in_html(interactive.html({"networks": [found]}, "", ""))


def test_of_many_epochs_some_are_left_out_but_not_the_ends():
    found = epochs(seeds=(0,), epochs=200)[1]
    assert len(found["epochs"]) == 26 == len(set(found["epochs"]))
    assert found["epochs"][0] == 0 and found["epochs"][-1] == 200
    assert set(np.diff(found["epochs"])) == {8}


# -- chapter 1 ---------------------------------------------------------------------------------------------------
def spectra(depths):
    """All blocks of a chain of L are between 1 − b/L and 1 + 1/L, for the b-th of them."""
    rows = [
        {"schedule": schedule, "L": L, "block": b, "lowest": 1 - b / L, "highest": 1 + 1 / L}
        for schedule in ("geometric", "arc")
        for L in depths
        for b in range(L, 0, -1)
    ]
    return pd.DataFrame(rows)


def test_bars_are_the_blocks_in_their_order_and_delta_their_largest_distance_from_one():
    found = interactive.spectra_by_depth(spectra([2, 4]))
    assert found["depths"] == [2, 4] and found["rate"] == [0.6931, 0.5199]
    assert [s["name"] for s in found["schedules"]] == ["geometric (the paper's)", "equal arcs"]
    assert found["schedules"][0]["bars"][0] == [[0.5, 1.5], [0.0, 1.5]]
    assert found["schedules"][1]["delta"] == [1.0, 1.0]


def test_neighbours_share_a_bar_in_a_long_chain():
    bars = interactive.spectra_by_depth(spectra([256]))["schedules"][0]["bars"][0]
    assert len(bars) == 128
    assert bars[0] == [0.9922, 1.004] and bars[-1] == [0.0, 1.004]


def test_without_a_table_there_is_nothing_to_draw():
    assert interactive.spectra_by_depth(spectra([]).reindex(columns=["schedule", "L", "block"]))["schedules"] == []
    assert interactive.ratios_over_epochs(tables.ratios().iloc[:0])["networks"] == []


# -- chapter 3 ---------------------------------------------------------------------------------------------------
def grid_rows():
    row = {"lr": 0.1, "step": 9, "variant": "free", "ratio": 0.5, "spread": 1.25, "alive": 3, "dead": 2}
    cells = [row | {"c": c, "d": d} for c in (2, 4) for d in (2, 8)]
    dead = row | {"lr": 0.01, "c": 4, "d": 8, "ratio": math.nan, "spread": math.nan, "alive": 0, "dead": 5}
    return pd.DataFrame([*cells, dead, row | {"variant": "conv", "c": 64, "d": 64}])


def test_cells_stand_under_variant_rate_and_step():
    found = interactive.ratios_by_channels(grid_rows(), {"conv-relu": "held", "free": "not held"})
    assert (found["variants"], found["rates"], found["steps"]) == (["not held"], [0.01, 0.1], [9])
    assert (found["c"], found["d"]) == ([2, 4], [2, 8])
    assert found["cells"] == {"0,1,0": [[0.5, 1.25, 3, 2]] * 4, "0,0,0": [[], [], [], [None, None, 0, 5]]}
    assert found["told"] == {"0,1,0": [4, 2.0, "2 → 2", 0.5], "0,0,0": []}


def test_a_cell_shows_the_number_of_the_heat_map():
    """Rounded once: 1.2854 is 1.29, and not 1.285 and then 1.28."""
    shown = {1.28546: 1.29, 12.4996: 12.0, 0.01234: 0.01234, 0.5: 0.5}
    rows = pd.concat(grid_rows()[:1].assign(c=i, ratio=ratio) for i, ratio in enumerate(shown))
    found = interactive.ratios_by_channels(rows, {"free": "f"})["cells"]["0,0,0"]
    assert [cell[0] for cell in found] == list(shown.values())


# -- the HTML ----------------------------------------------------------------------------------------------------
def test_what_a_record_names_stays_within_the_data():
    bad = "</script><b>&amp;<!--\u2028\"'"
    made = interactive.html({"networks": [bad]}, f"{bad} label", f"{bad} instead")
    assert in_html(made) == {"networks": [bad]}
    assert made.count("<script") == 1 == made.count("</script>")
    assert "<b>" not in made and "<!--" not in made
    assert re.findall(r"<(\w+)", made) == ["figure", "p", "script"]


def test_the_picture_is_part_of_the_text():
    made = interactive.html({}, 'a "label"', "instead", Figure(figsize=(2, 1)))
    (stored,) = re.findall(r'<img src="data:image/webp;base64,([^"]+)" alt="a &quot;label&quot;" width="192">', made)
    assert base64.b64decode(stored).startswith(b"RIFF")


def test_the_same_table_in_another_order_gives_the_same_text():
    table = tables.ratios()
    one, other = (interactive.html(interactive.ratios_over_epochs(t), "a", "b") for t in (table, table.iloc[::-1]))
    assert one == other
    grid = grid_rows()
    one, other = (interactive.ratios_by_channels(t, {"free": "f"}) for t in (grid, grid.iloc[::-1]))
    assert interactive.html(one, "a", "b") == interactive.html(other, "a", "b")


def test_numbers_that_are_not_finite_are_refused():
    with pytest.raises(ValueError):
        interactive.html({"ratio": math.nan}, "a", "b")


# -- what the book shows -----------------------------------------------------------------------------------------
def stored_data():
    records = section4.stored("desk", [results_root()])
    precision = section4.usual_precision(records)
    ratios = section4.ratios(section4.main_grid([r for r in records if r.config.precision == precision]))
    grids = [read(results_root() / "channel_grid" / folder) for folder in ("desk", "desk-b4f34ff4")]
    by_rate = channel_grid.over_rates({grid.config.lr: grid.measurements for grid in grids})
    return {
        "epochs": interactive.ratios_over_epochs(ratios),
        "spectra": interactive.spectra_by_depth(norm_preservation.read_spectra().blocks),
        "channels": interactive.ratios_by_channels(by_rate, {name: v.title for name, v in VARIANTS.items()}),
    }


@pytest.fixture(scope="module")
def stored():
    return stored_data()


def test_the_stored_records_fit_in_a_page(stored):
    for kind, data in stored.items():
        assert data["drawing"] == kind
        html = interactive.html(data, "a", "b")
        assert in_html(html) == json.loads(json.dumps(data))
        assert 2_000 < len(html) < LARGEST, kind


def test_the_stored_records_fill_every_control(stored):
    assert len(stored["epochs"]["networks"]) == 9
    assert all(n["epochs"][0] == 0 for n in stored["epochs"]["networks"])
    assert stored["spectra"]["depths"] == [2**i for i in range(1, 11)]
    assert [s["name"] for s in stored["spectra"]["schedules"]] == ["geometric (the paper's)", "uniform", "equal arcs"]
    assert stored["channels"]["rates"] == [0.01, 0.1]
    assert len(stored["channels"]["cells"]) == (7 + 2) * 4


# -- the script and its colours ----------------------------------------------------------------------------------
def test_the_script_needs_nothing_from_outside_and_writes_no_markup():
    script, style = ((STATIC / f"interactive.{kind}").read_text() for kind in ("js", "css"))
    assert re.findall(r"\w+://[^\s\"')]+", script + style) == ["http://www.w3.org/2000/svg"]
    assert not re.search(
        r"innerHTML|insertAdjacentHTML|document\.write|eval\(|fetch\(|XMLHttp|import\b|url\(", script + style
    )
    assert len(script.encode()) <= 15_000


def test_the_colours_of_the_architectures_are_the_static_figures():
    style = (STATIC / "interactive.css").read_text()
    light = style[: style.index('html[data-theme="dark"]')]
    for arch, colour in ARCHITECTURES.items():
        assert f"--drawing-{arch}: {mpl.colors.to_hex(colour)};" in light


def luminance(colour):
    parts = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in mpl.colors.to_rgb(colour)]
    return float(np.dot([0.2126, 0.7152, 0.0722], parts))


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(("theme", "page"), [("light", "#ffffff"), ("dark", "#121212")])
def test_colours_can_be_told_from_their_ground(theme, page):
    style = (STATIC / "interactive.css").read_text()
    blocks = re.findall(r'^html(?:\[data-theme="dark"\])? \{(.*?)^\}', style, re.MULTILINE | re.DOTALL)
    values = dict(re.findall(r"--drawing-([\w-]+): (#\w+);", blocks[theme == "dark"]))
    for mark in ("plain", "resnet", "procresnet", "accent", "one", "muted"):
        assert contrast(values[mark], page) >= 3, mark
    for ground in ("low", "middle", "high"):
        assert contrast(values["ink"], values[ground]) >= 4.5, ground

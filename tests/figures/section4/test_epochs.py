"""The drawing that steps through the epochs: whole, small, and in need of nothing from outside."""

import json
import math
import re

import pytest
import section4_tables as tables

from paperlib.figures import section4 as draw


def data(html):
    return json.loads(re.search(r"data = (\{.*\});", html).group(1))


def test_the_data_are_the_table():
    table = tables.ratios(archs=("plain", "resnet"), seeds=(0,), value=math.log(2))
    table.loc[(table.epoch == 2) & (table.block == 1), "log_ratio"] = math.nan
    found = data(draw.stepper(table, "title"))["depths"]
    assert list(found) == ["164", "83", "20"]
    panels = found["164"]
    assert [panel["name"] for panel in panels] == ["Plain-164", "ResNet-164"]
    assert panels[0]["kinds"] == "trrtr" and panels[0]["names"][1] == "stage1 block2"
    assert panels[0]["values"][0] == [-1, 1, -1, 1, -1]
    assert panels[0]["values"][2] == [None, 1, -1, 1, -1]
    assert len(panels[0]["values"]) == 4


def test_epochs_that_are_missing_are_empty():
    table = tables.ratios(archs=("plain",), depths=(20,), seeds=(0,)).query("epoch > 1")
    assert data(draw.stepper(table))["depths"]["20"][0]["values"][:2] == [[None] * 5] * 2


def test_it_needs_nothing_from_outside_and_is_small():
    html = draw.stepper(tables.ratios(seeds=(0,), epochs=100))
    outside = [a for a in re.findall(r"\w+://[^\s\"']+", html) if a != "http://www.w3.org/2000/svg"]
    assert outside == [] and "src=" not in html and "@import" not in html
    assert len(html) < 1_500_000
    assert html.count("<script>") == 1 == html.count("</script>")


def test_two_drawings_have_two_names():
    ids = {re.search(r'id="([\w-]+)"', draw.stepper(tables.ratios(seeds=(0,), value=v))).group(1) for v in (0.1, 0.2)}
    assert len(ids) == 2


@pytest.mark.parametrize("bad", [math.inf, -math.inf])
def test_what_is_not_finite_is_no_point(bad):
    table = tables.ratios(archs=("plain",), depths=(20,), seeds=(0,), value=0.0).assign(log_ratio=bad)
    assert data(draw.stepper(table))["depths"]["20"][0]["values"][0] == [None] * 5


def test_without_records_it_says_so():
    assert draw.stepper(tables.ratios().iloc[:0]) == "<p>There is no record to step through yet.</p>"


def test_what_a_record_names_does_not_leave_the_data():
    table = tables.ratios(seeds=(0,)).assign(name="</script><b>")
    html = draw.stepper(table, "<i>title</i>")
    assert html.count("</script>") == 1 and "<b>" not in html and "<i>" not in html
    assert data(html)["depths"]["20"][0]["names"][0] == "</script><b>"

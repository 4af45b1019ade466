"""Tables as pages show them: everything is in them, escaped, and the same each time."""

import math

import pandas as pd

from paperlib.studies.tables import fitted

TABLE = pd.DataFrame({("a", "x"): [1.25, math.nan], ("a", "y"): ["<b>", ""]}, index=pd.Index(["u", "v"], name="w"))


def test_a_table_is_whole_and_escaped_and_always_the_same():
    html = fitted(TABLE, "one")
    assert html == fitted(TABLE, "one") != fitted(TABLE, "two")
    assert html.count(">–<") == 2 and ">1.25<" in html and "&lt;b&gt;" in html and "<b>" not in html
    assert ">u<" in html and ">w<" in html and "white-space: normal" in html


def test_an_index_can_be_left_out_even_one_with_equal_rows():
    table = pd.DataFrame({"n": [1, 2]}, index=["same", "same"])
    assert "same" not in fitted(table, "one", index=False) and ">2<" in fitted(table, "one", index=False)

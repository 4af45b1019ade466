"""Lemma 1 by numbers."""

import pytest

from paperlib.studies import norm_preservation as studies


def test_lemma_1_is_attained_and_loose_where_it_should_be():
    table = studies.lemma1().set_index("M")
    assert ((table.lower <= table.smallest + 1e-12) & (table.largest <= table.upper + 1e-12)).all()
    assert table.largest["a multiple of I"] == pytest.approx(1.6)
    assert table.smallest["a negative multiple of I"] == pytest.approx(0.4)
    assert table.largest["skew-symmetric"] == pytest.approx((1 + 0.36) ** 0.5) == table.smallest["skew-symmetric"]
    assert table.smallest["random, singular"] < 1 < table.largest["random, singular"]

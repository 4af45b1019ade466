"""Numbers as the rules' sentences write them."""

from paperlib.claims._wording import percent, power, spelled


def test_powers_of_ten_have_no_leading_zero():
    assert [power(x) for x in (1e-12, 1e-5, 1e-10, 2.5e-6)] == ["1e-12", "1e-5", "1e-10", "2.5e-6"]


def test_percent():
    assert [percent(x) for x in (0.025, 0.01, 0.95, 0.07)] == ["2.5 %", "1 %", "95 %", "7 %"]


def test_numbers_to_ten_are_words():
    assert [spelled(n) for n in (1, 8, 10, 11)] == ["one", "eight", "ten", "11"]

"""The figure of interventions shows each seed, each mean and its interval, in its place."""

import numpy as np
import pytest
from drawing import drawn
from synthetic_interventions import family, record

from paperlib.figures import interventions as figures
from paperlib.studies import interventions as studies


def tables(records):
    pairs = studies.differences(studies.runs(records))
    return pairs, studies.effects(pairs)


def marks(ax, size):
    return [(line.get_xdata()[0], *line.get_ydata()) for line in ax.get_lines() if line.get_markersize() == size]


def test_seeds_means_and_intervals_are_where_they_belong():
    pairs, means = tables([*family(), *(record(52.0 + 5 * s, s, project=False) for s in range(3))])
    dose, other = drawn(figures.paired_differences(pairs, means, "title")).axes
    np.testing.assert_allclose(marks(dose, 7), [(0.5, 3.0), (2.0, 4.0)])
    np.testing.assert_allclose([seeds[1:] for seeds in marks(dose, 4)], [(2.5, 3.0, 3.5), (4.5, 4.0, 3.5)])
    bars = [line.get_ydata() for line in dose.get_lines() if line.get_linewidth() == 2 and line.get_linestyle() == "-"]
    np.testing.assert_allclose(bars, means[means.label != "free"][["low", "high"]])
    assert [y for _, y in marks(other, 7)] == [2.0]
    assert [text.get_text() for text in other.get_xticklabels()] == ["free"]
    assert [text.get_text() for text in dose.get_xticklabels()] == ["0.5", "1", "2"]


def test_several_settings_have_a_legend_and_few_seeds_no_interval():
    ways = [record(40.0, depth=29), record(41.0, depth=29, hold_at=2), record(42.0, depth=29, hold_at="1 1 2")]
    figure = drawn(figures.paired_differences(*tables([*family(), *ways])))
    (legend,) = figure.legends
    assert [text.get_text()[:13] for text in legend.get_texts()] == ["ProcResNet-22", "ProcResNet-31"]
    assert len(marks(figure.axes[0], 7)) == 3 and len(marks(figure.axes[1], 7)) == 1


@pytest.mark.parametrize("records", [family(), [record(50.0), record(51.0, projector="fixed")]])
def test_one_kind_of_intervention_alone(records):
    figure = drawn(figures.paired_differences(*tables(records)))
    none = [text.get_text() for text in figure.axes[1].texts]
    assert (none == ["none on record"]) == (len(records) > 2)

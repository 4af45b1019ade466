"""The figure of costs shows runs as marks and predictions as lines, each in its colour."""

import numpy as np
import pandas as pd
from drawing import drawn

from paperlib.figures.costs import costs


def test_marks_are_runs_and_lines_are_predictions():
    kinds = ["cpu, float32", "gpu, bfloat16"]
    runs = pd.DataFrame({"kind": kinds, "depth": [20, 164], "milliseconds": [3.0, 0.1], "memory": [1.5, 4.0]})
    times = pd.DataFrame({"kind": np.repeat(kinds, 2), "depth": [20, 164] * 2, "milliseconds": [2.0, 20.0, 0.02, 0.2]})
    memory = pd.DataFrame(
        {"kind": kinds[0], "batch": [32, 32, 128, 128], "depth": [20, 164] * 2, "memory": [1, 2, 3, 9]}
    )
    figure = drawn(costs(runs, times, memory))
    time, space = figure.axes
    lines = [line for line in time.get_lines() if line.get_linestyle() == "-"]
    marks = [line for line in time.get_lines() if line.get_linestyle() == "None"]
    assert [line.get_ydata().tolist() for line in lines] == [[2.0, 20.0], [0.02, 0.2]]
    assert [line.get_ydata().tolist() for line in marks] == [[3.0], [0.1]]
    assert [line.get_color() for line in lines] == [line.get_color() for line in marks]
    drawn_memory = [line.get_ydata().tolist() for line in space.get_lines() if line.get_linestyle() == "-"]
    assert drawn_memory == [[1, 2], [3, 9]]
    assert [text.get_text() for text in space.texts] == ["batch 32", "batch 128"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == kinds

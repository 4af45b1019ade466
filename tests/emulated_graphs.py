"""CUDA graphs without CUDA: what a replay would do, done anew each time.

The code that is captured is the same, and so is everything around it; only the recording is missing.
"""

import contextlib

from paperlib.captured import Captured, CapturedEvaluation
from paperlib.holding import NormPreserving
from paperlib.training.run import Run


class _Graph:
    def __init__(self, replay):
        self.replay = replay


def _capture(self, size):
    def replay():
        optimizer, probe = self.parts.optimizer, self.parts.probe
        before = [group["lr"] for group in optimizer.param_groups]
        forwards = probe.forwards if probe else None
        try:
            for group in optimizer.param_groups:
                group["lr"] = self.lr
            optimizer.found_inf = self.stopped
            self._step(size)
        finally:
            for group, rate in zip(optimizer.param_groups, before, strict=True):
                group["lr"] = rate
            del optimizer.found_inf
            if probe:
                probe.forget(forwards)

    return _Graph(replay)


def at_launch(patch, number, act):
    """Call ``act`` after the launch of this number, counted over all runs; returns a list with an entry a launch."""
    launch, calls = Captured.launch, []

    def counted(self):
        launch(self)
        calls.append(1)
        if len(calls) == number:
            act()

    patch.setattr(Captured, "launch", counted)
    return calls


def emulate(patch):
    """Replay steps on the CPU from now on; ``patch`` is pytest's monkeypatch."""
    patch.setattr(Run, "replays", property(lambda run: run.config.cuda_graphs and run.world.size == 1))
    patch.setattr(Run, "stream", lambda run: contextlib.nullcontext())
    patch.setattr(Captured, "_capture", _capture)
    patch.setattr(
        NormPreserving, "capture", lambda self, wanted: setattr(self, "_graph", _Graph(lambda: self._project(wanted)))
    )

    def capture_evaluation(self):
        self._graph = _Graph(lambda: self.add(self.images, self.labels))

    patch.setattr(CapturedEvaluation, "_capture", capture_evaluation)

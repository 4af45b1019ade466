"""What a run costs, by arithmetic: from costs that are given, not timed."""

import emulated_graphs
import pytest
import torch

from paperlib.config import RunConfig
from paperlib.store.provenance import Device, device_here
from paperlib.sweep import cost

GIVEN = cost.Costs(
    host="a",
    device=device_here("cpu"),
    side_by_side=2,
    startup=20.0,
    per_image={"float32": (0.002, 0.0001), "bfloat16": (0.001, 0.00005)},
)


def config(**given):
    return RunConfig(preset="smoke", device="cpu", precision="float32", **given).resolve()


def test_the_work_of_a_run_is_counted_in_images_of_a_training_step():
    run = config(depth=20, epochs=3, train_images=200, test_images=100, batch_size=50)
    # A clean evaluation sees as many training images as there are test images; the first ratios take each once, in
    # eight batches at most.
    assert cost.images(run) == pytest.approx(3 * (200 + cost.EVAL_COST * (100 + 100)) + 200)
    few = config(depth=20, epochs=1, train_images=10, test_images=100, batch_size=50)
    assert cost.images(few) == pytest.approx(10 + cost.EVAL_COST * (100 + 10) + 10)
    many = config(depth=20, epochs=1, train_images=300, test_images=100, batch_size=20)
    assert cost.images(many) == pytest.approx(300 + cost.EVAL_COST * (100 + 100) + 8 * 20)


@pytest.mark.parametrize(("depth", "per_image"), [(20, 0.004), (164, 0.0184), (1001, 0.1021)])
def test_the_time_of_a_run_is_the_start_and_a_line_over_the_depth(depth, per_image):
    run = config(depth=depth)
    assert GIVEN.seconds(run) == pytest.approx(20 + cost.images(run) * per_image)


def test_each_precision_has_its_line():
    run = config(depth=20)
    half = run.model_copy(update={"precision": "bfloat16"})
    assert GIVEN.seconds(half) - 20 == pytest.approx((GIVEN.seconds(run) - 20) / 2)


def test_the_line_goes_through_both_timed_depths_and_never_falls(monkeypatch):
    monkeypatch.setattr(cost, "_step_seconds", lambda run, batch: batch * (0.5 + 0.01 * run.depth))
    assert cost._lines("cpu", ["float32"])["float32"] == pytest.approx((0.5, 0.01))
    monkeypatch.setattr(cost, "_step_seconds", lambda run, batch: batch / run.depth)
    assert cost._lines("cpu", ["float32"])["float32"] == pytest.approx((1 / 20, 0.0))


def test_on_a_gpu_the_steps_of_a_run_are_timed_which_are_graphs(monkeypatch):
    emulated_graphs.emulate(monkeypatch)
    waited = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: waited.append(len(launched)))
    launched = emulated_graphs.at_launch(monkeypatch, 10**6, None)
    run = config(depth=11, train_images=40, test_images=10, batch_size=20, arch="procresnet")
    assert 0 < cost._run_seconds(run) < 10
    assert waited == [cost.REPLAYED, 2 * cost.REPLAYED]
    there = run.model_copy(update={"device": "cuda"})
    monkeypatch.setattr(cost, "_run_seconds", lambda run: 3.0)
    assert cost._seconds_an_image(there) == 3.0 / 20


def test_a_run_on_a_gpu_keeps_its_activations_there():
    run = config(depth=164, batch_size=128)
    there = run.model_copy(update={"device": "cuda"})
    assert cost.memory_bytes(there) == cost.PROCESS_BYTES + cost.CUDA_BYTES
    assert cost.memory_bytes(run) == pytest.approx(cost.PROCESS_BYTES + run.activation_bytes())


class Clocked:
    """A clock, and a step that takes so long by it, the first time three times as long."""

    now = 0.0

    def __init__(self, seconds):
        self.seconds, self.calls, self.configs = seconds, 0, []

    def made(self, config, images, labels):
        self.configs.append((config, len(images), len(labels)))
        return self

    def __call__(self):
        self.calls += 1
        self.now += self.seconds * (3 if self.calls == 1 else 1)


@pytest.mark.parametrize(("seconds", "calls"), [(0.5, 1 + cost.STEPS), (7.0, 3), (60.0, 2)])
def test_a_training_is_predicted_from_its_own_steps_and_slow_ones_are_not_repeated(monkeypatch, seconds, calls):
    step = Clocked(seconds)
    monkeypatch.setattr(cost, "BenchmarkStep", step.made)
    monkeypatch.setattr(cost.time, "perf_counter", lambda: step.now)
    run = config(depth=20, epochs=30, train_images=100, test_images=100, batch_size=50, arch="procresnet")
    assert cost.seconds_here(run) == pytest.approx(cost.images(run) * seconds / 50)
    assert step.configs == [(run, 50, 50)] and step.calls == calls


def test_a_training_that_is_over_at_once_is_not_timed(monkeypatch):
    step = Clocked(1.0)
    monkeypatch.setattr(cost, "BenchmarkStep", step.made)
    assert cost.seconds_here(config(depth=20, epochs=1)) is None
    assert step.calls == 0


def test_a_training_on_a_gpu_is_predicted_from_stored_costs(monkeypatch, tmp_path):
    monkeypatch.setenv("PAPERLIB_RUNS", str(tmp_path))
    there = config(depth=164, epochs=100).model_copy(update={"device": "cuda"})
    assert cost.seconds_here(there) is None
    timed = GIVEN.model_copy(update={"device": Device(type="cuda", name="G")})
    timed.save(cost.file_here("cuda"))
    assert cost.seconds_here(there) == pytest.approx(timed.seconds(there))
    assert cost.seconds_here(there.model_copy(update={"precision": "float16"})) is None

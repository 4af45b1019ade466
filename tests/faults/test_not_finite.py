"""A number that is not finite ends a run, which names the part of the network where it began."""

from __future__ import annotations

import math
import random

import pytest
import torch
from tiny import data_of, tiny

from paperlib import models, records, training
from paperlib.divergence import first_bad_block
from paperlib.training import steps
from paperlib.training.run import Run

BAD = (math.nan, math.inf)


def part_of(name: str) -> str:
    """The part of a network that a parameter's name belongs to."""
    first, second, *_ = name.split(".")
    return {"chain": second, "stem": "stem"}.get(first, "head")


def trained(root, monkeypatch, damage, **changes):
    """The record of the smallest run, of a network that is damaged before its first step."""
    make = steps.make_network

    def damaged(config):
        model = make(config)
        damage(model)
        return model

    with monkeypatch.context() as patched:
        patched.setattr(steps, "make_network", damaged)
        return training.train(tiny(epochs=1, **changes), root=root, quiet=True)


@pytest.mark.parametrize("arch", ["plain", "resnet", "procresnet"])
def test_a_weight_that_is_not_finite_is_blamed_on_its_own_part(arch, tally):
    """Also the stem's, which stands before the first block."""
    model, images, right = models.build(arch, 11), torch.randn(4, 3, 16, 16), 0
    names = [name for name, p in model.named_parameters() if p.ndim > 1]
    for name in names:
        weight = model.get_parameter(name)
        kept = weight.detach().clone()
        with torch.no_grad():
            weight.view(-1)[0] = math.nan
        found = first_bad_block(model, lambda: model(images))
        assert found == part_of(name), name
        right += 1
        with torch.no_grad():
            weight.copy_(kept)
    assert right == len(names) > 10
    tally(f"one weight of {arch} was NaN", its_part_was_named=right)


def test_a_run_says_that_its_stem_was_not_finite(tmp_path, monkeypatch):
    made = trained(tmp_path, monkeypatch, lambda model: torch.nn.init.constant_(model.stem.weight, math.nan))
    assert (made.status, made.divergence.block, made.divergence.what) == ("diverged", "stem", "loss")
    assert "first in stem" in made.ending()


def test_running_statistics_that_are_not_finite_end_a_run(tmp_path, monkeypatch, size, tally):
    """Training never reads them: its loss stays finite, and only the evaluation is spoilt."""
    names = [name for name, b in models.build("resnet", 11).named_buffers() if b.is_floating_point()]
    cases = [(name, bad) for name in names for bad in BAD]
    tried = random.Random(0).sample(cases, size(4, len(cases)))
    for i, (name, bad) in enumerate(tried):
        root = tmp_path / str(i)
        made = trained(root, monkeypatch, lambda model, n=name, b=bad: model.get_buffer(n).view(-1)[:1].fill_(b))
        assert made.status == "diverged", (name, bad)
        found = made.divergence
        assert (found.what, found.block, found.epoch) == ("evaluation", name.removeprefix("chain."), 1)
        assert found.block in made.ending()
        assert made.final == {} and math.isfinite(made.epochs.train_loss[0])
        assert records.read(made.folder) == made
    assert len(tried) >= 4
    tally("one running statistic was not finite", the_run_diverged_and_named_it=len(tried))


def test_an_evaluation_that_overflows_ends_a_run_at_the_block_where_it_did(tmp_path, monkeypatch):
    """The statistics are finite here: variances of nearly zero make the activations too large."""

    def damage(model):
        for norm in (model.chain["stage2_block1"].bn2, model.chain["stage2_block1"].bn3):
            norm.momentum = 0.0
            norm.eps = 1e-38
            norm.running_var.fill_(0.0)

    made = trained(tmp_path, monkeypatch, damage, precision="float32")
    assert made.status == "diverged"
    assert (made.divergence.what, made.divergence.block) == ("evaluation", "stage2_block1")


def test_an_evaluation_that_overflows_on_training_images_alone_names_the_block(tmp_path):
    config = tiny().resolve()
    run = Run(config, "", tmp_path, data_of(config))
    model, of_training, now = run.model, run.batches.prepare(run.batches.clean[0]), []
    model.register_forward_pre_hook(lambda module, args: now.append(torch.equal(args[0], of_training)))
    model.chain["stage2_block1"].register_forward_hook(lambda module, args, out: out * math.inf if now[-1] else out)
    clean, _ = run.evaluate(*run.batches.clean)
    test, _ = run.evaluate(run.batches.test_images, run.batches.test_labels)
    found = run.unevaluated(clean, test)
    assert math.isnan(clean) and math.isfinite(test)
    assert (found.what, found.block) == ("evaluation", "stage2_block1")

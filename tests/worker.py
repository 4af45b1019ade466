"""What each process does that torchrun starts for tests/test_processes.py: ``worker.py MODE OUT [WORDS ...]``.

``compare`` leaves in OUT, from the first process, what several processes compute together.  The other modes give the
words to the command line, and end the run in its sixth step: ``kill`` by the death of process 0, ``term`` by a SIGTERM
to torchrun.
"""

import json
import os
import signal
import sys
from pathlib import Path

import pytest
import torch
from tiny import tiny

from paperlib import __main__ as command
from paperlib import augmentation, models, processes, training
from paperlib.errors import PaperlibError
from paperlib.probes import GradientNorms
from paperlib.training import steps
from paperlib.training.run import Run

STEADY = {"threads": 1, "precision": "float32", "lr": 0.003}  # at this rate rounding hardly grows from step to step
SIZES = (1, 2, 7)  # of batches: one process has nothing, as much as the other, more


def gradients(world, n):
    """Loss, gradients, norms at the blocks and statistics of one batch in float64, for this process's part of it."""
    torch.manual_seed(0)
    model = models.build("resnet", 11).double()
    images, labels = torch.randn(n, 3, 16, 16, dtype=torch.float64), torch.arange(n) % 10
    part = world.part(0, n)
    replica = world.replica(world.synchronised(model, "cpu"))
    with GradientNorms(model, combine=world.norms) as probe:
        loss = world.mean_loss(replica(images[part]), labels[part])
        loss.backward()
        norms = probe.norms()
    found = {"loss": world.sum(loss.detach()) / world.size, "norms": norms, "variance": world.variance(images[part])}
    found |= {name: p.grad for name, p in model.named_parameters()}
    return {name: x.flatten().tolist() for name, x in (found | dict(model.named_buffers())).items()}


def losses(world, root, **changes):
    """The losses of ten steps, and the record of the run."""
    found, step = [], steps.backward

    def noted(*args):
        done = step(*args)
        found.append(done.loss)
        return done

    with pytest.MonkeyPatch.context() as m:
        m.setattr(steps, "backward", noted)
        config = tiny(epochs=2, train_images=150, batch_size=32, precision="float32", threads=1, **changes)
        return found, training.train(config, root=root, quiet=True, world=world)


def losses_in_float64(world, root):
    """The same in float64, at the usual rate: in float32 each step there makes its rounding ten times as large."""
    make, normalise = steps.make_network, augmentation.normalise
    with pytest.MonkeyPatch.context() as m:
        m.setattr(steps, "make_network", lambda config: make(config).double())
        m.setattr(augmentation, "normalise", lambda *args: normalise(*args).double())
        m.setattr(steps, "logits", lambda model, images, config: model(images))
        return losses(world, root, probe_every=0)[0]


class Poison(torch.autograd.Function):
    """The identity, whose gradient is not a number."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, g):
        return g * float("nan")


def divergence(world, root, kind):
    """Where a run diverges that has an infinite kernel, or one image that spoils the gradient."""
    make = steps.make_network

    def broken(config):
        model = make(config)
        if kind == "kernel":
            torch.nn.init.constant_(model.chain["stage2_block1"].conv3.weight, float("inf"))
        elif world.rank == world.size - 1:  # the others see it only in what is combined
            model.chain["stage2_block1"].register_forward_pre_hook(lambda m, args: (Poison.apply(args[0]),))
        return model

    with pytest.MonkeyPatch.context() as m:
        m.setattr(steps, "make_network", broken)
        config = tiny(seed=len(kind), threads=1)  # each kind is a run of its own
        record = training.train(config, root=root, quiet=True, world=world)
    return record.divergence.model_dump()


def refused(world):
    """The sentences of an error in the first process, and of numbers that differ, as the last process has them."""

    def fail():
        raise PaperlibError("no room")

    said = []
    for act in (lambda: world.by_first(fail), lambda: world.agree(world.rank, "they differ")):
        try:
            act()
            said.append("")
        except PaperlibError as e:
            said.append(str(e))
    both = [None] * world.size
    torch.distributed.all_gather_object(both, said)
    return both


def compared(world, root):
    """Everything that must not depend on the number of processes."""
    found = {str(n): gradients(world, n) for n in SIZES} | {"float64": losses_in_float64(world, root)}
    found["losses"], record = losses(world, root, lr=0.003)
    found |= {"initial": list(record.initial.ratio), "variance": list(record.initial.variance)}
    found |= {"ratio": list(record.blocks.ratio), "settings": record.provenance.last.settings}
    return found | {kind: divergence(world, root, kind) for kind in ("kernel", "gradient")}


def main(mode, out, *words):
    """Do what the mode says; returns the exit status."""
    if mode == "compare":
        with processes.joined() as world:
            found = compared(world, out) | {"refused": refused(world)}
            # A run that one process has begun, in this folder, is finished by several.
            training.train(tiny(**STEADY), root=words[0], quiet=True, world=world)
            if world.is_first:
                Path(out, "found.json").write_text(json.dumps(found))
        return 0
    step, number = Run.step, iter(range(1, 100))

    def ended(self, *args):
        if next(number) == 6 and self.world.is_first:
            os.kill(*((os.getpid(), signal.SIGKILL) if mode == "kill" else (os.getppid(), signal.SIGTERM)))
        return step(self, *args)

    Run.step = ended
    return command.main(list(words))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

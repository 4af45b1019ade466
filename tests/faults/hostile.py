"""Hostile calls: every public function that users come for, called with one argument that is nonsense.

``python -m faults.hostile SEED NUMBER`` makes so many calls in a process with a limit on its memory, each with a limit
on its time, and prints one line of JSON for each; a third argument chooses calls by their name.  The calls are of all
that the library's public pages document: those that _toc.yml lists before "Inside the library".
"""

from __future__ import annotations

import json
import os
import random
import re
import resource
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable
from fractions import Fraction
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

import paperlib
from paperlib import (
    augmentation,
    callbacks,
    channel_grid,
    checkpoints,
    cifar,
    claims,
    energy,
    figures,
    geometry,
    initial,
    machine,
    mean_field,
    models,
    normalised,
    parameters,
    polar,
    probes,
    projection,
    published,
    records,
    scorecard,
    sources,
    spectrum,
    sweep,
    theorems,
    training,
    trunk,
)
from paperlib.config import RunConfig
from paperlib.holding import Exact
from paperlib.scorecard import page
from paperlib.theorems import linear_networks

SECONDS = 10
MEMORY = 3 * 2**30  # beyond what the process has when it begins
LENGTH = 500  # of a sentence that somebody reads
HERE = str(Path(paperlib.__file__).parent)
ROOT = Path(paperlib.__file__).parent.parent
MADE = {
    "Block", "Cifar", "Compared", "Data", "Divergence", "Evidence", "Explanation", "Finding", "GridRecord", "Job",
    "Network", "Number", "PathStep", "Projections", "Quantity", "Record", "ResolvedGrid", "ResolvedRun", "Row",
    "Ruled", "Ruling", "Scorecard", "TrunkConv", "Variant",
}  # fmt: skip
"""Public classes whose objects the library makes: their methods are called, and they are not."""
UNCALLED = {
    "Data.of": "records are made by the library, with data that it has loaded",
    "GradientNormsCallback": "a trainer of another library makes the calls; the arguments are those of GradientNorms",
    "NormPreserving.capture": "it makes a CUDA graph",
    "Projector": "a protocol: what it asks for is what Exact does",
    "SmoothMap": "abstract: its methods are called",
    "main": "a command, whose arguments are always texts",
}
"""Other public names that have no call here, and why."""


class Call(NamedTuple):
    """A function, what makes valid arguments for it, and by what other names a sentence may call an argument."""

    function: Callable[..., Any]
    valid: Callable[[], dict[str, Any]]
    words: dict[str, str] = {}


def weight(*shape: int) -> Tensor:
    return torch.randn(*(shape or (8, 4, 3, 3)), generator=torch.Generator().manual_seed(0))


def classifier() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 8, 3, padding=1), nn.Flatten(), nn.Linear(128, 10)
    )


class Bent(theorems.SmoothMap):
    """A map that is easily inverted."""

    dim, alpha, beta = 2, 1.0, 1.0

    def __call__(self, x: Tensor) -> Tensor:
        return x + x**3 / 3


@cache
def tiny_record() -> records.Record:
    config = RunConfig(preset="smoke", depth=11, epochs=1, train_images=10, test_images=10, batch_size=10)
    return training.train(config, root=tempfile.mkdtemp(), quiet=True)


def folder() -> Path:
    return Path(tempfile.gettempdir())


def trusted_inverse_sqrt(gram: Tensor, method: Any) -> Tensor | None:
    root, ok = polar.inverse_sqrt(gram, method)
    return root if ok else None


def entered(context: Callable[..., Any]) -> Callable[..., None]:
    """A function that enters a context and leaves it."""

    def enter(**arguments: Any) -> None:
        with context(**arguments):
            pass

    return enter


def batches() -> list[tuple[Tensor, Tensor]]:
    return [(torch.randn(4, 3, 8, 8), torch.arange(4))]


def probe() -> probes.GradientNorms:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    with probes.GradientNorms(model, model) as found:
        model(torch.ones(2, 4)).sum().backward()
    return found


@cache
def held() -> paperlib.NormPreserving:
    return paperlib.NormPreserving(classifier(), convs=[("0", 4)])


def points(dim: int = 2) -> Tensor:
    return torch.full((3, dim), 0.5, dtype=torch.float64)


@cache
def finding() -> claims.Finding:
    return claims.read(ROOT / "results/claims/C1/desk")


@cache
def card() -> scorecard.Scorecard:
    return scorecard.read(ROOT / "results/scorecard.json")


@cache
def tiny_grid() -> channel_grid.GridRecord:
    sizes = {"in_channels": 2, "out_channels": 2, "variants": "free", "seeds": 1, "stages": 0}
    config = channel_grid.GridConfig(preset="smoke", device="cpu", **sizes)
    return channel_grid.run(config, root=tempfile.mkdtemp(), quiet=True)


CONV = {"weight": "kernel|layer|convolution", "size": "side", "dilation": "", "input_size": ""}
R = partial(torch.eye, 3, dtype=torch.float64)
MODEL = {"model": "network|module|Identity|Linear|Lazy"}
POINTS = {"x": "points", "y": "points"}
RMAT = {"R": "matrix", "L": "layer"}
CALLS: dict[str, Call] = {
    # -- paperlib.__all__
    "singular_values": Call(
        paperlib.singular_values,
        lambda: {
            "weight": weight(),
            "size": 6,
            "stride": 1,
            "input_size": None,
            "padding": "circular",
            "groups": 1,
            "dilation": 1,
        },
        CONV,
    ),
    "operator_norm": Call(
        paperlib.operator_norm,
        lambda: {
            "weight": weight(),
            "size": 6,
            "padding": "zeros",
            "stride": 1,
            "tolerance": 1e-6,
            "input_size": None,
            "groups": 1,
            "dilation": 1,
        },
        CONV,
    ),
    "operator_norm of a layer": Call(
        paperlib.operator_norm, lambda: {"weight": nn.Conv2d(3, 4, 3), "input_size": 6}, CONV
    ),
    "operator_norm_bound": Call(
        paperlib.operator_norm_bound,
        lambda: {"weight": weight(), "size": 6, "stride": 1, "input_size": None, "groups": 1, "dilation": 1},
        CONV,
    ),
    "project": Call(
        paperlib.project,
        lambda: {
            "weight": weight(),
            "size": 6,
            "stride": 1,
            "relu": False,
            "passes": 1,
            "method": None,
            "input_size": None,
            "groups": 1,
            "dilation": 1,
        },
        CONV,
    ),
    "spread": Call(
        paperlib.spread,
        lambda: {
            "weight": weight(),
            "size": 6,
            "stride": 1,
            "relu": False,
            "input_size": None,
            "padding": None,
            "groups": 1,
            "dilation": 1,
        },
        CONV,
    ),
    "target": Call(
        paperlib.target, lambda: {"weight_shape": (8, 4, 3, 3), "stride": 1, "relu": False}, {"weight_shape": "shape"}
    ),
    "delta_orthogonal": Call(
        paperlib.delta_orthogonal,
        lambda: {"weight_shape": (8, 4, 3, 3), "stride": 1, "relu": False, "generator": None, "dtype": torch.float32},
        {"weight_shape": "shape"},
    ),
    "orthogonal": Call(
        paperlib.orthogonal,
        lambda: {"layer": nn.Conv2d(4, 8, 3), "name": "weight", "relu": False, "scale": 1.0},
        {"layer": "convolution|weight", "name": "no parameter"},
    ),
    "GradientNorms": Call(
        paperlib.GradientNorms,
        lambda: {
            "model": nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)),
            "blocks": ["0", "1"],
            "every": 1,
            "combine": None,
            "input_gradient": "total",
            "scale": None,
            "tensor": None,
        },
        MODEL | {"blocks": "block|submodule"},
    ),
    "NormPreserving": Call(
        paperlib.NormPreserving,
        lambda: {
            "model": classifier(),
            "every": 2,
            "convs": [("0", 4)],
            "example": None,
            "relu": False,
            "method": None,
            "projector": None,
            "scale": 1.0,
            "start": None,
            "passes": 1,
        },
        MODEL | {"convs": "convolution|Conv2d"},
    ),
    "NormPreserving with an example": Call(
        paperlib.NormPreserving,
        lambda: {"model": classifier(), "example": torch.zeros(1, 3, 4, 4)},
        MODEL | {"example": "Sequential cannot be run"},
    ),
    "RunConfig": Call(RunConfig, lambda: {name: f.default for name, f in RunConfig.model_fields.items()}),
    "build": Call(
        paperlib.build, lambda: {"arch": "resnet", "depth": 11, "num_classes": 10, "erase_relu": False, "project": True}
    ),
    "corollary_bound": Call(
        paperlib.corollary_bound,
        lambda: {"block": nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU()), "size": 6, "certified": False},
        {"block": "corollary_bound|module"},
    ),
    "linear_factors": Call(paperlib.linear_factors, lambda: {"R": R(), "L": 4}, RMAT),
    "near_identity_path": Call(
        paperlib.near_identity_path,
        lambda: {"f": Bent(), "L": 3, "schedule": "arc", "points": 8, "seed": 0},
        {"f": "SmoothMap"},
    ),
    "train": Call(
        paperlib.train,
        lambda: {"config": tiny_record().config, "root": tiny_record().folder.parents[3], "quiet": True, "world": None},
        {"config": "RunConfig"},
    ),
    # -- the other modules of the core
    "polyphase": Call(spectrum.polyphase, lambda: {"weight": weight(), "stride": 2}),
    "transfer_matrices": Call(spectrum.transfer_matrices, lambda: {"weight": weight(), "size": 6, "stride": 1}),
    "dense": Call(spectrum.dense, lambda: {"weight": weight(), "size": 4, "stride": 1, "padding": "zeros"}, CONV),
    "rank": Call(projection.rank, lambda: {"weight_shape": (8, 4, 3, 3), "stride": 1}, {"weight_shape": "shape"}),
    "stalls": Call(projection.stalls, lambda: {"weight_shape": (8, 4, 3, 3), "stride": 1}, {"weight_shape": "shape"}),
    "convolution": Call(
        geometry.convolution, lambda: {"layer": nn.Conv2d(3, 4, 3), "input_size": 6}, {"layer": "weight"}
    ),
    "published.project": Call(published.project, lambda: {"weight": weight(), "size": 6, "conjugated": True}, CONV),
    "Exact": Call(Exact, lambda: {"method": None, "passes": 1}),
    "coefficients": Call(polar.coefficients, lambda: {"method": "quintic", "lower": 0.1, "steps": 3}),
    "steps_needed": Call(polar.steps_needed, lambda: {"method": "quintic", "lower": 0.1, "error": 1e-6}),
    "inverse_sqrt": Call(trusted_inverse_sqrt, lambda: {"gram": R(), "method": "eigh"}),
    "polar_factor": Call(polar.polar_factor, lambda: {"matrix": R(), "method": "eigh"}),
    "polar_iterates": Call(
        polar.polar_iterates, lambda: {"matrix": R(), "method": "quintic", "steps": 2, "lower": 0.1}
    ),
    "explain_trunk": Call(
        trunk.explain_trunk,
        lambda: {"model": classifier(), "example": torch.zeros(1, 3, 4, 4)},
        MODEL | {"example": "Sequential cannot be run"},
    ),
    "trunk_convs": Call(
        trunk.trunk_convs,
        lambda: {"model": classifier(), "example": torch.zeros(1, 3, 4, 4)},
        MODEL | {"example": "Sequential cannot be run"},
    ),
    "normalised": Call(
        normalised.normalised,
        lambda: {"model": (m := classifier()), "convs": [("0", m[0])], "example": torch.zeros(1, 3, 4, 4)},
        MODEL,
    ),
    "probes.norm": Call(probes.norm, lambda: {"x": torch.ones(3)}),
    "energy_fraction": Call(
        energy.energy_fraction, lambda: {"weight": weight(), "gradient": torch.randn(2, 8, 4, 4), "stride": 1}, CONV
    ),
    "effective_rank": Call(
        lambda gradient: str(energy.effective_rank(gradient)), lambda: {"gradient": torch.randn(2, 8, 4, 4)}
    ),
    "relative_sd": Call(energy.relative_sd, lambda: {"d": 8, "r": 4, "gradient_rank": 1.0}),
    "output_gradients": Call(
        energy.output_gradients,
        lambda: {
            "model": classifier(),
            "images": torch.randn(2, 3, 4, 4),
            "labels": torch.tensor([0, 1]),
            "names": ["0"],
        },
        MODEL,
    ),
    "mean_field.ratio": Call(mean_field.ratio, lambda: {"variance": 1.0}),
    "mean_field.plain": Call(mean_field.plain, lambda: {"variance": 1.0}),
    "mean_field.transition": Call(mean_field.transition, lambda: {"variance": 1.0, "widening": 2.0}),
    "initial_ratios": Call(
        initial.initial_ratios,
        lambda: {
            "model": (m := models.build("resnet", 11)),
            "batches": batches(),
            "loss": lambda x, y: nn.functional.cross_entropy(m(x), y),
            "world": None,
        },
        MODEL,
    ),
    "check_depth": Call(models.check_depth, lambda: {"depth": 11}),
    "Bottleneck": Call(
        models.Bottleneck, lambda: {"c_in": 16, "width": 4, "stride": 1, "skip": "identity", "erase_relu": False}
    ),
    "parameter_count": Call(models.parameter_count, lambda: {"model": classifier()}, MODEL),
    "models.describe": Call(models.describe, lambda: {"model": models.build("resnet", 11), "image_size": 32}, MODEL),
    "first_bad_block": Call(
        paperlib.divergence.first_bad_block,
        lambda: {
            "model": (m := models.build("resnet", 11)),
            "forward": lambda: m(torch.zeros(1, 3, 8, 8)),
            "probe": None,
            "world": None,
        },
        MODEL,
    ),
    "normalise": Call(
        augmentation.normalise,
        lambda: {"images": torch.zeros(2, 3, 4, 4, dtype=torch.uint8), "mean": torch.zeros(3), "std": torch.ones(3)},
    ),
    "epoch_generator": Call(augmentation.epoch_generator, lambda: {"seed": 0, "epoch": 1}),
    "draw_augmentation": Call(
        augmentation.draw_augmentation, lambda: {"n": 3, "generator": torch.Generator().manual_seed(0)}
    ),
    "apply_augmentation": Call(
        augmentation.apply_augmentation,
        lambda: {
            "images": torch.zeros(2, 3, 8, 8),
            "flip": torch.tensor([True, False]),
            "shift": torch.zeros(2, 2, dtype=torch.int64),
        },
    ),
    # -- models, spectrum, projection, holding
    "network_name": Call(models.network_name, lambda: {"arch": "resnet", "depth": 11}),
    "title": Call(models.title, lambda: {"arch": "resnet", "depth": 11}),
    "block_names": Call(models.block_names, lambda: {"arch": "resnet", "depth": 11}),
    "initialise": Call(models.initialise, lambda: {"model": classifier()}, MODEL),
    "Network.fuse": Call(lambda **a: models.build("resnet", 11).fuse(**a), lambda: {"on": True}),
    "Network.transition_convs": Call(
        lambda **a: models.build("procresnet", 11).transition_convs(**a), lambda: {"image_size": 32}
    ),
    "repeated_blocks": Call(probes.blocks.repeated_blocks, lambda: {"model": models.build("resnet", 20)}, MODEL),
    "GradientNorms.attach": Call(lambda **a: probe().attach(**a), lambda: {"calls_start_steps": True}),
    "GradientNorms.forget": Call(lambda **a: probe().forget(**a), lambda: {"forwards": 1}),
    "GradientNorms.plot": Call(lambda **a: probe().plot(**a), lambda: {"ax": None}),
    "GradientNorms.load_state_dict": Call(
        lambda **a: probe().load_state_dict(**a), lambda: {"state": probe().state_dict()}
    ),
    "scalars": Call(callbacks.scalars, lambda: {"probe": probe()}),
    "Exact.due": Call(lambda **a: Exact().due(**a), lambda: {"step": 2, "every": 2}),
    "NormPreserving.attach": Call(
        lambda **a: held().attach(**a),
        lambda: {"optimizer": torch.optim.SGD(held().model.parameters())},
        {"optimizer": "optimi[sz]er"},
    ),
    "NormPreserving.rewind": Call(lambda **a: held().rewind(**a), lambda: {"steps": 0}),
    "NormPreserving.load_state_dict": Call(
        lambda **a: held().load_state_dict(**a), lambda: {"state": held().state_dict()}
    ),
    # -- theorems
    "theorem2_bound": Call(theorems.theorem2_bound, lambda: {"R": R(), "L": 4, "form": "sharp"}, RMAT),
    "theorem2_delta": Call(theorems.theorem2_delta, lambda: {"R": R(), "L": 4}, RMAT),
    "theorem1_bound": Call(
        theorems.theorem1_bound,
        lambda: {"f": Bent(), "L": 3, "schedule": "arc", "points": 8, "seed": 0},
        {"f": "SmoothMap"},
    ),
    "compose": Call(theorems.compose, lambda: {"factors": [R(), R()]}),
    "gradient_delta": Call(theorems.gradient_delta, lambda: {"jacobians": R()}),
    "identity_distance": Call(theorems.identity_distance, lambda: {"jacobians": R()}),
    "lower_bound": Call(theorems.lower_bound, lambda: {"jacobians": R(), "L": 4}),
    "RotationStretch": Call(theorems.RotationStretch, lambda: {"matrix": R()}),
    "quarter_turns": Call(theorems.quarter_turns, lambda: {"n": 4, "dtype": torch.float64}),
    "gaussian": Call(partial(theorems.gaussian, 2), lambda: {"seed": 0}),
    "ball": Call(theorems.ball, lambda: {"n": 3, "points": 4, "seed": 0}),
    "features": Call(theorems.features, lambda: {"n": 3, "m": 4, "norm": 1.7, "seed": 0}),
    "linear_map": Call(theorems.linear_map, lambda: {"n": 3, "stretch": 2.0, "angle": 1.0, "seed": 0}),
    "Twist": Call(theorems.Twist, lambda: {"linear": torch.eye(4, dtype=torch.float64), "omega": 0.5}),
    "Monotone": Call(theorems.Monotone, lambda: {"linear": R(), "features": theorems.features(3, 4), "epsilon": 1.0}),
    "Normalised": Call(theorems.Normalised, lambda: {"f": Bent(), "alpha": None, "beta": None}, {"f": "SmoothMap"}),
    "Path": Call(theorems.Path, lambda: {"f": Bent()}, {"f": "SmoothMap"}),
    "times": Call(
        theorems.times,
        lambda: {"path": theorems.Path(Bent()), "L": 3, "schedule": "arc", "points": 8, "seed": 0, "grid": 32},
    ),
    "descend": Call(
        linear_networks.descend,
        lambda: {"R": R(), "Sigma": R(), "L": 2, "rate": 0.01, "steps": 3, "start": None, "tolerance": 0.0},
        RMAT | {"R": "matrix|rate"},
    ),
    "statistics": Call(linear_networks.statistics, lambda: {"x": torch.randn(9, 3), "y": torch.randn(9, 3)}),
    "path_jacobians": Call(
        theorems.path_jacobians,
        lambda: {"path": theorems.Path(Bent()), "at": [(0.0, 0.0), (1.0, 1.0)], "x": points()},
        POINTS,
    ),
    "cuts_bound": Call(theorems.cuts_bound, lambda: {"path": theorems.Path(Bent()), "at": [(0.0, 0.0), (1.0, 1.0)]}),
    "products": Call(linear_networks.products, lambda: {"factors": torch.zeros(2, 3, 3)}),
    "excess_risk": Call(
        linear_networks.excess_risk,
        lambda: {"factors": torch.zeros(2, 3, 3, dtype=torch.float64), "R": R(), "Sigma": R()},
    ),
    "gradient": Call(
        linear_networks.gradient,
        lambda: {"factors": torch.zeros(2, 3, 3, dtype=torch.float64), "R": R(), "Sigma": R()},
    ),
    "balance": Call(linear_networks.balance, lambda: {"factors": torch.zeros(2, 3, 3)}),
    "RotationStretch.rotation": Call(
        lambda **a: theorems.RotationStretch(R()).rotation(**a), lambda: {"t": 0.5, "minus_identity": False}
    ),
    "RotationStretch.stretch": Call(
        lambda **a: theorems.RotationStretch(R()).stretch(**a), lambda: {"t": 0.5, "minus_identity": False}
    ),
    "RotationStretch.distance_bound": Call(
        lambda **a: theorems.RotationStretch(R()).distance_bound(**a), lambda: {"share": 0.5}
    ),
    **{
        f"{type(f).__name__ if not isinstance(f, Bent) else 'SmoothMap'}.{method}": Call(
            lambda f=f, method=method, **a: getattr(f, method)(**a),
            lambda f=f, name=name: {name: points(f.dim)},
            POINTS,
        )
        for f in (
            Bent(),
            theorems.Twist(torch.eye(4, dtype=torch.float64)),
            theorems.Monotone(R(), theorems.features(3, 4)),
            theorems.Normalised(Bent()),
        )
        for method, name in (("__call__", "x"), ("jacobian", "x"), ("inverse", "y"))
        if not isinstance(f, Bent) or method != "__call__"
    },
    **{
        f"Path.{method}": Call(
            lambda method=method, **a: getattr(theorems.Path(Bent()), method)(**a),
            lambda name=name: {"at": (0.5, 0.5), name: points()},
            POINTS,
        )
        for method, name in (("__call__", "x"), ("jacobian", "x"), ("inverse", "y"))
    },
    "Path.linear": Call(lambda **a: theorems.Path(Bent()).linear(**a), lambda: {"s": 0.5}),
    "Path.length": Call(lambda **a: theorems.Path(Bent()).length(**a), lambda: {"points": 4, "seed": 0, "grid": 8}),
    **{
        f"PathStep.{method}": Call(
            lambda method=method, **a: getattr(theorems.near_identity_path(Bent(), 2)[0], method)(**a),
            lambda name=name: {name: points()},
            POINTS,
        )
        for method, name in (("__call__", "x"), ("residual", "x"), ("jacobian", "x"), ("inverse", "y"))
    },
    # -- data, records, claims
    "cifar.load": Call(cifar.load, lambda: {"name": "cifar10", "source": "sample", "root": None}, {"name": "data set"}),
    "data_folder": Call(cifar.data_folder, lambda: {"root": None}),
    "available": Call(sources.available, lambda: {"dataset": "cifar10", "source": "sample"}, {"dataset": "data set"}),
    "records.read": Call(records.read, lambda: {"folder": tiny_record().folder}),
    "records.read_all": Call(records.read_all, lambda: {"root": tiny_record().folder}),
    "records.save": Call(
        records.save, lambda: {"record": tiny_record().model_copy(), "folder": Path(tempfile.mkdtemp())}
    ),
    "trained_network": Call(training.trained_network, lambda: {"record": tiny_record()}),
    "train_together": Call(
        training.train_together,
        lambda: {
            "configs": [tiny_record().config],
            "root": tiny_record().folder.parents[3],
            "quiet": True,
            "world": None,
        },
        {"configs": "RunConfig|run"},
    ),
    "benchmark_step": Call(
        training.benchmark_step,
        lambda: {
            "arch": "resnet",
            "depth": 11,
            "images": torch.zeros(2, 3, 8, 8),
            "labels": torch.tensor([0, 1]),
            "device": "cpu",
            "precision": "float32",
            "memory_format": "auto",
        },
    ),
    "checkpoints.read": Call(checkpoints.read, lambda: {"folder": tiny_record().folder, "device": "cpu"}),
    "resolve_device": Call(parameters.resolve_device, lambda: {"name": "cpu"}, {"name": "device"}),
    "machine.settings": Call(
        entered(machine.settings), lambda: {"device": "cpu", "threads": None, "deterministic": True}
    ),
    "GridConfig": Call(
        channel_grid.GridConfig,
        lambda: {n: f.default for n, f in channel_grid.GridConfig.model_fields.items()},
        {"variants": "variant"},
    ),
    "Cell": Call(
        channel_grid.Cell,
        lambda: {
            "c": 2,
            "d": 2,
            "variant": "free",
            "seeds": (0,),
            "stages": (0,),
            "batch_size": 10,
            "probe_images": 10,
        },
    ),
    "channel_grid.read": Call(channel_grid.read, lambda: {"folder": tiny_grid().folder}, {"folder": "grid"}),
    "claims.check": Call(claims.check, lambda: {"claim": "T3", "preset": "smoke", "seeds": None}),
    "claims.read_all": Call(claims.read_all, lambda: {"root": tiny_record().folder, "only": None}),
    "claims.report": Call(claims.report, lambda: {"findings": [finding()]}, {"findings": "finding"}),
    "claims.verdict": Call(claims.verdict, lambda: {"finding": finding()}),
    "scorecard.read": Call(scorecard.read, lambda: {"path": ROOT / "results/scorecard.json"}),
    "Cifar.subset": Call(
        lambda **a: cifar.load("cifar10", "sample").subset(**a), lambda: {"train": 10, "test": 10, "seed": 0}
    ),
    "RunConfig.resolve_on": Call(lambda **a: RunConfig(preset="smoke").resolve_on(**a), lambda: {"device": "cpu"}),
    "ResolvedRun.left_out": Call(lambda **a: tiny_record().config.left_out(**a), lambda: {"several": True}),
    "ResolvedRun.lr_at": Call(lambda **a: tiny_record().config.lr_at(**a), lambda: {"epoch": 1}),
    "ResolvedGrid.cell": Call(
        lambda **a: channel_grid.GridConfig(preset="smoke").resolve().cell(**a),
        lambda: {"c": 2, "d": 2, "variant": "free"},
    ),
    "channel_grid.run": Call(
        channel_grid.run,
        lambda: {"config": tiny_grid().config, "root": tempfile.mkdtemp(), "quiet": True},
        {"config": "GridConfig"},
    ),
    "claims.measure": Call(claims.measure, lambda: {"claim": "T3", "preset": "smoke", "seeds": 1}),
    "claims.outcome": Call(claims.outcome, lambda: {"finding": finding()}),
    "claims.spoken": Call(claims.spoken, lambda: {"finding": finding()}),
    "claims.details": Call(claims.details, lambda: {"finding": finding()}),
    "claims.qualified": Call(claims.qualified, lambda: {"finding": finding()}),
    "claims.judged_by_another_rule": Call(claims.judged_by_another_rule, lambda: {"finding": finding()}),
    "claims.overview": Call(claims.overview, lambda: {"findings": [finding()]}),
    "claims.counting": Call(claims.counting, lambda: {"findings": [finding()]}),
    "claims.save": Call(claims.save, lambda: {"finding": finding(), "root": tempfile.mkdtemp()}),
    "claims.read": Call(claims.read, lambda: {"folder": ROOT / "results/claims/C1/desk"}),
    "scorecard.build": Call(scorecard.build, lambda: {"root": ROOT / "results"}),
    "scorecard.write": Call(
        scorecard.write, lambda: {"scorecard": card(), "path": Path(tempfile.mkdtemp(), "card.json")}
    ),
    "scorecard.sentences": Call(scorecard.sentences, lambda: {"scorecard": card()}),
    "scorecard.describe": Call(scorecard.describe, lambda: {"scorecard": card()}),
    "scorecard.quotable": Call(page.quotable, lambda: {"scorecard": card()}),
    "scorecard.table": Call(page.table, lambda: {"scorecard": card(), "pages": ()}),
    "Sweep": Call(
        sweep.Sweep,
        lambda: {"preset": "smoke", "common": {}, "groups": {"depth": {"depth": [11]}}, "channel_grid": None},
    ),
    **{
        name: Call(
            getattr(figures, name), lambda name=name: {"blocks": tiny_record().blocks.assign(run="a"), "title": ""}
        )
        for name in ("compare_ratios", "gradient_profile", "ratio_lines")
    },
    **{
        name: Call(getattr(figures, name), lambda: {"epochs": tiny_record().epochs.assign(run="a"), "title": ""})
        for name in ("compare_runs", "learning_curves")
    },
    "ratio_heatmap": Call(figures.ratio_heatmap, lambda: {"blocks": tiny_record().blocks, "title": "", "limit": None}),
    "figures.network": Call(
        figures.network, lambda: {"blocks": pd.DataFrame(models.describe(models.build("resnet", 11))), "title": ""}
    ),
    "sweep.read": Call(sweep.read, lambda: {"path": ROOT / "workflow/config/smoke.yaml"}),
}

OWN = ("function", "class", "no parameters", "linear", "lazy")  # what can be called, and fails in its own words
VALUES: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "True": lambda: True,
    "False": lambda: False,
    "-1": lambda: -1,
    "0": lambda: 0,
    "1": lambda: 1,
    "10**9": lambda: 10**9,
    "2**63": lambda: 2**63,
    "10**400": lambda: 10**400,
    "0.5": lambda: 0.5,
    "-0.5": lambda: -0.5,
    "1e300": lambda: 1e300,
    "nan": lambda: float("nan"),
    "inf": lambda: float("inf"),
    "complex": lambda: 1 + 2j,
    "fraction": lambda: Fraction(1, 3),
    "numpy int": lambda: np.int64(3),
    "numpy float": lambda: np.float32(0.5),
    "empty text": lambda: "",
    "'False'": lambda: "False",
    "'1'": lambda: "1",
    "null byte": lambda: "a\0b",
    "huge text": lambda: "x\n" * 10**6,
    "bytes": lambda: b"",
    "[]": list,
    "()": lambda: (),
    "{}": dict,
    "[None]": lambda: [None],
    "[[1]]": lambda: [[1]],
    "(1, 2)": lambda: (1, 2),
    "(2, -1, 3, 3)": lambda: (2, -1, 3, 3),
    "(10**9,)*4": lambda: (10**9,) * 4,
    "range": lambda: range(3),
    "object": object,
    "class": lambda: nn.Linear,
    "function": lambda: lambda: None,
    "generator": lambda: (i for i in ()),
    "path": lambda: Path("/nowhere/at/all"),
    "array": lambda: np.zeros((2, 2)),
    "sides": lambda: np.array([6, 6]),
    "table": lambda: pd.DataFrame({"a": [1]}),
    "table of texts": lambda: tiny_record().blocks.astype(str).assign(run="a"),
    "empty table": lambda: tiny_record().blocks.assign(run="a").head(0),
    "no parameters": nn.Identity,
    "linear": lambda: nn.Linear(2, 3),
    "lazy": lambda: nn.LazyConv2d(3, 3),
    "dtype": lambda: torch.int64,
    "device": lambda: torch.device("meta"),
    "0-d": lambda: torch.tensor(1.0),
    "1-d": lambda: torch.ones(3),
    "2-d": lambda: torch.ones(3, 3),
    "4-d": lambda: torch.ones(2, 2, 3, 3),
    "7-d": lambda: torch.ones(1, 1, 1, 1, 1, 1, 1),
    "empty": lambda: torch.ones(0, 3, 3, 3),
    "whole": lambda: torch.ones(8, 4, 3, 3, dtype=torch.int64),
    "boolean": lambda: torch.ones(8, 4, 3, 3, dtype=torch.bool),
    "complex tensor": lambda: torch.ones(8, 4, 3, 3, dtype=torch.complex64),
    "float16": lambda: torch.ones(8, 4, 3, 3, dtype=torch.float16),
    "float8": lambda: torch.ones(8, 4, 3, 3).to(torch.float8_e4m3fn),
    "meta": lambda: torch.ones(8, 4, 3, 3, device="meta"),
    "sparse": lambda: torch.ones(8, 4, 3, 3).to_sparse(),
    "sparse 2-d": lambda: torch.eye(3).to_sparse(),
    "quantised": lambda: torch.quantize_per_tensor(torch.ones(3, 3), 0.1, 0, torch.qint8),
    "nested": lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
    "nan tensor": lambda: torch.full((8, 4, 3, 3), float("nan")),
    "inf matrix": lambda: torch.full((3, 3), float("inf")),
    "zeros": lambda: torch.zeros(8, 4, 3, 3),
    "huge entries": lambda: torch.full((3, 3), 1e300, dtype=torch.float64),
    "graph": lambda: torch.ones(3, 3, requires_grad=True) * 2,
}


def holds_nan(value: Any) -> bool:
    """Whether a result is a number that is none, or a tensor that holds one."""
    if isinstance(value, Tensor) and value.is_floating_point() and not value.is_meta and value.layout == torch.strided:
        return bool(torch.isnan(value.detach()).any())
    if isinstance(value, tuple | list):
        return any(holds_nan(v) for v in value)
    return isinstance(value, float) and value != value


def outcome(name: str, argument: str, value: str) -> tuple[str, str]:
    """What comes of one call: ``result``, ``sentence`` or ``confusing``, and what was said."""
    call = CALLS[name]
    given = call.valid() | {argument: VALUES[value]()}
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        found = call.function(**given)
    except TimeoutError:
        return "confusing", f"took over {SECONDS} s"
    except BaseException as e:
        said, frames = str(e), traceback.extract_tb(e.__traceback__)
        kinds = (ValueError, TypeError, paperlib.errors.PaperlibError)
        ours = isinstance(e, kinds) and frames[-1].filename.startswith(HERE)
        words = [re.escape(argument), call.words.get(argument, "")]
        if isinstance(given[argument], str | Path):
            words.append(re.escape(str(given[argument])[:80]))  # a file is named by its path
        named = re.search(rf"(?<!\w)({'|'.join(filter(None, words))})", said)
        good = ours and named and "\n" not in said and 15 < len(said) < LENGTH
        where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}"
        return "sentence" if good else "confusing", f"{type(e).__name__} at {where}: {said[:300]}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    if holds_nan(found) and not holds_nan(given[argument]):
        return "confusing", "NaN, without a word"
    return "result", ""


def too_long(*_: Any) -> None:
    """What the alarm of a call that takes too long does."""
    raise TimeoutError


def cases() -> list[tuple[str, str, str]]:
    """All calls there are: a function, the argument that is replaced, and by what."""
    found = []
    for name, call in CALLS.items():
        arguments = call.valid()
        for argument, right in arguments.items():
            # A function of the caller's own may fail in its own words.
            own = callable(right) and not isinstance(right, nn.Module | theorems.SmoothMap)
            found += [(name, argument, v) for v in VALUES if not (own and v in OWN)]
    return found


def main(seed: int, number: int, only: str = "") -> None:
    """Make so many calls, and print what comes of each as a line of JSON."""

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    os.chdir(tempfile.mkdtemp())  # where files are written whose names are nonsense
    tiny_record()
    used = (
        int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() if sys.platform == "linux" else 0
    )
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, resource.RLIM_INFINITY))
    signal.signal(signal.SIGALRM, too_long)
    every = [case for case in cases() if only in case[0]]
    tried = every if number >= len(every) else random.Random(seed).sample(every, number)
    for case in tried:
        print(json.dumps(case), flush=True)
        print(json.dumps(outcome(*case)), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])

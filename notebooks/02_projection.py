# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Holding a convolution norm-preserving
#
# An identity skip hands the gradient on unchanged. Where the number of channels changes there is no identity, and the paper
# {cite}`zaeemzadeh2020` puts a convolution there whose kernel is corrected after every second training step, so that it neither
# shrinks nor stretches the gradient. This page builds that correction from its parts: which singular values a convolution has
# (Theorem 3), which they should be (the paper's (5) to (7)), the closest kernel that has them (the paper's (8)), how to compute it
# (the paper's (9)), and what is lost when it is cropped back to its few taps. Each part is checked, and taken to where it breaks.
#
# | | |
# |---|---|
# | **needs** | two CPU cores |
# | **fetches** | nothing; the two short training runs use the 1,000 CIFAR-10 images that come with the library |
# | **takes** | about half a minute |
#
# Everything but the two training runs is in float64 and seeded.

# %%
# %matplotlib inline
import json
import tempfile
import warnings

import pandas as pd
import torch
import torchvision
from IPython.display import Markdown

from paperlib import augmentation, cifar, claims
from paperlib.energy import output_gradients
from paperlib.figures import projection as draw
from paperlib.projection import (
    NormPreserving,
    delta_orthogonal,
    project,
    spread,
    target,
)
from paperlib.spectrum import singular_values
from paperlib.store import results_root
from paperlib.studies import projection as studies
from paperlib.training import RunConfig, train, trained_network

# %% [markdown]
# ## The singular values of a convolution
#
# A convolution is linear. Written out as a matrix it is enormous: for 64 channels in and out on a 32 × 32 map it has $64 \cdot 32^2 = 65{,}536$ rows and as many
# columns. It is also full of repetitions, and the Fourier transform uses them. Take a kernel $K$ with $c$ input and $d$
# output channels, and let the map wrap around at its borders. At the frequency $(u, v)$ of an $n \times n$ map the convolution acts as one
# $d \times c$ matrix,
#
# $$
# P^{(u,v)} = \sum_{a,b} K_{:,:,a,b}\; e^{-2\pi i (ua + vb)/n} ,
# $$ (eq-transfer)
#
# and no frequency disturbs another. (PyTorch's convolution does not flip its kernel, and acts by the conjugates of these matrices; that changes no singular value.) Hence:
#
# :::{prf:theorem} The singular values of a convolution {cite}`sedghi2019`
# :label: thm-spectrum
# The singular values of the convolution are those of the $n^2$ matrices $P^{(u,v)}$ together.
# :::
#
# *Why.* The Fourier transform is a unitary change of basis, and in it the convolution is block-diagonal, with the blocks $P^{(u,v)}$.
#
# *Check.* `singular_values` works frequency by frequency. The oracle knows nothing of frequencies: it pushes every unit vector
# through `torch.nn.functional.conv2d`, collects the results as a matrix and decomposes it.

# %%
agreement = studies.theorem3()
agreement.assign(
    difference=[
        "below 1e-12" if x < 1e-12 else f"{x:.0e}" for x in agreement.difference
    ]
)

# %% [markdown]
# Two things make it fast. The kernel is real, so $P^{(-u,-v)}$ is the conjugate of $P^{(u,v)}$ and half of the frequencies are enough. And a
# 1 × 1 kernel has the same matrix at each frequency, so one is enough.
#
# **Strides.** The last four rows have a stride $s$. There the theorem seems to fail, since $s^2$ frequencies of the larger input are
# folded into one of the output. But a strided convolution is an ordinary one in disguise: sort the input's pixels by their
# position modulo $s$ into $s^2$ smaller images, call these channels, and the stride is gone. The matrices then have $s^2 c$ columns. For the
# rank this matters: a strided 3 × 3 convolution can have $\min(d, s^2 c)$ non-zero singular values at a frequency, a strided 1 × 1
# convolution, which reads one pixel in $s^2$ and ignores the rest, only $\min(d, c)$.
#
# **Zero padding.** The theorem is about maps that wrap around; networks pad with zeros. How much does that change? Take a 3 → 64 kernel, 3 × 3, that
# is exactly norm-preserving when it wraps around (how to get one follows below).

# %% mystnb={"figure": {"caption": "A kernel with all its singular values at σ on a map that wraps around, now padded with zeros. The share that stays at σ is the share of pixels that no border touches; the smallest singular value does not recover on larger maps.", "name": "fig-padding"}, "image": {"alt": "Against the side of the map: dots for the share of unchanged singular values lie on the dashed curve of interior pixels; the smallest singular value stays well below 1."}}
exact = project(studies.he_kernel(64, 3, 3), 16, passes=1000) / target((64, 3, 3, 3))
padded = studies.zero_padding(exact, [4, 6, 8, 10, 12, 16])
draw.zero_padding(padded, "What zero padding does to an exact kernel")

# %%
padded.round(3).set_index("size")

# %% tags=["hide-input"]
largest = padded.iloc[-1]
Markdown(
    "No singular value grows: the padded operator is a part of the circular one on a slightly larger map. On the map of "
    f"side {largest['size']:.0f}, {largest.kept:.0%} are untouched, exactly as many as there are inner pixels, and the "
    f"others lie between {largest.lowest:.2f} and 1. What zero padding costs is at the border, and there only."
)

# %% [markdown]
# The same argument gives a certified bound on the norm of a padded convolution, which is often wanted on its own. A bound one meets in practice, the norm of
# the kernel reshaped to a $d \times ck^2$ matrix, is none; $k$ times it is one, but far off.

# %%
studies.operator_norms([(6, 6, 3, 8), (16, 16, 3, 16), (3, 64, 7, 16)]).round(3)

# %% [markdown]
# ## Which singular values keep the gradient's norm
#
# On its way back the gradient meets the transposed convolution: $\Delta_x = \hat W \Delta_y$. Let all non-zero singular values of $\hat W$ be equal to one
# $\sigma$. Then $\lVert \Delta_x \rVert^2 = \sigma^2 \lVert \Pi \Delta_y \rVert^2$, where $\Pi$ projects on the directions that are not lost. With more output
# than input channels, $r = \min(d, c)$ of $d$ directions survive at each frequency. If the gradient has no
# preference among them, they carry $r/d$ of its energy, and its norm is kept on average by
#
# $$
# \sigma^2 = \frac{d}{r}, \qquad r = \min(d, c) .
# $$ (eq-target)
#
# With a stride $s \le k$ it is $r = \min(d, s^2 c)$, as above. A ReLU right behind the convolution takes half of the gradient's energy, and $\sigma^2$ becomes $2d/r$. That gradients have no preference is
# an assumption; [below](gradient-energy) it is measured.

# %%
for shape, stride, relu in [
    ((64, 3, 3, 3), 1, False),
    ((128, 64, 1, 1), 2, False),
    ((128, 64, 3, 3), 2, False),
    ((64, 64, 3, 3), 1, True),
]:
    d, c, k, _ = shape
    sigma = target(shape, stride, relu)
    then = ", then a ReLU" if relu else ""
    print(f"{c:>3} → {d:<3} {k}×{k}, stride {stride}{then}: σ = {sigma:.3f}")

# %% [markdown]
# ## The closest such kernel
#
# Of all matrices whose singular values are $\sigma$, the closest to a tall $P$ is $\sigma$ times its *polar factor* {cite}`gower2004`,
#
# $$
# \tilde P = \sigma\, P\, (P^{\mathsf H} P)^{-1/2} \quad (d \ge c), \qquad
# \tilde P = \sigma\, (P P^{\mathsf H})^{-1/2} P \quad (d < c).
# $$ (eq-polar)
#
# The singular vectors stay, the singular values are replaced. The first form is the paper's (8), and all of its transitions are tall, with $d > c$. For a wide $P$ that form does
# not exist, since $P^{\mathsf H}P$ is then singular.
#
# The paper's (9) computes the inverse square root by the coupled Newton–Schulz iteration {cite}`higham1997`, from matrix products alone, which "can be implemented efficiently on GPUs". Of its
# convergence it says: "It has been shown that [it] converges [...] quadratically". Each step sends a singular value $x$ to $x(3 - x^2)/2$. Near 1 the error is indeed squared, $e \mapsto \tfrac32 e^2$ to leading
# order; but a small $x$ only grows by half in each step, and most steps are spent on that.

# %% mystnb={"figure": {"caption": "An 80 × 40 matrix with singular values from 0.05 to 1: the largest distance from orthogonality after each step of four iterations. Where a curve ends, only rounding is left.", "name": "fig-polar"}, "image": {"alt": "Two panels on logarithmic scales, errors against steps and against matrix products. Newton–Schulz needs the most steps, the scaled one fewer, the quintic fewer still, QDWH the fewest."}}
errors = studies.polar_convergence(0.05, steps=13)
draw.polar_convergence(errors, "Four ways to the polar factor")

# %%
e = errors.set_index(["method", "step"]).error
for method, step in [
    ("newton-schulz", 10),
    ("scaled-newton-schulz", 6),
    ("quintic", 4),
    ("qdwh", 3),
]:
    print(f"{draw.NAMES[method]}: {e[method, step]:.0e} after {step} steps")
late = e["newton-schulz"]
print(
    "Newton–Schulz, e(t+1) / e(t)²:",
    ", ".join(f"{late[t + 1] / late[t] ** 2:.2f}" for t in (7, 8, 9, 10)),
)

# %% [markdown]
# So the claim holds, where the singular values are close to 1: quadratic once close, linear before. (Quadratic convergence is a statement about the end of an iteration, and the paper's
# sentence need not mean more.) Choosing the coefficients for the interval where the singular values lie
# removes most of the slow part. One can scale each step so that both ends of the interval land on one value {cite}`chen2014`, take the best polynomial of degree five {cite}`amsel2025`, or the
# rational QDWH {cite}`nakatsukasa2010`, which solves a linear system in each step.

# %% tags=["hide-input"]
first = errors[errors.error <= 1e-6].groupby("method")[["step", "products"]].min()
steps, products = first.step, first["products"]
alone = products.drop("qdwh")  # which solves linear systems
p2 = claims.read_all(results_root(), only=("P2",))[0]
Markdown(
    f"To an error of 1e-6 Newton–Schulz takes {steps['newton-schulz']} steps here, the scaled one "
    f"{steps['scaled-newton-schulz']}, the quintic {steps['quintic']} and QDWH {steps['qdwh']}. Of those that take "
    f"matrix products alone, the {alone.idxmin()} one needs the fewest, {alone.min()} in the place of "
    f"{alone['newton-schulz']}. P2 has the same on record for "
    f"{p2.frames['convergence'].spectrum.nunique()} spectra, whose smallest singular values go down to a thousandth: at the "
    "end e(t+1) / e(t)² lies between "
    f"{p2.quantities['e(t+1) / e(t)², at the end, smallest'].mean:.2f} and "
    f"{p2.quantities['e(t+1) / e(t)², at the end, largest'].mean:.2f}, and the slowest takes "
    f"{p2.quantities['steps to 1e-6, the slowest spectrum, newton-schulz'].mean:.0f} steps."
)

# %% [markdown]
# On a CPU an eigen-decomposition of the small Gram matrix $P^{\mathsf H} P$ is faster than any of them (the [last section](what-it-costs) has the times). The library uses it there, and the quintic
# on CUDA, where it never has to wait for an answer.
#
# Whichever it is, the Gram matrix has to be taken on the smaller side, and scaled before the first step. [Reading the
# published code](02b_published.ipynb) shows what happens otherwise.

# %% [markdown]
# ## Back to nine taps
#
# Now every frequency has its polar factor, and the transform back gives a kernel that is exactly norm-preserving. But this kernel is as large as the map. Cropped to
# 3 × 3, as Algorithm 1 does, it is not norm-preserving any more.

# %% mystnb={"figure": {"caption": "The singular values of a 3 → 64 kernel on a 32 × 32 map: as initialised (scaled to the same mean), trained, and projected, once and repeatedly.", "name": "fig-spectra"}, "image": {"alt": "Sorted singular values: the initialised and the trained kernel fall off from left to right, the projected ones are flat at σ."}}
settings = {
    "preset": "smoke", "arch": "procresnet", "depth": 11, "epochs": 4, "train_images": 1000,
    "test_images": 250, "precision": "float32", "device": "cpu",
}  # fmt: skip
runs = tempfile.mkdtemp()
records = {
    "free": train(RunConfig(**settings, project=False), root=runs, quiet=True),
    "held": train(RunConfig(**settings), root=runs, quiet=True),
}
networks = {name: trained_network(record) for name, record in records.items()}
first = networks["free"].chain["transition1"].weight.detach().double()
initial = studies.he_kernel(64, 3, 3)
unit = target(first.shape)
kernels = {
    "initialised": initial * unit / singular_values(initial, 32).mean(),
    "trained freely": first * unit / singular_values(first, 32).mean(),
    "projected once": project(initial, 32),
    "projected ten times": project(initial, 32, passes=10),
}
draw.spectra(
    studies.sorted_spectra(kernels, 32, unit), "One convolution, 3 → 64, 3 × 3"
)

# %% tags=["hide-input"]
low, high = spread(kernels["projected once"], 32)
Markdown(
    f"One projection leaves the singular values between {low:.2f} and {high:.2f} times σ."
)

# %% [markdown]
# The way out is to go on: transform, replace by the polar factor, crop, and again. Each of the two
# steps is a projection on a set, the kernels with nine taps and the operators with equal singular values, and alternating between them comes closer to both. It does so faster
# if every round but the first and the last goes further than the projection says, 1.8 times as far (*over-relaxation*), which is what `project(..., passes=n)` does.

# %%
generator = torch.Generator().manual_seed(0)
delta = delta_orthogonal((16, 16, 3, 3), generator=generator, dtype=torch.float64)
noise = torch.randn(delta.shape, generator=generator, dtype=torch.float64)
starts = {
    "3 → 64": studies.he_kernel(64, 3, 3),
    "16 → 32": studies.he_kernel(32, 16, 3),
    "16 → 16": studies.he_kernel(16, 16, 3),
    "16 → 16, delta": delta + 0.05 * delta.norm() / noise.norm() * noise,
}
passes = [0, 1, 2, 5, 10, 20, 50, 100, 200]
ranges = studies.alternating(starts, 32, passes)
plain = studies.alternating(
    {"3 → 64, plain": starts["3 → 64"]}, 32, [1, 10, 50], relaxed=False
)
shown = pd.concat([ranges, plain])
shown = shown[shown.passes.isin([1, 10, 50]) & (shown.kernel != "16 → 16")]
shown.pivot(index="kernel", columns="passes", values=["lowest", "highest"]).round(4)

# %% mystnb={"figure": {"caption": "Alternating projections on a 32 × 32 map. The more room there is (d over c), the faster they converge; a random square kernel does not.", "name": "fig-alternating"}, "image": {"alt": "Distance from the target against the number of projections, both logarithmic: 3 → 64 falls fast, 16 → 32 slowly, 16 → 16 stays near 1; started near a delta-orthogonal kernel it is small at once, and stays there."}}
draw.alternating(ranges, "Distance from norm preservation")

# %% tags=["hide-input"]
off = shown.assign(off=shown[["lowest", "highest"]].sub(1).abs().max(axis=1)).set_index(
    ["kernel", "passes"]
)["off"]
p1 = claims.read_all(results_root(), only=("P1",))[0]
after = p1.frames["after the crop"]
worst = after.groupby(["shape", "passes"]).off.max()
most = after.passes.max()
three = "3 → 64"
Markdown(
    f"For 3 → 64 the singular values are within {off[three, 10]:.1%} of σ after ten passes and within {off[three, 50]:.0e} "
    f"after fifty; without over-relaxation within {off[three + ', plain', 10]:.1%} and {off[three + ', plain', 50]:.0e}. For "
    f"16 → 32 it takes longer, for 16 → 16 it never gets there. P1 has this on record for {len(studies.SHAPES)} kinds of shape, in "
    f"{after.seed.nunique()} kernels each. Shapes of one tap are exact after one pass. The others, by the largest distance "
    "from σ in any kernel:\n\n"
    + "\n".join(
        f"* {shape.name}: {worst[shape.name, 1]:.0%} after one pass, {worst[shape.name, 100]:.2g} after 100, "
        f"{worst[shape.name, most]:.2g} after {most:,}"
        for shape in studies.SHAPES
        if shape.k > 1
    )
)

# %% [markdown]
# That a square kernel never gets there has a reason. The determinant of a square
# $P^{(u,v)}$ is a smooth function on the frequencies, and a random kernel's has zeros: at some frequency a singular value vanishes, and small changes only move the zero elsewhere.
# Such a kernel has to start on the right side: with one orthogonal matrix in the middle tap and zeros around it, a *delta-orthogonal* kernel
# {cite}`xiao2018`. That one is exactly norm-preserving, and when it is disturbed a single projection repairs it.

# %% mystnb={"figure": {"caption": "The smallest singular value at each frequency of a 64 × 64 map, after 200 projections. The random square kernel keeps its zeros.", "name": "fig-maps"}, "image": {"alt": "Three colour maps over the frequencies: white for 3 → 64 and 16 → 32, where a note says how near to σ all values are, and with dark spots for 16 → 16."}}
names = ("3 → 64", "16 → 32", "16 → 16")
after = {name: project(starts[name], 32, passes=200) for name in names}
smallest = {
    name: (singular_values(w, 64)[..., -1] / target(w.shape)).numpy()
    for name, w in after.items()
}
draw.spectrum_maps(smallest, "Smallest singular value, by frequency")

# %%
print(
    "16 → 16 after 200 passes, some singular value below σ/20:",
    bool(smallest["16 → 16"].min() < 0.05),
)

# %% [markdown]
# In training the question is another one: does a kernel that is already there stay there? Each step disturbs it a little and one projection follows. With a random disturbance of
# 1 % of the kernel's norm in each of 400 steps:

# %% mystnb={"figure": {"caption": "400 steps of 1 % noise, each followed by one projection: the range of the singular values.", "name": "fig-held"}, "image": {"alt": "Two bands around 1. The first has its width from the start, the second widens for 200 steps and then keeps it."}}
walk = studies.noisy_steps(
    {"3 → 64": project(starts["3 → 64"], 32, passes=100), "16 → 16": delta}, 32
)
draw.held(walk, "Held, under noise")

# %%
walk.groupby("kernel").agg(lowest=("lowest", "min"), highest=("highest", "max")).round(
    2
)

# %% tags=["hide-input"]
furthest = walk[["lowest", "highest"]].sub(1).abs().max(axis=None)
Markdown(
    f"It stays within {furthest:.1%}: each projection removes a part of what has gathered, and what comes and what goes "
    "balance. How large a part depends on the kernel. The next table disturbs both once and projects once."
)

# %%
held_kernels = {"3 → 64": project(starts["3 → 64"], 32, passes=1000), "16 → 16": delta}
repaired = studies.repair(held_kernels, 32, [1e-2, 1e-3, 1e-4])
repaired.set_index(["kernel", "noise"]).map("{:.0e}".format)

# %% tags=["hide-input"]
part = repaired.assign(left=repaired.projected / repaired.disturbed).set_index(
    ["kernel", "noise"]
)["left"]
Markdown(
    f"For 3 → 64 one projection leaves {part['3 → 64'].min():.0%} to {part['3 → 64'].max():.0%} of the disturbance, whatever "
    "its size, because some directions are lost in the crop. At a delta-orthogonal kernel none is, and what remains is of "
    f"second order: {part['16 → 16', 1e-2]:.1g} times a disturbance of 1e-2, {part['16 → 16', 1e-4]:.0e} times one of 1e-4."
)

# %% [markdown]
# (At the delta-orthogonal kernel the
# noise of many steps leads away from the delta-orthogonal kernel, hence the slow start in the figure.)
#
# The projection in training may use a small grid of frequencies. $P^{\mathsf H}P$ has only $(2k-1)^2$ lags, so what is orthogonal at $2k-1$ frequencies each way is orthogonal on every map.
#
# **How the library computes it.** No kernel is ever transformed. The projected kernel is the kernel, convolved with the $c \times c$ filter
# $(P^{\mathsf H}P)^{-1/2}$; both the filter's cause, the autocorrelation of the kernel, and the taps of it that survive the crop are few.
# So the frequencies see small matrices only, and the larger number of channels enters through two ordinary matrix products.

# %% [markdown]
# (gradient-energy)=
# ## Do gradients have no preference?
#
# Equation {eq}`eq-target` assumes that the directions that survive carry $r/d$ of the gradient's energy. The paper says when: "the assumption holds if the energy [of the gradient] is
# distributed uniformly among the directions", and adds that with many directions it can hold "in cases where there is some variation", so that it "is not a strict assumption in high
# dimensional spaces". Here it is measured: the share of energy that the convolutions of two small
# ProcResNets pass on, for 200 images. One network was trained freely for four epochs on the sample, in the other the transitions were held.

# %% tags=["nbval-ignore-output"]
data = cifar.load("cifar10", "sample").subset(200, 50)
images = augmentation.normalise(data.train_images, data.mean, data.std)
shares = studies.energy_in_networks(networks, images, data.train_labels)
shares = shares.rename(columns={"effective_rank": "rank", "predicted_sd": "by chance"})
shares.set_index(["network", "convolution"]).drop(columns="sd").round(3)

# %% [markdown]
# In the table `assumed` is $r/d$, `measured` the share of the energy that passes, and `ratio` the one over the other. `rank` is the effective rank of the gradients, explained below, and `by chance` how far
# `ratio` would be from 1, as a standard deviation, for a kernel that has nothing to do with the gradients.
#
# The paper finds that its projection fails when there are few channels, "due to the smaller size of the space", in which its assumption "is violated with higher probability". The formula for `by chance` says something else. For a random row
# space of $r$ dimensions, and gradients whose second moment has the effective rank $m$ (the squared sum of its eigenvalues over the sum of their squares), the share varies
# with a relative standard deviation of
#
# $$
# \sqrt{\frac{2\,(d-r)\,(d-m)}{r\,m\,(d-1)(d+2)}} .
# $$ (eq-spread)
#
# It is zero for $m = d$, however small $r$ is. A small space does no harm by itself; it does when gradients are *correlated* and use few of their $d$ directions. The next
# figure takes three sets of gradients with 64 channels, and for each number of input channels 100 random kernels.

# %% mystnb={"figure": {"caption": "How much the energy that a random kernel passes on varies from kernel to kernel, against its number of input channels, for three sets of gradients. Dots: measured over 100 kernels. Lines: the formula, without a free parameter.", "name": "fig-energy"}, "image": {"alt": "Standard deviation falls with the number of channels; highest for gradients along one direction, near zero for isotropic ones, in between for real ones. Dots lie on the lines."}}
real = output_gradients(
    networks["held"], images, data.train_labels, ["chain.transition1"]
)["chain.transition1"]
generator = torch.Generator().manual_seed(0)
gradients = {
    "real, first transition": real,
    "isotropic": torch.randn(200, 64, 8, 8, generator=generator, dtype=torch.float64),
    "along one direction": torch.randn(
        200, 1, 8, 8, generator=generator, dtype=torch.float64
    )
    * torch.randn(1, 64, 1, 1, generator=generator, dtype=torch.float64),
}
variation = studies.energy_by_channels(gradients, [1, 2, 4, 8, 16, 32])
draw.energy_spread(variation, "64 output channels: what decides is the gradients' rank")

# %%
constructed = variation[variation.gradients != "real, first transition"]
constructed.pivot(
    index="channels", columns="gradients", values=["sd", "predicted"]
).round(2)

# %% tags=["hide-input"]
sd = constructed.set_index(["gradients", "channels"]).sd
one = "along one direction"
Markdown(
    "(With so few kernels a standard deviation is itself uncertain, most so for one channel, where the share's "
    "distribution has a long tail.) Isotropic gradients satisfy the assumption even with one input channel: the standard "
    f"deviation is {sd['isotropic', 1]:.2f}. Gradients along one direction violate it, by {sd[one, 1]:.0%} with one "
    f"channel, and still by {sd[one, 32]:.0%} with half of the channels. Real ones lie in between, where their effective "
    "rank puts them. So a small space does harm together with correlated gradients; alone it does none."
)

# %% tags=["hide-input", "nbval-ignore-output"]
furthest = shares.ratio.sub(1).abs().max()
norm = max((1 + furthest) ** 0.5 - 1, 1 - (1 - furthest) ** 0.5)
Markdown(
    "Trained kernels are not independent of their gradients, and a `ratio` in the table may be further from 1 than chance "
    "explains: training turns the row space towards the gradients. In these runs the largest deviation was "
    f"{furthest:.0%} of the energy, which is some {norm:.0%} of the norm."
)

# %% [markdown]
# And what does holding the kernels do for the gradient in these two networks?

# %% tags=["nbval-ignore-output"] mystnb={"figure": {"caption": "The gradient-norm ratio of the three transitions in the two short runs on the sample of 1,000 images, one seed. Above 1 the gradient shrinks on its way back.", "name": "fig-transitions"}, "image": {"alt": "Three panels, one a transition: at the first one the held kernel stays near 1 and the free one is far above; at the two others both are near 1."}}
blocks = pd.concat([record.blocks.assign(run=name) for name, record in records.items()])
draw.transition_ratios(blocks, "ProcResNet-13, free and held")

# %% [markdown]
# The first transition gains. For the two others He's initialisation happens to be right on average: with $d = 2c$ outputs a variance of $2/d$ in each weight gives the gradient
# $2c/d = 1$ times its energy, and four epochs do not change much. For 3 → 64 it gives $6/64$.

# %% [markdown]
# ## In a network of your own
#
# `NormPreserving` attaches to any optimiser. It is told which convolutions to hold, or finds them: those that are on every path with the fewest convolutions, from an output back to
# the image. It prints what it found, and why it passed over the others.

# %%
torch.manual_seed(0)
model = torchvision.models.resnet18(num_classes=10)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it warns of what the last line says
    held = NormPreserving(model, every=2, example=torch.zeros(1, 3, 64, 64))
print(held)

# %%
held.project()
described = pd.DataFrame(held.describe())[
    ["name", "shape", "target", "lowest", "highest"]
]
described.round(2)

# %% [markdown]
# After one projection the three 1 × 1 convolutions are exact. The 7 × 7 convolution with stride 2 is not, for the reason above. With `start="projected"` it begins at its target.
# During training `held.attach(optimizer)` does the rest, and `held.export()` returns a projected copy.
#
# The last line is a warning. This ResNet has a batch normalisation directly behind each of the held convolutions, and it divides by whatever scale a kernel has. So the gradient's norm there
# does not follow from the target. What is held is that no direction is favoured: all singular values are equal. Behind the paper's own transitions an identity skip takes the convolution's
# output, too, and carries its scale past the next normalisation.

# %% [markdown]
# (what-it-costs)=
# ## What it costs
#
# The paper says three things of the time that projecting takes: it "increases the training time by less than 8%" when it follows every second step of ResNet-164; "as the network becomes
# deeper the computational overhead becomes less significant", with ResNet-1001 for the example; and "this is significantly less computation compared to regularization using SVD". Each is measured here on its own (O1a, O1b, O1c). A
# fourth line (O1d) is about this library's projection, which is another program than the paper's.
#
# Two programs can be compared only if both have the same shortcuts. There are two: a 1 × 1 kernel has one matrix for all frequencies, and of a real kernel half of the spectrum is enough. Neither belongs to the
# iteration or to the SVD, so here each of the two is timed with both shortcuts and with neither.
#
# "The paper's iteration" is the paper's (8) and (9) as they are written: the Gram matrix $P^{\mathsf H} P$ on the side of the input, at all $n^2$ frequencies. Ten steps are assumed, which is what the published code takes; the paper gives no number.
#
# The times are stored, since they belong to one machine, and a busy one. The variants took turns, so that what else ran there met all of them. The rules and this text take the median of the rounds; the table [at the end](costs-hold) has their mean and standard deviation. The next cell prints where
# the times were taken.

# %%
cost = {
    f.claim: f
    for f in claims.read_all(results_root(), only=("O1a", "O1b", "O1c", "O1d"))
}
for name in ("O1a", "O1b"):
    made, table = cost[name].provenance, cost[name].frames["seconds"]
    print(
        f"{made.command}\n    {made.device.name}, threads: {made.threads}, commit {made.short_commit}, "
        f"rounds: {table['round'].nunique()}, processes that ran or waited: {table.load.median():.0f}"
    )

# %% mystnb={"figure": {"caption": "What projecting after every second step adds to the training time of ProcResNet-166, in per cent, on a logarithmic scale. A dot is the median of the rounds. Shortcuts: one matrix for a 1 × 1 kernel, and half of the spectrum.", "name": "fig-overhead"}, "image": {"alt": "Five dots on a logarithmic scale: the library, the SVD and the iteration with the same shortcuts lie together, far below the paper's 8 per cent; the SVD and the iteration at every frequency lie together near or above it."}}
labels = {
    "library": "this library",
    "svd, shortcuts": "SVD, shortcuts",
    "iteration, shortcuts": "the paper's iteration, shortcuts",
    "svd": "SVD at every frequency",
    "iteration": "the paper's iteration",
}
times = cost["O1a"].frames["seconds"]
share = times[list(labels)].div(2 * times.step, axis=0).mul(100).median()
draw.overhead(
    pd.DataFrame({"variant": list(labels.values()), "percent": share[list(labels)]}),
    limit=8,
    title="Projecting after every second step",
)

# %% tags=["hide-input"]
of_svd = {
    which: (times[f"iteration{which}"] / times[f"svd{which}"]).median()
    for which in ("", ", shortcuts")
}
saved = (times.svd / times["svd, shortcuts"]).median()
verdict = "far less" if of_svd[", shortcuts"] <= 0.5 else "not far less"
on = {name: f.provenance.device.type for name, f in cost.items()}
deep = cost["O1b"].frames["seconds"]
recomputed = (
    " (Both with activations that are computed a second time on the way back. That takes less memory and makes a step "
    f"longer, so that these shares do not compare with the {share['iteration']:.2g} % above.)"
    if deep.recomputed.all()
    else ""
)
deeper = (50 * deep.iteration / deep.step).groupby(deep.depth).median()
Markdown(
    f"On this {'GPU' if on['O1a'] == 'cuda' else 'CPU'} the paper's iteration takes {share['iteration']:.2g} % of the training time, and an SVD at every frequency "
    f"{share['svd']:.2g} %. The iteration takes {of_svd['']:.1f} times as long as the SVD where neither has a shortcut, and "
    f"{of_svd[', shortcuts']:.1f} times where both have them: here it is {verdict} than an SVD. The shortcuts are what "
    f"saves time. With them the SVD is {saved:.0f} times as fast.\n\n"
    f"At depth {deep.depth.max()} the same projections take {deeper.iloc[-1]:.2g} % of the training time in the place of "
    f"{deeper.iloc[0]:.2g} % at depth {deep.depth.min()}, since three transitions are projected at any depth."
    + recomputed
)

# %% tags=["hide-input"]
library = {m: (times[m] / times.library).median() for m in ("svd, shortcuts", "svd")}
folder = results_root().parent / "benchmarks" / "results"
measured = json.loads((folder / "projection.json").read_text())
published = measured["over_ours"]["published"]
threads = cost["O1d"].provenance.threads
Markdown(
    f"This library's projection takes {share['library']:.2g} % of the training time. An SVD with the same shortcuts takes "
    f"{library['svd, shortcuts']:.1f} times as long, one at every frequency {library['svd']:.0f} times. These are medians "
    f"of {times['round'].nunique()} rounds on {threads} thread{'s' * (threads > 1)}. A benchmark of its own times the authors' published function on "
    f"{measured['threads']} threads: it takes {published['median']:,.0f} times as long as the library, where the SVD at "
    f"every frequency takes {measured['over_ours']['svd']['median']:.0f} times as long (medians of "
    f"{measured['rounds']['others']} pairs). The published function has neither shortcut, and takes the Gram matrix on the larger "
    "side, as the next chapter shows."
)

# %% tags=["hide-input"]
Markdown(
    "The paper's figures are for a GPU, which is made for many small matrix products: “since the iterations only involve "
    "matrix multiplication, they can be implemented efficiently on GPUs”. "
    + (
        "A CPU decides nothing of this, and no GPU has been measured here yet. The command above measures on a GPU where "
        "there is one, and then the verdict counts."
        if "cuda" not in on.values()
        else f"On a GPU were measured: {', '.join(n for n, where in on.items() if where == 'cuda')}."
    )
)

# %% [markdown]
# The inverse square roots alone, in milliseconds, for the three transitions' Gram matrices and singular values down to 1e-5 of the largest, by eigen-decomposition and by products:

# %%
print(measured["command"])
print(
    f"{measured['device']}, {measured['threads']} threads, commit {measured['git']['commit'][:7]}"
)
pd.DataFrame(measured["inverse_sqrt_milliseconds"]).T.round(1)

# %% [markdown]
# With more channels the cost grows, in the end, with their third power, for the library as for an SVD at every frequency. (Half of the spectrum would take half of the SVD's time at any number of channels.)

# %% mystnb={"figure": {"caption": "Seconds of one projection of a 3×3 kernel with c input and 2c output channels on a 16 × 16 map, by the library and by an SVD without the shortcut of half a spectrum. Dotted: the third power.", "name": "fig-cost"}, "image": {"alt": "Two curves on logarithmic scales, the library below the SVD, both bending towards the dotted lines for many channels."}}
growth = pd.DataFrame(measured["growth"]).rename(
    columns={"ours": labels["library"], "svd": labels["svd"]}
)
draw.cost(growth, "Growth with the number of channels")

# %%
doublings = [
    f"{a} → {b}" for a, b in zip(growth.channels, growth.channels[1:], strict=False)
]
slopes = measured["growth_exponents"]
pd.DataFrame(
    {labels[n]: pd.Series(slopes[k]) for n, k in (("library", "ours"), ("svd", "svd"))}
).set_axis(doublings).rename_axis("exponent from").T

# %% [markdown]
# (costs-hold)=
# ## What holds
#
# T3, P1, P2 and O1a to O1d were measured with more seeds or rounds, on record. The verdicts follow from these records by the rules below the table.

# %%
found = claims.read_all(results_root(), only=("T3", "P1", "P2", *cost))
claims.overview(found).drop(columns=["device", "commit", "verdict"]).set_index(
    ["claim", "measured"]
)

# %% tags=["hide-input"]
busy = {
    name: f.frames["seconds"].groupby("round").load.mean().median()
    for name, f in cost.items()
}
Markdown(
    "The times behind O1a to O1d were taken on a busy machine of two cores: in the median round "
    f"{busy['O1a']:.0f} processes ran or waited there for O1a, O1c and O1d, and {busy['O1b']:.0f} for O1b. So a time alone "
    "means little; the shares and ratios, which compare what ran in turns, mean more. The table has means over the rounds, where the text and the rules take medians."
)

# %%
print(claims.report(found))

# %% tags=["hide-input"]
Markdown(
    "Some of these rules replace earlier ones:\n\n"
    + "\n".join(
        f"* {f.claim}, until {former.until}: *{former.outcome}*, by the rule “{former.sentence}”. It was replaced because "
        f"{former.reason}."
        for f in found
        for former in claims.CLAIMS[f.claim].former
    )
)

# %% [markdown]
# P1's statement is exact before the crop, which is where the paper's (8) makes it, and for 1 × 1 kernels, which two of the three transitions have. Algorithm 1 then crops, and for larger kernels the correction is to repeat the projection; for a
# random kernel with as many output as input channels no repetition helps. O1a to O1d are decided on a GPU. P3, that the row space holds its share of the gradient's energy, is measured above on
# small networks and a sample of images only; [chapter 3](03_channel_grid.ipynb) measures it on real CIFAR-10, for many numbers of channels.

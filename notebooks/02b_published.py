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
# # Reading the published code
#
# The authors of the paper {cite}`zaeemzadeh2020` have published a PyTorch implementation,
# [ProcResNet_PyTorch](https://github.com/zaeemzadeh/ProcResNet_PyTorch). Code answers what a paper leaves open: how many steps, in which
# precision, scaled how. This page reads the part that projects a kernel: the function `regularize_conv` in `models/procresnet.py`, the
# function that it calls, `batch_sqrtm`, and the method that calls it, `regularize_convs` (all at commit `0cdb641`; later commits leave that file as it was). It compares them with
# the paper's (7) to (9) and Algorithm 1. They differ in seven points. For each, a small experiment shows what the difference changes, and what it
# does not.
#
# | | |
# |---|---|
# | **needs** | two CPU cores |
# | **fetches** | nothing |
# | **takes** | some ten seconds |
#
# Three things should be said first.
#
# * No code of the authors is run here. `paperlib.published` computes what their function computes, [from the formulas](../book/api/published.md),
#   and can leave the first point out (`conjugated=False`), so that the others can be seen alone.
# * A ProcResNet has three transitions. Two of them have 1 × 1 kernels, and those come out of the published code as they should.
# * The paper itself points to another repository, [ProcResNet](https://github.com/zaeemzadeh/ProcResNet), which the PyTorch one calls the original
#   implementation, written with Chainer. We have not read it. Nothing on this page says that the paper's results would be different with any of these
#   points changed.
#
# ## What is compared
#
# A convolution has a kernel $K$ with $c$ input channels, $d$ output channels and $k \times k$ taps, and a feature map of $n \times n$ pixels at its
# output. On a map that wraps around, it acts at each frequency $(u, v)$ as one $d \times c$ matrix $P$, the kernel's Fourier
# transform there. The paper replaces each $P$ by $\sigma U$, where $U$ is the *polar factor* of $P$, the closest matrix whose
# singular values are all 1, and
#
# $$ U = P\,(P^{\mathsf H} P)^{-1/2}, \qquad \sigma = \sqrt{\frac{d}{\min(d, c)}} . $$
#
# (That form of $U$ is for $d \ge c$.) The matrix $P^{\mathsf H} P$ is the *Gram matrix* of $P$. Its inverse square root is found with the
# Newton-Schulz iteration {cite}`higham1997`. Then the result is transformed back and cropped to its $k \times k$ taps.
#
# The measure throughout is the singular values of the convolution over $\sigma$ (in the tables, the `lowest` and the `highest`). All of them at 1 means that the convolution keeps the
# norm of a gradient that has no preferred direction. The *energy* of a kernel, or of one of its taps, is the sum of the squares of
# its entries. A kernel with all singular values at $\sigma$ has the energy $d$.

# %%
# %matplotlib inline
import pandas as pd
import torch
import torch.nn.functional as F
from IPython.display import Markdown

from paperlib import published
from paperlib.figures import published as draw
from paperlib.polar import polar_factor
from paperlib.projection import project, target
from paperlib.spectrum import singular_values
from paperlib.studies import published as studies

torch.set_num_threads(1)  # many small matrices: more threads wait for each other


def shown(table, **styles):
    """The table as text, each column in its style."""
    return table.assign(**{c: table[c].map(s.format) for c, s in styles.items()})


kernel_style = {
    "lowest": "{:.3f}",
    "highest": "{:.3f}",
    "energy": "{:.1f}",
    "corner": "{:.0%}",
}
for c, d, k, stride, n in studies.LAYERS:
    print(f"{c:>3} → {d:<3}  {k}×{k}, stride {stride}, output {n}×{n}: ", end="")
    print(f"σ = {target((d, c, k, k), stride):.3f}")

# %% [markdown]
# ## Point 1: The spectrum is read back conjugated
#
# The plainest test of a projection is a kernel that needs none. Take 16 channels in and out, a 3 × 3 kernel with the identity matrix in its
# central tap and zeros around it: the convolution that returns its input. All its singular values are 1, which is σ, so it should come back
# as it is.

# %%
identity = studies.centre_tap(16)
read = {"not conjugated": False, "as published": True}
lines = []
for label, conjugated in read.items():
    out = published.project(identity, 32, conjugated)
    same = bool((out - identity).abs().max() < 1e-6)
    lines.append(
        f"{label}: energy {studies.tap_energy(out).sum():.1f}, unchanged: {same}"
    )
print("\n".join(lines))

# %% [markdown]
# It comes back as zero. The second test is the case that occurs in training, the first transition, 3 → 64 channels on a 32 × 32 map, as it is initialised
# {cite}`he2015`.

# %%
start = studies.initial_kernel(64, 3, 3)
kernels = {"He-initialised": start}
for label, conjugated in read.items():
    kernels[f"projected, {label}"] = published.project(start, 32, conjugated)
table = pd.DataFrame({label: studies.summary(w, 32) for label, w in kernels.items()}).T
shown(table, **kernel_style)

# %% tags=["hide-input"]
he, whole, read_back = (table.loc[label] for label in kernels)
Markdown(
    f"Not conjugated, one pass leaves singular values between {whole.lowest:.3f} and {whole.highest:.3f} of the target. "
    "They are not at 1, because the crop to the kernel's taps takes something away; that is a property of Algorithm 1, not "
    f"of the code. As published, they lie between {read_back.lowest:.3f} and {read_back.highest:.3f}, and "
    f"{read_back.corner:.0%} of the energy that is left is in one corner tap."
)

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The nine taps of two kernels before and after the projection: the share of each tap in the kernel's energy, in per cent. Top: a kernel that is norm-preserving already. Bottom: the first transition of a ProcResNet at its start.", "name": "fig-published-taps"}, "image": {"alt": "Two rows of three grids of nine taps. The identity keeps its central tap without the conjugation, and has nothing left with it. The He-initialised kernel has about a ninth in each tap, before and after the projection; with the conjugation nearly all is in the upper left tap."}}
kernels_by_stage = {
    name: {
        "before": kernel,
        "projected,\nnot conjugated": published.project(kernel, 32, False),
        "projected,\nas published": published.project(kernel, 32),
    }
    for name, kernel in {
        "identity, 16 → 16": identity,
        "He-initialised, 3 → 64": start,
    }.items()
}
draw.tap_energy(studies.taps(kernels_by_stage))

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The singular values of the first transition, over the target, before and after the projection. Dashed: the target.", "name": "fig-published-values"}, "image": {"alt": "Three histograms one under the other. Before: well below 1. Projected without the conjugation: around 1. Projected as published: well below 1 again."}}
draw.singular_value_shares(
    pd.concat(
        pd.DataFrame(
            {
                "kernel": label,
                "ratio": singular_values(kernel, 32).flatten() / target(kernel.shape),
            }
        )
        for label, kernel in kernels.items()
    )
)

# %% [markdown]
# ### Why
#
# At one frequency let $A = R + iI$ be the matrix to be projected, with real $R$ and $I$. The code works with real numbers alone and replaces $A$ by
#
# $$ \begin{pmatrix} R & I \\ -I & R \end{pmatrix} . $$
#
# Two conventions are in use for such a block matrix. The other one, and the more common, has the signs of the two $I$ exchanged, so that the matrix above is
# there the block matrix of the conjugate $\bar A = R - iI$. Both are sound: sums, products and polar factors of block matrices are again block matrices
# of the same kind. If $U = R' + iI'$ is the polar factor of $A$, the code therefore arrives at
#
# $$ \begin{pmatrix} R' & I' \\ -I' & R' \end{pmatrix} . $$
#
# From its upper half it forms $R' - iI'$. With the other convention the upper right block would be $-I'$, and the minus sign would be right. With this one the
# result is $\bar U$, the conjugate of the polar factor. Either choice of signs works; the two in the code belong to different ones.

# %%
generator = torch.Generator().manual_seed(0)
a = torch.randn(5, 3, dtype=torch.complex128, generator=generator)


def close(a, b):
    return torch.allclose(a, b, rtol=0, atol=1e-12)


u = polar_factor(a)
for sign in (1, -1):
    out = studies.polar_from_blocks(a, sign)
    print(
        f"R' {'+' if sign > 0 else '-'} iI' is the polar factor: {close(out, u)}, ",
        end="",
    )
    print(f"its conjugate: {close(out, u.conj())}")

# %% [markdown]
# What does a conjugation do to a kernel? In one dimension, let $k_a$ be the taps and $\omega = e^{-2\pi i/n}$. The taps are real, so that
#
# $$ \overline{\sum_a k_a\, \omega^{ua}} = \sum_a k_a\, \omega^{-ua} , $$
#
# which is the transform of the kernel that has $k_a$ at the place $-a$: the kernel is reversed in space. On a map of $n$ pixels the taps 0, 1, 2
# go to the places $0$, $n-1$, $n-2$. The crop then keeps the places 0, 1, 2, as if nothing had been reversed.

# %%
k = torch.tensor([3.0, 1.0, 2.0])
reversed_ = torch.fft.ifft(torch.fft.fft(k, n=8).conj()).real
print("the kernel, on 8 places ", F.pad(k, (0, 5)).int().tolist())
print("its spectrum conjugated ", reversed_.round().int().tolist())
print("cropped to three taps   ", reversed_[:3].round().int().tolist())

# %% [markdown]
# Only the tap at place 0 stays where the crop looks for it; in two dimensions, only the corner tap $(0, 0)$, one of nine. The other eight taps of the cropped
# kernel hold what the projection had put outside of the 3 × 3 taps, and that is little. Nothing of the identity kernel lies in its corner tap, hence the zero.

# %% tags=["hide-input"]
Markdown(
    "In a random kernel each tap has about a ninth of the energy. Here the corner tap of the projected kernel has "
    f"{whole.corner:.0%} without the conjugation, and the square root of that share, which is {whole.corner**0.5:.2f}, is "
    f"about what remains of the singular values: between {read_back.lowest:.3f} and {read_back.highest:.3f}."
)

# %% [markdown]
# ### 1 × 1 kernels are not affected
#
# A 1 × 1 kernel has one matrix, the same at all frequencies, and that is real: $I = 0$, and a conjugation does nothing. The other two transitions of a ProcResNet are of
# this kind. They come out right.

# %%
real = a.real.to(a.dtype)
both = [studies.polar_from_blocks(real, sign) for sign in (1, -1)]
lines = [f"a real matrix, read either way, gives the same: {close(*both)}"]
for c, d, k, stride, n in studies.LAYERS[1:]:
    out = published.project(studies.initial_kernel(d, c, k), n)
    found = studies.summary(out, n, stride)
    lines.append(
        f"{c} → {d}, as published: sv/σ from {found['lowest']:.3f} to {found['highest']:.3f}"
    )
print("\n".join(lines))

# %% [markdown]
# ### What it means in training
#
# The projection is repeated all through the training. The corner tap is the one place that the reversal leaves alone, so a kernel that has most
# of its energy there is no longer taken apart. The first table is of repeated calls of the published projection on the first transition: on its own, and with random
# noise of 5 % of the kernel's norm added before each further call, in the place of a training step.

# %%
calls = studies.repeated_calls(start, 32, (0, 0.05), shown=(1, 2, 5, 20))
style = kernel_style | {"corner": "{:.1%}", "noise": "{:.0%}"}
shown(calls, **style).drop(columns="energy").set_index(["noise", "calls"])

# %% tags=["hide-input"]
after = calls.set_index(["noise", "calls"])
between = {
    key: f"{row.lowest:.3f} and {row.highest:.3f}" for key, row in after.iterrows()
}
Markdown(
    f"The first call leaves singular values between {between[0, 1]} of the target. The second finds what is nearly a kernel "
    f"of one tap, for which the projection is right, and brings them to between {between[0, 2]}. After five calls they lie "
    f"between {between[0, 5]}, with the noise between {between[0.05, 5]}."
)

# %% [markdown]
# The same can be seen in a network. A ProcResNet of the smallest depth is trained for 20 steps on random images with random labels, in float64. Its
# loss means nothing, but its kernels move as kernels do in training. The table shows the first transition after some of the steps, and whether these were followed
# by a projection.

# %%
training = studies.in_training(20)
some = training[training.step.isin([1, 2, 3, 9, 10, 11, 18, 20])]
style = kernel_style | {"lowest": "{:.2f}", "highest": "{:.2f}"}
shown(some, **style).drop(columns="energy").set_index("step")

# %% tags=["hide-input"]
at = training.set_index("step")
first, second, third = at.index[at.projected][:3]
later = at.loc[third:, ["lowest", "highest"]].sub(1).abs().max(axis=None)
Markdown(
    f"The first projection, at step {first}, leaves the corner tap with {at.corner[first]:.0%} of the energy and singular "
    f"values of {at.highest[first]:.2f} and less. Until the next one, the other taps grow again, to "
    f"{1 - at.corner[second - 1]:.0%} at step {second - 1}. The second and the third, at steps {second} and {third}, take "
    f"them back. From then on the singular values stay within {later:.1%} of the target."
)

# %% [markdown]
# So in the published code the first transition, too, keeps the gradient's norm, after its first few projections. What it loses is its shape. It is
# in effect a 1 × 1 kernel in the corner of a 3 × 3 one: it mixes the three colours of one pixel into 64 channels and moves the image by one pixel. The 3 × 3 convolutions inside the residual
# blocks are not projected and keep all their taps.

# %% [markdown]
# ## Point 2: The Gram matrix on the side of the output
#
# A Gram matrix can be taken on either side of $P$: $P^{\mathsf H} P$ is $c \times c$, $P P^{\mathsf H}$ is $d \times d$. Both have the same non-zero
# eigenvalues, and both lead to the polar factor. The larger one is singular: of its $d$ eigenvalues, $d - c$ are zero. The published code takes the one on the output's side,
# and in all three transitions $d > c$.
#
# In exact arithmetic that does no harm. The Newton-Schulz iteration keeps two matrices $Y$ and $Z$, which begin as the scaled Gram matrix and the identity, and go to its
# square root and the inverse of that. Where the eigenvalue is zero, $Y$ stays zero, $Z$ grows by a factor of $1.5$ with each step, and the product with $P$ removes what has grown. With rounding,
# it leaves a remainder, which grows as well, by $1.5$ a step. And an eigenvalue that should be zero is a little above or below. In $ZY$ it grows by $1.5^2$ with each step. One that is below zero
# never comes back: the iteration converges only for eigenvalues between $0$ and $3$.
#
# The cell iterates on both sides of a 128 → 256 matrix and compares with the polar factor from an eigendecomposition.

# %%
sides = studies.gram_sides(studies.initial_kernel(256, 128, 1)[:, :, 0, 0])
table = sides.set_index(["side", "precision", "steps"]).error
for side in ("input side", "output side"):
    single, double = table[side, "float32"], table[side, "float64"]
    print(f"{side}, float32:")
    print("   below 1e-5 after 10 steps:", single[10] < 1e-5)
    print("   below 1e-5 after 20 steps:", single[20] < 1e-5)
    print("   above 1 or not finite after 30 steps:", not single[30] < 1)
    growth = (double[40] / double[20]) ** (1 / 20)
    print(f"{side}, float64: from step 20 to 40 times {growth:.1f} a step")

# %% mystnb={"figure": {"caption": "The error of the polar factor of a 128 → 256 matrix over the steps of the Newton-Schulz iteration, with the Gram matrix on the side of the input (128 × 128) and of the output (256 × 256). Dotted: the ten steps of the published code.", "name": "fig-published-gram"}, "image": {"alt": "Error on a logarithmic axis against steps. On the input side it falls to the precision and stays. On the output side it falls at first, then rises steadily, in float32 until it explodes, in float64 later than in float32."}}
draw.gram_sides(sides, taken=10)

# %% tags=["hide-input"]
double = table["output side", "float64"]
Markdown(
    f"After {published.STEPS} steps in float32 both sides have an error below 1e-5: for the published settings it makes no "
    "difference to the result. It is a reason not to take more steps to be safe. On the output's side the error then grows "
    f"by a factor of {(double[40] / double[20]) ** (1 / 20):.1f} with each step, and after 30 steps nothing is left of "
    "the result."
)

# %% [markdown]
# More precision
# puts that off but does not prevent it. The other difference is the cost, which comes next.

# %% [markdown]
# ## Point 3: One matrix, many frequencies
#
# A 1 × 1 kernel has one matrix for all frequencies. The published code pads the kernel with zeros, transforms it, and iterates on $n^2$ copies of it. For the
# 3 × 3 kernel the matrices do differ, but the kernel is real and $P$ at $(-u, -v)$ is the conjugate of $P$ at $(u, v)$, so that about half of them are
# enough. With the real blocks and the output's side, each Gram matrix is $2d \times 2d$; $c \times c$ (complex for the 3 × 3 kernel) would do. A step of the
# iteration takes three products of such matrices.

# %%
work = studies.work()
work["ratio"] = work["work used"] / work["work needed"]
style = {"work used": "{:.0e}", "work needed": "{:.0e}", "ratio": "{:,.0f}"}
shown(work, **style).set_index("layer").T

# %% tags=["hide-input"]
Markdown(
    "The work is the number of real multiplications in one step of the iteration. It is between "
    f"{float(f'{work.ratio.min():.1g}'):,.0f} and {float(f'{work.ratio.max():.1g}'):,.0f} times what is needed; the result is "
    "the same."
)

# %% [markdown]
# The paper's (8) and (9) need no more than that: there the Gram matrix $P^{\mathsf H} P$ is the smaller one in all three transitions, though at all frequencies. These are counts, not times:
# how much of a training step they take depends on the machine ([chapter 2](what-it-costs)).

# %% [markdown]
# ## Point 4: The target is √(d/c)
#
# The paper's (7) has $\sigma = \sqrt{d / \min(d, c)}$. The published code has $\sqrt{d/c}$. For $c \le d$ these are the same, and that covers all three transitions. For
# $c > d$, a convolution that reduces the number of channels, they are not: the paper's (7) gives 1, the code $\sqrt{d/c} < 1$.
#
# The experiment draws random gradients with no preferred direction at the output of a convolution, takes them through its backward pass, and divides their norm at the input by the one at the
# output. The convolution wraps around at the borders; the conjugation is left out.

# %%
targets = studies.targets([*studies.LAYERS, (64, 16, 3, 1, 16)]).set_index("layer")
targets.T.round(2)

# %% tags=["hide-input"]
narrowing = targets.iloc[-1]
kept = narrowing["gradient, the paper's (7)"]
Markdown(
    "In the three transitions nothing changes. At 64 → 16 the gradient arrives with "
    f"{narrowing['gradient, published']:.2f} of the norm that it has at the output; with the target of the paper's (7) it is "
    f"{kept:.2f}. (That the latter is not 1 is due to the crop.)"
)

# %% [markdown]
# ## Point 5: Ten steps, and scaling only where the norm exceeds 1
#
# The iteration starts from a Gram matrix whose norm must not be too large, so it is divided by its norm. The published code does this only where the norm is above 1. A small
# Gram matrix is left as it is. Small eigenvalues take long: a singular value $s \ll 1$ grows by a factor of $1.5$ with each step, and there
# are ten steps, whether they are enough or not. The cell makes the kernels smaller and looks at what comes out, again without the conjugation.

# %%
small = studies.small_weights()
style = {"scaled": "{:.0%}", "lowest": "{:.2f}", "highest": "{:.2f}"}
shown(small, **style).set_index(["layer", "factor"])

# %% tags=["hide-input"]
smallest = small.set_index(["layer", "factor"]).loc["64 → 128, 1×1", 0.01]
sigmas = {
    layer: target((d, c, k, k), s)
    for layer, (c, d, k, s, _) in zip("123", studies.LAYERS, strict=True)
}
Markdown(
    "At the size of a He initialisation, all Gram matrices are scaled, and ten steps are enough. They still are with weights "
    "of a tenth of that size. With a hundredth they are not: the singular values of the 64 → 128 kernel end between "
    f"{smallest.lowest:.2f} and {smallest.highest:.2f} of the target.\n\n"
    "Once projected, the kernels of the three transitions have singular values above 1: "
    f"{sigmas['2']:.2f} for the kernels of one tap, {sigmas['1']:.2f} for the first, and that one after its first conjugated "
    f"call still at least {read_back.lowest * sigmas['1']:.2f}."
)

# %% [markdown]
# From
# then on the Gram matrices are scaled. The point is therefore about the start, and about kernels that are initialised much smaller than usual.

# %% [markdown]
# ## Point 6: No factor of √2 in front of a ReLU
#
# Where a ReLU follows the convolution directly, it takes half of the gradient's energy, and the paper multiplies $\sigma$ by $\sqrt 2$ to make up for it. The published code has no such
# factor. In a ProcResNet there is nothing to make up for: behind each transition comes a residual block, whose skip leads on without a ReLU. The factor would
# matter where the paper looks at a convolution and a ReLU alone.

# %%
lines = []
for label, kernel in {
    "σ as published": published.project(start, 32, conjugated=False),
    "σ with √2": project(start, 32, relu=True),
}.items():
    plain, behind = (studies.backward_ratio(kernel, 32, relu=r) for r in (False, True))
    lines.append(f"{label:<14}: {plain:.2f} without a ReLU, {behind:.2f} with one")
print("The gradient's norm, 3 → 64:", *lines, sep="\n")

# %% [markdown]
# ## Point 7: The projection follows a step with probability 1/2
#
# The paper projects after every second step. The published code draws a random number after each step and projects, all three kernels together,
# with a probability, `regul_freq`, which its instructions set to one half. The rate is the same on average. The waits between two projections are not all alike.

# %%
waits = studies.waits(10_000)
drawn = waits[waits.schedule == "with probability 1/2"]
print(f"{drawn['count'].sum():,} projections in 10,000 steps")
print(f"longest wait: {drawn.wait.max()} steps without a projection")
drawn.set_index("wait")[["count"]].T

# %% tags=["hide-input"] mystnb={"figure": {"caption": "How many steps pass without a projection between two steps with one: with probability 1/2 after each step, over 10,000 steps, and after every second step. Grey: what is expected, half as often with each further step.", "name": "fig-published-waits"}, "image": {"alt": "Shares on a logarithmic axis over the number of steps without a projection. At random, they fall along a straight line: half of the waits have none, a quarter one, and so on. Every second step: always one."}}
draw.waiting_times(waits)

# %% tags=["hide-input"]
at_once = drawn.share[drawn.wait == 0].iloc[0]
long = drawn["count"][drawn.wait >= 10].sum()
Markdown(
    f"Of the projections {at_once:.0%} follow directly on another one. The kernels were left alone for ten steps or more "
    f"{long} times in 10,000 steps."
)

# %% [markdown]
# How far they move in that time depends on the
# learning rate. This has not been measured here.

# %% [markdown]
# ## All seven
#
# | | point | where | what it changes | a ProcResNet's three transitions |
# |---|---|---|---|---|
# | 1 | spectrum read back conjugated | `regularize_conv` | kernels larger than 1 × 1 shrink to their corner tap | **yes**: the first (3 × 3); no: the other two (1 × 1) |
# | 2 | Gram matrix on the output's side | `regularize_conv` | cost; the result only with many more steps | cost: yes; result: no |
# | 3 | all $n^2$ frequencies, for any kernel | `regularize_conv` | cost alone | cost: yes; result: no |
# | 4 | $\sigma = \sqrt{d/c}$ | `regularize_convs` | the target where $c > d$ | no |
# | 5 | scaled only above norm 1; ten steps | `batch_sqrtm` | kernels that start very small are not brought to the target | no, with He's initialisation |
# | 6 | no $\sqrt 2$ in front of a ReLU | `regularize_convs` | convolutions with a ReLU directly behind | no |
# | 7 | projection with probability 1/2 | `regularize_convs` | the waits between projections, not their rate | yes |
#
# In short, as far as these experiments show: a network trained with the published code has three norm-preserving transitions, as the paper intends, and the first of them is in
# effect a 1 × 1 convolution.
#
# ## Running it
#
# Points 1, 4, 5, 6 and 7 can be switched on; points 2 and 3, which change the cost, are left out. The network starts from kernels that have not been projected, and `NormPreserving`
# holds them as the published code does:
#
# ```python
# model = models.build("procresnet", 164, project=False)
# held = NormPreserving(model, projector=published.Projector())
# ```
#
# For one whole training run, with its record and its figures:
#
# ```bash
# papermill notebooks/04_cifar.ipynb out.ipynb -p arch procresnet -p projector published
# ```
#
# What the points do to a training has not been measured at the paper's scale. [Chapter 4](04_cifar.ipynb) has one short run of each network on record, with one seed: too little to tell them apart.

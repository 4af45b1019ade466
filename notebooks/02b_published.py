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
# [ProcResNet_PyTorch](https://github.com/zaeemzadeh/ProcResNet_PyTorch), and it answers what a paper must leave open: how many steps, in which precision, scaled how. This appendix reads the part that projects a kernel and compares it with the paper's (7) to (9) and Algorithm 1.
# They differ in seven points. For each, a small experiment shows what the difference changes and what it does not.
#
# No code of the authors is run here: `paperlib.published` computes what their function computes, [from the formulas](../book/api/published.md). And nothing in this appendix says that the paper's results would be different with any of the points changed. The paper points to another repository,
# [ProcResNet](https://github.com/zaeemzadeh/ProcResNet), written with Chainer, which the PyTorch one calls the original implementation. We have not read it.
#
# :::{card} About this chapter
# :class-card: chapter-card
#
# - **Shows:** where the published projection differs from the paper's, in seven points, and what each changes in numbers
# - **Decides:** no claim; what the points do to a training at the paper's scale has not been measured
# - **Needs:** two CPU cores, 1 GB of memory
# - **Fetches:** nothing
# - **Takes:** about half a minute at every preset ([measured](reproducibility.ipynb))
# - **Run it:** `papermill notebooks/02b_published.ipynb out.ipynb`
# :::

# %% tags=["remove-cell"]
import importlib.util

if importlib.util.find_spec("paperlib") is None:
    raise ModuleNotFoundError(
        "paperlib, the library of this book, is not installed here: "
        "say `pip install norm-preservation` (once it is on the Python "
        "Package Index), or `make run` in a checkout of the book's "
        "repository, which creates an environment with it, `.venv`."
    )

# %% tags=["hide-input"]
# %matplotlib inline
import math

import pandas as pd
import torch
import torch.nn.functional as F
from IPython.display import Markdown

from paperlib import claims, published
from paperlib.figures import published as draw
from paperlib.polar import polar_factor
from paperlib.projection import project, target
from paperlib.spectrum import singular_values
from paperlib.store import results_root
from paperlib.studies import interventions, sentences
from paperlib.studies import published as studies

# %% tags=["remove-input"]
torch.set_num_threads(1)  # many small matrices: threads would wait

start = studies.initial_kernel(64, 3, 3)
reversed_ = studies.summary(published.project(start, 32), 32)
exact = [
    studies.summary(
        published.project(studies.initial_kernel(d, c, k), n), n, stride
    )
    for c, d, k, stride, n in studies.LAYERS[1:]
]
off = max(
    abs(s[end] - 1) for s in exact for end in ("lowest", "highest")
)
near = f"{100 * 10 ** math.ceil(math.log10(off)):g}%"
training = studies.in_training(20).set_index("step")
third = training.index[training.projected][2]
close_by = training.loc[third:, ["lowest", "highest"]].sub(1).abs()
work = studies.work()
work["ratio"] = work["work used"] / work["work needed"]
fewest, most = (
    f"{float(f'{x:.1g}'):,.0f}"
    for x in (work.ratio.min(), work.ratio.max())
)
measured = claims.read(claims.place(results_root(), "I1", "desk"))
trained = measured.frames["interventions"]
precision = " and ".join(sorted(set(trained.precision)))
effects = interventions.effects(interventions.differences(trained))
Markdown(
    f"""
> **Found.** Of a ProcResNet's three transitions the published code
> projects the two with 1×1 kernels as the paper's (8) says, to within
> {near} of the target. The first one, with a 3×3 kernel, comes out
> reversed in space before it is cropped: one call leaves
> {100 * reversed_["corner"]:.0f}% of the energy in one corner tap and
> singular values of {reversed_["lowest"]:.2f} to
> {reversed_["highest"]:.2f} of the target, and in training, from the
> third call on, they stay within {100 * close_by.max(axis=None):.1f}%
> of it, so that this layer keeps the gradient's norm, but works as a
> 1×1 convolution. The other six points change the cost ({fewest} to
> {most} times the multiplications that are needed), the schedule, or
> cases that these transitions do not have; no claim is decided here.
> In the short trainings of [chapter 5](05_results.ipynb), in
> {precision}, the test error with the published projection
> {sentences.as_published(effects)}, compared with the paper's.
"""
)

# %% [markdown]
# ## The seven points
#
# {numref}`tab-published-points` has the points in the order of this appendix. They concern three functions in `models/procresnet.py`: `regularize_conv`, which projects a kernel, `batch_sqrtm`, which it calls, and the method `regularize_convs`, which calls it
# (all at commit `0cdb641`; later commits leave that file as it was).
#
# :::{table} The seven points in which the published code differs from the paper, and whether they matter for a ProcResNet's three transitions.
# :name: tab-published-points
#
# | | the paper | the code | what it changes | in a ProcResNet |
# |---|---|---|---|---|
# | [1](point-1) | keeps the kernel's nine taps | reads the spectrum back conjugated | kernels larger than 1×1 are reduced to their corner tap | the first transition |
# | [2](point-2) | Gram matrix on the input's side | on the output's side | the cost; the result only with many more steps | the cost |
# | [3](point-3) | a matrix for each frequency | as many copies for a 1×1 kernel, which has one | the cost | the cost |
# | [4](point-4) | $\sigma = \sqrt{d/\min(d, c)}$ | $\sigma = \sqrt{d/c}$ | the target where $c > d$ | nothing |
# | [5](point-5) | an iteration; how many steps is lost in our copy | ten steps, scaled only above norm 1 | kernels that start very small | nothing with He's start |
# | [6](point-6) | a factor of $\sqrt2$ in front of a ReLU | none | convolutions followed by a ReLU | nothing |
# | [7](point-7) | after every second step (*inferred*) | with probability 1/2 after each | the waits, not their mean | the waits |
# :::
#
# ## What is compared
#
# A convolution has a kernel $K$ with $c$ input channels, $d$ output channels and $k \times k$ {term}`taps <tap>`, and a feature map of $n \times n$ pixels at its
# output. On a map that wraps around, it acts at each frequency $(u, v)$ as one $d \times c$ matrix $P$, the kernel's Fourier transform there. The paper's {term}`projection` replaces each $P$ by $\sigma U$, where $U$ is the *polar factor* of $P$, the closest matrix whose
# singular values are all 1, and $\sigma$ is the {term}`target`:
#
# $$ U = P\,(P^{\mathsf H} P)^{-1/2}, \qquad \sigma = \sqrt{\frac{d}{\min(d, c)}} . $$
#
# (That form of $U$ is for $d \ge c$.) The matrix $P^{\mathsf H} P$ is the *Gram matrix* of $P$. Its inverse square root is found with the Newton-Schulz iteration {cite}`higham1997`. Then the result is transformed back and cropped to its $k \times k$ taps.
#
# The measure throughout is the {term}`spread`, the smallest and the largest singular value over the target. If both are 1, the convolution keeps the norm of a gradient that has no preferred direction. The *energy* of a kernel, or of one of its taps, is the sum of the squares of
# its entries. These are the three {term}`transitions <transition>` of a ProcResNet:

# %% tags=["hide-input"]
for c, d, k, stride, n in studies.LAYERS:
    sigma = target((d, c, k, k), stride)
    print(f"{c:>3} → {d:<3}  {k}×{k}, stride {stride}, ", end="")
    print(f"output {n}×{n}: σ = {sigma:.3f}")

# %% [markdown]
# (point-1)=
# ## Point 1: The spectrum is read back conjugated
#
# **The paper.** Algorithm 1 transforms the projected spectrum back and keeps the kernel's own taps.
#
# **The code.** The spectrum is conjugated on the way, which reverses the kernel in space, and then the taps are kept at the places where they were before.
#
# The plainest test of a projection is a kernel that needs none. Take 16 channels in and out, a 3×3 kernel with the identity matrix in its
# central tap and zeros around it: the convolution that returns its input. All its singular values are 1, which is $\sigma$, so it should come back as it is.

# %%
identity = studies.centre_tap(16)
plain = published.project(identity, 32, conjugated=False)
out = published.project(identity, 32)
print(
    f"energy {studies.tap_energy(identity).sum():.1f}, "
    f"not conjugated {studies.tap_energy(plain).sum():.1f}, "
    f"as published {studies.tap_energy(out).sum():.1f}"
)
assert torch.allclose(plain, identity, atol=1e-6)

# %% [markdown]
# It comes back as zero. The second test is the case that occurs in training, the first transition, 3 → 64 channels on a 32 × 32 map, as it is initialised {cite}`he2015`. {numref}`fig-published-taps` shows where the energy of both kernels goes, and {numref}`fig-published-values` the singular values of the second.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The share of each of the nine taps in a kernel's energy, in per cent, before and after the projection. With the conjugation a kernel that is norm-preserving already vanishes, and the first transition of a ProcResNet is reduced to its corner tap, with about an eighth of the energy that it should have.", "name": "fig-published-taps"}, "image": {"alt": "Two rows of three grids of nine taps. The identity keeps its central tap without the conjugation, and has nothing left with it. The He-initialised kernel has about a ninth in each tap, before and after the projection; with the conjugation nearly all is in the upper left tap."}}
kernels = {
    "identity, 16 → 16": identity,
    "He-initialised, 3 → 64": start,
}
draw.tap_energy(
    studies.taps(
        {
            name: {
                "before": kernel,
                "not conjugated": published.project(kernel, 32, False),
                "as published": published.project(kernel, 32),
            }
            for name, kernel in kernels.items()
        }
    )
)

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The singular values of the first transition, over the target, before and after one projection. Without the conjugation they come near the target (dashed); with it they stay well below.", "name": "fig-published-values"}, "image": {"alt": "Three histograms one under the other. Before: well below 1. Projected without the conjugation: around 1. Projected as published: well below 1 again."}}
stages = {
    "before": start,
    "projected, not conjugated": published.project(start, 32, False),
    "projected, as published": published.project(start, 32),
}
sigma = target(start.shape)
draw.singular_value_shares(
    pd.concat(
        pd.DataFrame(
            {
                "kernel": label,
                "ratio": singular_values(kernel, 32).flatten() / sigma,
            }
        )
        for label, kernel in stages.items()
    )
)

# %% tags=["remove-input"]
he, whole, read_back = (
    studies.summary(kernel, 32) for kernel in stages.values()
)
Markdown(
    f"""
Not conjugated, one pass leaves singular values between
{whole["lowest"]:.3f} and {whole["highest"]:.3f} of the target. They are
not all at 1 because the crop to the kernel's taps takes something away,
which is a property of Algorithm 1 and not of the code. As published,
they lie between {read_back["lowest"]:.3f} and
{read_back["highest"]:.3f}, and {100 * read_back["corner"]:.0f}% of the
energy is in one corner tap. There is little of it: the kernel has an
energy of {read_back["energy"]:.1f}, after {he["energy"]:.1f} before the
projection, where it should have {whole["energy"]:.1f}, as without the
conjugation.
"""
)

# %% [markdown]
# ### Why
#
# Two sign conventions meet. At one frequency let $A = R + iI$ be the matrix to be projected, with real $R$ and $I$. The code works with real numbers alone and replaces $A$ by
#
# $$ \begin{pmatrix} R & I \\ -I & R \end{pmatrix} . $$
#
# The other and more common convention has the signs of the two $I$ exchanged, so that the matrix above is there the block matrix of the conjugate $\bar A = R - iI$. Both are sound: sums, products and polar factors of block matrices are again block matrices
# of the same kind. If $U = R' + iI'$ is the polar factor of $A$, the code therefore arrives at
#
# $$ \begin{pmatrix} R' & I' \\ -I' & R' \end{pmatrix} . $$
#
# From its upper half it forms $R' - iI'$. With the other convention the upper right block would be $-I'$, and the minus sign would be right. With this one the
# result is $\bar U$, the conjugate of the polar factor. Either choice of signs works; the two in the code belong to different ones.

# %%
generator = torch.Generator().manual_seed(0)
a = torch.randn(5, 3, dtype=torch.complex128, generator=generator)
u = polar_factor(a)
for sign in (1, -1):
    out = studies.polar_from_blocks(a, sign)
    equal, conjugate = (
        torch.allclose(out, factor, rtol=0, atol=1e-12)
        for factor in (u, u.conj())
    )
    print(
        f"R' {'+' if sign > 0 else '-'} iI' is the polar factor", end=""
    )
    print(f": {equal}, its conjugate: {conjugate}")

# %% [markdown]
# A conjugation reverses the kernel in space. In one dimension, let $k_a$ be the taps and $\omega = e^{-2\pi i/n}$. The taps are real, so that
#
# $$ \overline{\sum_a k_a\, \omega^{ua}} = \sum_a k_a\, \omega^{-ua} , $$
#
# which is the transform of the kernel that has $k_a$ at the place $-a$. On a map of $n$ pixels the taps 0, 1, 2
# go to the places $0$, $n-1$, $n-2$. The crop then keeps the places 0, 1, 2, as if nothing had been reversed.

# %%
k = torch.tensor([3.0, 1.0, 2.0])
back = torch.fft.ifft(torch.fft.fft(k, n=8).conj()).real
print("the kernel, on 8 places ", F.pad(k, (0, 5)).int().tolist())
print("its spectrum conjugated ", back.round().int().tolist())
print("cropped to three taps   ", back[:3].round().int().tolist())

# %% [markdown]
# Only the tap at place 0 stays where the crop looks for it; in two dimensions, only the corner tap $(0, 0)$, one of nine. The other eight taps of the cropped
# kernel hold what the projection had put outside of the 3×3 taps, and that is little. Nothing of the identity kernel lies in its corner tap, hence the zero.

# %% tags=["remove-input"]
Markdown(
    f"""
In a random kernel each tap has about a ninth of the energy. Here the
corner tap of the projected kernel has {100 * whole["corner"]:.0f}%
without the conjugation. The square root of that share,
{whole["corner"] ** 0.5:.2f}, is about what remains of the singular
values.

**1×1 kernels are not affected.** They have one matrix, the same at all
frequencies, and that is real: $I = 0$, and a conjugation does nothing.
The other two transitions of a ProcResNet are of this kind, and come out
at the target to within {near}.
"""
)

# %% [markdown]
# ### What it changes in training
#
# Repeated, the published projection brings the first transition to the target after all, as a kernel of one tap. The corner tap is the one place that the reversal leaves alone, so a kernel that has most of its energy there is no longer taken apart.
# {numref}`fig-published-training` shows it in a network: ProcResNet-13, the smallest of its kind, is trained for 20 steps on random images with random labels. Its loss means nothing, but its kernels move as kernels do in training.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The first transition in training, held as the published code does it. The first projection leaves it small and with one tap; from the third on its singular values are at the target, and nearly all of its energy is in the corner tap.", "name": "fig-published-training"}, "image": {"alt": "Two panels against the steps, with thin lines at the steps with a projection. Above, the largest and the smallest singular value lie well below 1 up to the second projection and at 1 after the third. Below, the corner tap's share of the energy jumps from about a ninth to nearly all at the first projection, falls a little, and stays at the top."}}
draw.in_training(training.reset_index())

# %% tags=["remove-input"]
first, second = training.index[training.projected][:2]
calls = studies.repeated_calls(start, 32, (0, 0.05), shown=(1, 2, 5))
after = calls.set_index(["noise", "calls"])
between = {
    key: f"{row.lowest:.3f} and {row.highest:.3f}"
    for key, row in after.iterrows()
}
Markdown(
    f"""
**What it changes.** The first projection, at step {first}, leaves the
corner tap with {100 * training.corner[first]:.0f}% of the energy and
singular values of at most {training.highest[first]:.2f}. Until the next
one the other taps grow again, to
{100 - 100 * training.corner[second - 1]:.0f}% at step {second - 1}.
The second and the third, at steps {second} and {third}, take them back,
and from then on the singular values stay within
{100 * close_by.max(axis=None):.1f}% of the target. Called again and
again on the initial kernel, the published projection leaves them
between {between[0, 1]} at first, between {between[0, 2]} after two
calls and between {between[0, 5]} after five; with random noise of 5%
of the kernel's norm before each further call, between
{between[0.05, 5]} after five.
"""
)

# %% [markdown]
# So in the published code the first transition, too, keeps the gradient's norm, after its first few projections. What it loses is its shape. It is
# in effect a 1×1 kernel in the corner of a 3×3 one: it mixes the three colours of one pixel into 64 channels and moves the image by one pixel. The 3×3 convolutions inside the residual
# blocks are not projected and keep all their taps.

# %% [markdown]
# (point-2)=
# ## Point 2: The Gram matrix on the side of the output
#
# **The paper.** The paper's (8) has the Gram matrix $P^{\mathsf H} P$, of size $c \times c$.
#
# **The code.** The matrix is $P P^{\mathsf H}$, of size $d \times d$, and in all three transitions $d > c$. Both have the same non-zero
# eigenvalues, and both lead to the polar factor. The larger one is singular: of its $d$ eigenvalues, $d - c$ are zero.
#
# In exact arithmetic that does no harm. The iteration keeps two matrices $Y$ and $Z$, which begin as the scaled Gram matrix and the identity, and go to its square root and the inverse of that.
# Where the eigenvalue is zero, $Y$ stays zero, $Z$ grows by a factor of $1.5$ with each step, and the product with $P$ removes what has grown. With rounding it leaves a remainder, which grows as well. And an eigenvalue that should be zero is a little above or below it: in $ZY$ it grows by $1.5^2$ with each
# step, and one that is below zero never comes back, since the iteration converges only for eigenvalues between $0$ and $3$.
#
# {numref}`fig-published-gram` iterates on both sides of a 128 → 256 matrix and compares with the polar factor from an eigendecomposition.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The error of the polar factor of a 128 → 256 matrix over the steps of the Newton-Schulz iteration. With the Gram matrix on the input's side (128 × 128) it stays at the precision; on the output's side (256 × 256) it grows again. Dotted: the ten steps of the published code.", "name": "fig-published-gram"}, "image": {"alt": "Error on a logarithmic axis against steps. On the input side it falls to the precision and stays. On the output side it falls at first, then rises steadily, in float32 until it explodes, in float64 later than in float32."}}
matrix = studies.initial_kernel(256, 128, 1)[:, :, 0, 0]
sides = studies.gram_sides(matrix)
draw.gram_sides(sides, taken=published.STEPS)

# %% tags=["remove-input"]
error = sides.set_index(["side", "precision", "steps"]).error
taken = error[:, "float32", published.STEPS].max()
at_ten = 100 * 10 ** math.ceil(math.log10(taken))
double = error["output side", "float64"]
broken = error["output side", "float32"]
useless = next(n for n in range(10, 61, 10) if not broken[n] < 1)
Markdown(
    f"""
**What it changes.** After the published {published.STEPS} steps in
float32 the error is below {at_ten:g}% on both
sides: for the result it makes no difference. It is a reason not to take
more steps to be safe. On the output's side the error then grows by a
factor of {(double[40] / double[20]) ** (1 / 20):.1f} with each step,
and after {useless} steps in float32 nothing is left of the result. More
precision puts that off but does not prevent it. The other difference is
the cost, which comes next.
"""
)

# %% [markdown]
# (point-3)=
# ## Point 3: One matrix, many frequencies
#
# **The paper.** There is one matrix for each frequency.
#
# **The code.** The code does the same, even for a 1×1 kernel, whose matrix is the same at all frequencies: it pads the kernel with zeros, transforms it, and iterates on $n^2$ copies. For the 3×3 kernel the matrices do differ, but the kernel is real and $P$ at $(-u, -v)$ is the conjugate of $P$ at $(u, v)$, so that about half of them are
# enough. With the real blocks and the output's side, each Gram matrix is $2d \times 2d$, where $c \times c$ would do (complex for the 3×3 kernel). {numref}`tab-published-work` counts the multiplications. A step of the iteration takes three products of such matrices.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The real multiplications in one Newton-Schulz step, as published and as needed, and what they come from: the number of matrices and the side of each. The result is the same.", "name": "tab-published-work"}}
text = work.assign(
    **{
        name: (work[name] / 1e6).map("{:,.1f}".format)
        for name in ("work used", "work needed")
    },
    ratio=work.ratio.map("{:,.0f}".format),
)
text.set_index("layer").T.rename(
    {
        "work used": "multiplications used, millions",
        "work needed": "multiplications needed, millions",
        "ratio": "used over needed",
    }
)

# %% tags=["remove-input"]
Markdown(
    f"""
**What it changes.** The work is between {fewest} and {most} times what
is needed, points 2 and 3 together; the result is the same. The paper's
formulas ask for no more than the smaller Gram matrix, though at all
frequencies. These are counts, not times: how much of a training step
they take depends on the machine ([chapter 2](what-it-costs)).
"""
)

# %% [markdown]
# (point-4)=
# ## Point 4: The target is √(d/c)
#
# **The paper.** The paper's (7) has $\sigma = \sqrt{d / \min(d, c)}$.
#
# **The code.** The target is $\sqrt{d/c}$. For $c \le d$ these are the same, and that covers all three transitions. For
# a convolution that reduces the number of channels, $c > d$, they are not: the paper's (7) gives 1, the code $\sqrt{d/c} < 1$.
#
# {numref}`tab-published-targets` has both targets, and what they do. Random gradients with no preferred direction are drawn at the output of a convolution and taken through its backward pass. The convolution wraps around at the borders, and the conjugation is left out.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The two targets σ, and the share of its norm that a random gradient keeps on its way from the output to the input. They differ only where a convolution has fewer outputs than inputs, as in the last column.", "name": "tab-published-targets"}}
targets = studies.targets([*studies.LAYERS, (64, 16, 3, 1, 16)])
targets = targets.set_index("layer")
targets.map("{:.2f}".format).T.rename(
    {
        "published": "σ, code",
        "the paper's (7)": "σ, paper",
        "gradient, published": "kept, code",
        "gradient, the paper's (7)": "kept, paper",
    }
)

# %% tags=["remove-input"]
narrowing = targets.iloc[-1]
kept = narrowing["gradient, the paper's (7)"]
Markdown(
    f"""
**What it changes.** In the three transitions nothing. At 64 → 16 the
gradient arrives with {narrowing["gradient, published"]:.2f} of the norm
that it has at the output, and with the target of the paper's (7) with
{kept:.2f}. (That the latter is not 1 is due to the crop.)
"""
)

# %% [markdown]
# (point-5)=
# ## Point 5: Ten steps, and scaling only where the norm exceeds 1
#
# **The paper.** The paper's (9) converges from a Gram matrix whose norm is not too large. How the matrix is scaled and how many steps are taken is lost in our copy of the paper.
#
# **The code.** The matrix is divided by its norm where that is above 1 and not elsewhere, and ten steps are taken, whether they are enough or not. A small
# Gram matrix is left as it is, and then small eigenvalues take long: a singular value far below 1 grows by a factor of $1.5$ with each step. {numref}`tab-published-small` makes the kernels smaller and looks at what comes out, again without the conjugation.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The smallest and the largest singular value over the target after the published ten steps, for kernels of He's size and of smaller ones. Only kernels of a hundredth of that size do not reach the target.", "name": "tab-published-small"}}
small = studies.small_weights()
small["spread"] = [
    f"{row.lowest:.2f} to {row.highest:.2f}"
    for row in small.itertuples()
]
small.pivot(index="layer", columns="factor", values="spread").loc[
    small.layer.unique(), small.factor.unique()
].rename(columns="{:g} of He's size".format)

# %% tags=["remove-input"]
smallest = small.set_index(["layer", "factor"])
smallest = smallest.loc["64 → 128, 1×1", 0.01]
(c1, d1, k1, s1, _), (c2, d2, k2, s2, _), *_ = studies.LAYERS
several = target((d1, c1, k1, k1), s1)
one_tap = target((d2, c2, k2, k2), s2)
Markdown(
    f"""
**What it changes.** With He's start, nothing: all Gram matrices are
scaled, and ten steps are enough. They still are with weights of a tenth
of that size. With a hundredth they are not, and the singular values of
the 64 → 128 kernel end between {smallest.lowest:.2f} and
{smallest.highest:.2f} of the target. Once projected, the kernels of the
three transitions have singular values above 1, namely {one_tap:.2f} for
those of one tap, {several:.2f} for the first, and at least
{read_back["lowest"] * several:.2f} for that one after its first
conjugated call. From then on the Gram matrices are scaled. So the point
is about the start, and about kernels that begin much smaller than
usual.
"""
)

# %% [markdown]
# (point-6)=
# ## Point 6: No factor of √2 in front of a ReLU
#
# **The paper.** Where a ReLU follows the convolution directly, $\sigma$ is multiplied by $\sqrt 2$, since the ReLU takes half of the gradient's energy.
#
# **The code.** There is no such factor. In a ProcResNet there is nothing to make up for: each transition is followed by a residual block, whose skip leads on without a ReLU. The factor would
# matter where the paper looks at a convolution and a ReLU alone, which [chapter 3](03_channel_grid.ipynb) does.

# %%
behind = {
    "σ as published": published.project(start, 32, conjugated=False),
    "σ with √2": project(start, 32, relu=True),
}
lines = ["The gradient's norm at the input, over that at the output:"]
for label, kernel in behind.items():
    alone, relu = (
        studies.backward_ratio(kernel, 32, relu=r)
        for r in (False, True)
    )
    lines.append(f"{label}: {alone:.2f} alone, {relu:.2f} with a ReLU")
print("\n".join(lines))

# %% [markdown]
# **What it changes.** In a ProcResNet nothing. In front of a ReLU the gradient would lose a factor of $\sqrt2$.

# %% [markdown]
# (point-7)=
# ## Point 7: The projection follows a step with probability 1/2
#
# **The paper.** A projection follows every second step. (*Inferred*: the number is lost in our copy of the paper, and the code projects after half of the steps on average.)
#
# **The code.** After each step a random number is drawn, and all three kernels are projected together with a probability, `regul_freq`, which its instructions set to one half. {numref}`fig-published-waits` shows the waits between two projections.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "How many steps pass without a projection between two steps with one, over 10,000 steps. At random half of the projections follow directly on another one, and long waits are rare, half as often with each further step (grey).", "name": "fig-published-waits"}, "image": {"alt": "Shares on a logarithmic axis over the number of steps without a projection. At random, they fall along a straight line: half of the waits have none, a quarter one, and so on. Every second step: always one."}}
waits = studies.waits(10_000)
draw.waiting_times(waits)

# %% tags=["remove-input"]
drawn = waits[waits.schedule == "with probability 1/2"]
at_once = drawn.share[drawn.wait == 0].iloc[0]
long = drawn["count"][drawn.wait >= 10].sum()
Markdown(
    f"""
**What it changes.** The rate is the same on average:
{drawn["count"].sum():,} projections in 10,000 steps. The waits are not
all alike. Of the projections {100 * at_once:.0f}% follow directly on
another one, and the kernels are left alone for ten steps or more {long}
times, at most for {drawn.wait.max()}. How far the kernels move in that
time depends on the learning rate, and has not been measured here.
"""
)

# %% [markdown]
# ## Running it
#
# The published projection can be used in place of the paper's, to measure against. Points 1, 4, 5, 6 and 7 can be switched on; points 2 and 3, which change the cost, are left out. The network starts from kernels that have not been projected, and `NormPreserving`
# holds them as the published code does:
#
# ```python
# model = models.build("procresnet", 164, project=False)
# held = NormPreserving(model, projector=published.Projector())
# ```
#
# For one whole training run, with its {term}`record` and its figures:
#
# ```bash
# papermill notebooks/04_cifar.ipynb out.ipynb \
#     -p arch procresnet -p projector published
# ```
#
# ## What follows
#
# As far as these experiments show, a network trained with the published code has three norm-preserving transitions, as the paper intends, and the first of them is in effect a 1×1 convolution.

# %% tags=["remove-input"]
Markdown(
    f"""
What the points do to a training has not been measured at the paper's
scale. At desk size, in {precision}, [chapter 5](explains) compares
networks seed by seed. With the published projection in place of the paper's, the
test error {sentences.as_published(effects, intervals=True)}. Which of
the points does that these runs cannot say.
"""
)

# %% [markdown]
# [Chapter 3](03_channel_grid.ipynb) has the published target in its grid, beside the paper's, where it matters. [Chapter 6](06_your_network.ipynb) takes the paper's projection to a network of your own.

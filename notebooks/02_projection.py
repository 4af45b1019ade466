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
# # How to make a convolution keep the gradient's norm
#
# An identity skip hands the gradient on unchanged. Where the number of channels changes there is no identity, and the paper {cite}`zaeemzadeh2020` puts a convolution there. After every second training step it replaces the convolution's kernel by the nearest one that neither shrinks nor stretches the gradient on average: the {term}`projection`.
#
# This chapter builds the projection from its parts. Which singular values does a convolution have, and which should it have? What is the nearest kernel that has them, how is it computed, and what is lost when it is cropped back to its nine {term}`taps <tap>`? In the end the assumption behind it is tested, and its cost measured.
#
# :::{card} About this chapter
# :class-card: chapter-card
#
# - **Shows:** the singular values of a convolution, the projection that sets them, what it assumes about gradients, and what it costs
# - **Claims:** T3, P1, P2 and O1a to O1d ([scorecard](00_scorecard.ipynb))
# - **Needs:** two CPU cores, about 2 GB of memory
# - **Fetches:** nothing; the images are the CIFAR-10 sample that comes with the library
# - **Takes:** about half a minute at `desk` ([measured](reproducibility.ipynb))
# - **Run it:** `papermill notebooks/02_projection.ipynb out.ipynb`
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
from IPython.display import Markdown

from paperlib import augmentation, cifar, claims, models, records
from paperlib.energy import output_gradients
from paperlib.figures import projection as draw
from paperlib.projection import delta_orthogonal, project, target
from paperlib.spectrum import singular_values
from paperlib.store import results_root
from paperlib.studies import projection as studies
from paperlib.studies.reproducibility import benchmark
from paperlib.studies.sentences import short

# %% tags=["remove-input"]
names = ("T3", "P1", "P2", "O1a", "O1b", "O1c", "O1d")
every = claims.read_all(results_root(), only=names)
found = {f.claim: f for f in every if f.preset == "desk"}
counted = {f.claim: f for f in claims.counting(every)}
on_gpu = [f for f in counted.values() if f.preset == "paper"]
verdict = {name: claims.verdict(counted[name]) for name in names}
cropped = found["P1"].frames["after the crop"]
off = cropped.groupby(["shape", "passes"]).off.max()
mean_off = cropped.groupby(["shape", "passes"]).off.mean()
drawn = cropped.seed.nunique()
roomy, square = "3 → 64, 3×3", "8 → 8, 3×3"
most = cropped.passes.max()
tiny = 10 ** math.ceil(math.log10(100 * off[roomy, 100]))
seconds = found["O1a"].frames["seconds"]
share = seconds.drop(columns=["round", "load", "step"])
share = 100 * share.div(2 * seconds.step, axis=0).median()
over_svd = seconds["iteration, shortcuts"] / seconds["svd, shortcuts"]
decided = {verdict[name] for name in names[3:]}
Markdown(
    "> **Found.** A convolution has the singular values of small "
    f"matrices, one for each frequency (T3: {verdict['T3']}), and the "
    "iteration that sets all of them to one value converges "
    "quadratically once it is "
    f"close (P2: {verdict['P2']}). "
    "Cropped back to its taps, the kernel is no longer exact. In the "
    f"worst of {drawn} kernels from 3 to 64 channels a singular value "
    f"is {off[roomy, 1]:.0%} off the target after one projection "
    f"(on average {mean_off[roomy, 1]:.0%}) and less than {tiny:.5f}% "
    "after 100; from 8 to 8 channels it is still "
    f"{off[square, most]:.0%} off after {most:,} (on average "
    f"{mean_off[square, most]:.0%}) (P1: {verdict['P1']}). "
    "On a CPU the paper's iteration, as it is written, adds "
    f"{share['iteration']:.0f}% to the training time. Where both "
    "have the same shortcuts it takes "
    f"{over_svd.median():.1f} times as long as an SVD (a singular "
    f"value decomposition): medians of {len(seconds)} rounds. "
    "The paper's times are taken to be a GPU's (*inferred*), so that a "
    f"CPU decides nothing of O1a to O1d ({', '.join(sorted(decided))})."
)

# %% [markdown]
# ## A convolution has the singular values of small matrices
#
# The singular values of a convolution can be computed, although its matrix is enormous: for 64 channels in and out on a 32 × 32 image it has $64 \cdot 32^2 = 65{,}536$ rows and as many columns. But the matrix is full of repetitions, and the Fourier transform uses them. Take a kernel $K$ with $c$ input and $d$ output channels, and let the image wrap around at its borders. At the frequency $(u, v)$ of an $n \times n$ image the convolution acts as one $d \times c$ matrix,
#
# $$
# P^{(u,v)} = \sum_{a,b} K_{:,:,a,b}\; e^{-2\pi i (ua + vb)/n} ,
# $$ (eq-transfer)
#
# where $(a, b)$ runs over the taps, and no frequency disturbs another.
#
# :::{prf:theorem} The singular values of a convolution; the paper's Theorem 3, after {cite}`sedghi2019`
# :label: thm-spectrum
# The singular values of the convolution are those of the $n^2$ matrices $P^{(u,v)}$ together.
# :::
#
# *Why.* The Fourier transform is a unitary change of basis, which changes no singular value. In the new basis the convolution is block-diagonal, and its blocks are the $P^{(u,v)}$. (PyTorch does not flip the kernel, so its convolution acts by the conjugates of these matrices. They have the same singular values.)
#
# `singular_values` works frequency by frequency. Its check knows nothing of frequencies: it pushes every unit vector through PyTorch's convolution, collects the results as a matrix, and decomposes that.

# %% tags=["remove-input"]
agreement = studies.theorem3()
worst = agreement.difference.max()
strided = agreement.stride.gt(1).sum()
Markdown(
    f"For {len(agreement)} kinds of kernel, {strided} of them with a "
    "stride, the two results differ by "
    f"{'less than $10^{-12}$' if worst < 1e-12 else short(worst)} of the "
    "largest value."
)

# %%
kernel = studies.he_kernel(64, 3, 3)  # 3 to 64 channels, 3 × 3 taps
values = singular_values(kernel, 32)
low, high = values.min(), values.max()
print(f"{values.numel():,} values, from {low:.2f} to {high:.2f}")

# %% [markdown]
# Two shortcuts make this fast. The kernel is real, so $P^{(-u,-v)}$ is the conjugate of $P^{(u,v)}$, and half of the frequencies are enough. A 1 × 1 kernel has the same matrix at each frequency, so that one is enough.
#
# **Strides.** With a stride $s$ the theorem seems to fail, since $s^2$ frequencies of the larger input are folded into one of the output. But a strided convolution is an ordinary one in disguise. Sort the input's pixels by their position modulo $s$ into $s^2$ smaller images, and call these channels: the stride is gone, and the matrices have $s^2 c$ columns. So a strided 3 × 3 convolution can have $\min(d, s^2 c)$ non-zero singular values at a frequency. A strided 1 × 1 convolution reads one pixel in $s^2$ and ignores the others, so it has only $\min(d, c)$.
#
# **Zero padding.** The theorem is about images that wrap around, and networks pad with zeros. The difference is at the border only: the padded operator is a part of the circular one on a slightly larger image, so that its largest singular value is at most that of the larger circular one.

# %% tags=["remove-input"]
flat = project(kernel, 16, passes=1000) / target(kernel.shape)
padded = studies.zero_padding(flat, [8, 16]).set_index("size")
Markdown(
    "A kernel from 3 to 64 channels whose singular values are all "
    f"equal on an image that wraps around keeps {padded.kept[8]:.0%} "
    f"of them on a padded image of side 8, and {padded.kept[16]:.0%} "
    "on one of side 16. "
    "That is exactly the share of pixels that no border touches. The "
    f"others lie between {padded.lowest.min():.2f} and 1 times that "
    "value."
)

# %% [markdown]
# ## Which singular values keep the gradient's norm
#
# If all non-zero singular values are equal, there is one value $\sigma$ that keeps the gradient's norm on average. On its way back the gradient meets the transposed convolution, $\Delta_x = \hat W \Delta_y$, where $\Delta_y$ is the gradient at the output and $\Delta_x$ the one at the input (the paper's (5)). With all non-zero singular values of $\hat W$ at $\sigma$, $\lVert \Delta_x \rVert^2 = \sigma^2 \lVert \Pi \Delta_y \rVert^2$, where $\Pi$ projects on the row space of $\hat W$: the directions at the output that are not lost. Of $d$ directions at each frequency, $r = \min(d, c)$ survive. If the gradient has no preference among the directions, these carry $r/d$ of its energy, its squared norm. So the norm is kept by
#
# $$
# \sigma^2 = \frac{d}{r}, \qquad r = \min(d, c) ,
# $$ (eq-target)
#
# the {term}`target`. This is the paper's (7) with its approximation put in. With a stride $s \le k$, where $k$ is the side of the kernel, $r = \min(d, s^2 c)$ as above. A ReLU right after the convolution takes half of the gradient's energy, and $\sigma^2$ becomes $2d/r$. That gradients have no preference is an assumption, and it is tested [below](gradient-energy).

# %%
for shape, stride in [((64, 3, 3, 3), 1), ((128, 64, 1, 1), 2)]:
    d, c, k, _ = shape
    sigma = target(shape, stride)
    print(f"{c:>2} → {d}, {k}×{k}, stride {stride}: σ = {sigma:.3f}")
print(
    f"64 → 64, then a ReLU: σ = {target((64, 64, 3, 3), relu=True):.3f}"
)

# %% [markdown]
# ## The nearest kernel: the polar factor
#
# The nearest matrix whose singular values are all $\sigma$ keeps the singular vectors and replaces the singular values. It is $\sigma$ times the *polar factor* of $P$ {cite}`gower2004`:
#
# $$
# \tilde P = \sigma\, P\, (P^{\mathsf H} P)^{-1/2} \quad (d \ge c), \qquad
# \tilde P = \sigma\, (P P^{\mathsf H})^{-1/2} P \quad (d < c).
# $$ (eq-polar)
#
# The first form is the paper's (8), and all of its transitions have $d > c$. Where $d < c$ this form does not exist, because $P^{\mathsf H}P$ is singular, and the second one takes its place.
#
# The paper's (9) computes the inverse square root by the coupled Newton–Schulz iteration {cite}`higham1997`, from matrix products alone, and says that it "converges [...] quadratically". Each step sends a singular value $z$ to $z(3 - z^2)/2$. Near 1 the error is indeed squared, $\varepsilon \mapsto \tfrac32 \varepsilon^2$ to leading order. A small $z$, however, only grows by half in each step, and {numref}`fig-polar` shows that most steps are spent on that.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Newton–Schulz spends most of its steps on the smallest singular value before it converges quadratically; coefficients chosen for the interval save steps. An 80 × 40 matrix with singular values from 0.05 to 1.", "name": "fig-polar"}, "image": {"alt": "Errors on a logarithmic scale against steps. Newton–Schulz needs the most steps, the scaled one fewer, the quintic fewer still, QDWH the fewest."}}
errors = studies.polar_convergence(0.05, steps=13)
draw.polar_convergence(errors)

# %% tags=["remove-input"]
first = errors[errors.error <= 1e-6].groupby("method")
steps = first.step.min()
a_step = studies.products().drop("qdwh").astype(int)
needed = a_step.mul(steps.drop("qdwh"), axis=0)
plain, quintic = "newton-schulz", "quintic"
p2 = found["P2"]
quotient = {
    which: p2.quantities[f"e(t+1) / e(t)², at the end, {which}"].mean
    for which in ("smallest", "largest")
}
slowest = "steps to 1e-6, the slowest spectrum, newton-schulz"
kinds = p2.frames["convergence"].spectrum.nunique()
Markdown(
    "One can choose the coefficients for the interval where the "
    "singular values lie: scale each step so that both ends of the "
    "interval land on one value {cite}`chen2014`, take the best "
    "polynomial of degree five {cite}`amsel2025`, or the rational QDWH "
    "{cite}`nakatsukasa2010`, which solves a linear system in each "
    "step. All four are applied to the matrix itself. "
    "To an error of $10^{-6}$, Newton–Schulz takes "
    f"{steps['newton-schulz']} steps here, the scaled one "
    f"{steps['scaled-newton-schulz']}, the quintic {steps['quintic']} "
    f"and QDWH {steps['qdwh']}. "
    "How much work that is depends on the form. On the matrix a step "
    f"takes {a_step.matrix[plain]} matrix products with Newton–Schulz "
    f"and {a_step.matrix[quintic]} with the quintic, in all "
    f"{needed.matrix[plain]} and {needed.matrix[quintic]}. In the "
    "coupled form of the paper's (9), which works on the Gram matrix "
    f"with the same number of steps, it is {a_step.coupled[plain]} and "
    f"{a_step.coupled[quintic]} a step, in all {needed.coupled[plain]} "
    f"and {needed.coupled[quintic]}.\n\n"
    f"On record are {kinds} spectra, down to singular values of a "
    "thousandth. At the end the new error over the square of the old "
    f"one is {quotient['smallest']:.2f} to {quotient['largest']:.2f}, "
    "as the factor 3/2 says, and the slowest spectrum takes "
    f"{p2.quantities[slowest].mean:.0f} steps."
)

# %% [markdown]
# ## Cropping spoils it, and repetition mends it
#
# One projection is not exact for a kernel of more than one tap. When every frequency has its polar factor, the transform back gives a kernel that is exactly norm-preserving, but it is as large as the image. Algorithm 1 of the paper crops it to 3 × 3, and then it is no longer exact ({numref}`fig-spectra`).

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The singular values of a convolution from 3 to 64 channels: one projection makes them more equal, and ten make them nearly equal. The kernel as initialised is scaled to the same mean.", "name": "fig-spectra"}, "image": {"alt": "Sorted singular values: those of the initialised kernel fall off from left to right, those projected once fall less, and those projected ten times are flat at σ."}}
unit = target(kernel.shape)
kernels = {
    "initialised": kernel * unit / values.mean(),
    "projected once": project(kernel, 32),
    "projected ten times": project(kernel, 32, passes=10),
}
draw.spectra(studies.sorted_spectra(kernels, 32, unit))

# %% [markdown]
# The way out is to go on: transform, replace by the polar factor, crop, and again. Each step goes to the nearest point of a set, either of the kernels with nine taps or of the operators whose singular values are all $\sigma$. Alternating between the two comes closer to both. It does so faster if each round but the first and the last goes 1.8 times as far as the projection says (*over-relaxation*), which is what `project(kernel, 32, passes=n)` does. {numref}`fig-alternating` shows how fast: the more $c$ and $d$ differ, the faster. For a random square kernel it does not converge at all.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Alternating projections converge where a kernel's numbers of input and output channels differ, the faster the more they do. A random square kernel stalls, and one near a delta-orthogonal kernel is close at once.", "name": "fig-alternating"}, "image": {"alt": "Distance from the target against the number of projections, both logarithmic: 3 → 64 falls fast, 16 → 32 slowly, 16 → 16 stays near 1; started near a delta-orthogonal kernel it is small at once, and stays there."}}
generator = torch.Generator().manual_seed(0)
delta = delta_orthogonal(
    (16, 16, 3, 3), generator=generator, dtype=torch.float64
)
noise = torch.randn(delta.shape, generator=generator, dtype=delta.dtype)
starts = {
    "3 → 64": kernel,
    "16 → 32": studies.he_kernel(32, 16, 3),
    "16 → 16": studies.he_kernel(16, 16, 3),
    "16 → 16, near delta-orthogonal": delta
    + 0.05 * delta.norm() / noise.norm() * noise,
}
passes = [0, 1, 2, 5, 10, 20, 50, 100, 200]
ranges = studies.alternating(starts, 32, passes)
draw.alternating(ranges)

# %% tags=["remove-input"]
ends = ranges.set_index(["kernel", "passes"])
away = ends[["lowest", "highest"]].sub(1).abs().max(axis=1)
tapped = [shape.name for shape in studies.SHAPES if shape.k > 1]
Markdown(
    f"The singular values of 3 → 64 are within {away['3 → 64', 1]:.0%} "
    f"of $\\sigma$ after one projection, {away['3 → 64', 10]:.1%} "
    f"after ten and {short(100 * away['3 → 64', 50], 1)}% after "
    "fifty. "
    f"P1 has this on record for {len(studies.SHAPES)} kinds of kernel, "
    f"{cropped.seed.nunique()} random ones of each. Kernels of one tap "
    "are exact after one projection. The others are off, in the worst "
    "case (and on average):\n\n"
    + "\n".join(
        f"* {name}: "
        + ", ".join(
            f"{short(100 * off[name, n])}% "
            f"({short(100 * mean_off[name, n])}%) after {n:,}"
            for n in (1, 100, most)
        )
        for name in tapped
    )
)

# %% [markdown]
# **Why a square kernel stalls.** For $c = d$ the determinant of $P^{(u,v)}$ is a smooth complex function of two frequencies, and two real equations, one for its real and one for its imaginary part, hold at single points: a random kernel has such zeros. At these frequencies a singular value vanishes, and a small change of the kernel moves a zero without removing it. {numref}`fig-maps` shows them after 200 projections. A square kernel has to start on the right side, with one orthogonal matrix in its middle tap and zeros around it: a *delta-orthogonal* kernel {cite}`xiao2018`. It is exactly norm-preserving, and when it is disturbed a single projection repairs it but for an error of second order, which further ones hardly change (the red line of {numref}`fig-alternating`).

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The smallest singular value at each frequency, after 200 projections: near the target everywhere from 16 to 32 channels, while the random square kernel keeps its zeros.", "name": "fig-maps"}, "image": {"alt": "Two colour maps over the frequencies: even for 16 → 32, and with two spots where it falls to nearly 0 for 16 → 16."}}
after = {
    name: project(starts[name], 32, passes=200)
    for name in ("16 → 32", "16 → 16")
}
smallest = {
    name: (singular_values(w, 64)[..., -1] / target(w.shape)).numpy()
    for name, w in after.items()
}
draw.spectrum_maps(smallest)

# %% [markdown]
# ## In training, one projection is enough to stay
#
# A kernel that is norm-preserving already stays so with one projection after each step, if the steps are small. To see this without a training, each of 400 steps adds random noise of 1% of the kernel's norm, and one projection follows.

# %% tags=["remove-input"]
exact = {"3 → 64": project(kernel, 32, passes=1000), "16 → 16": delta}
walk = studies.noisy_steps(exact, 32)
furthest = walk[["lowest", "highest"]].sub(1).abs().max(axis=None)
large, small = 1e-2, 1e-4
mended = studies.repair(exact, 32, [large, small])
left = (mended.projected / mended.disturbed).groupby(
    [mended.kernel, mended.noise]
)
left = left.first()
Markdown(
    "Both a kernel from 3 to 64 channels and a square one stay within "
    f"{furthest:.1%} of $\\sigma$. "
    f"For the first, a projection leaves {left['3 → 64', large]:.0%} of "
    "a small disturbance, whatever its size, because some directions "
    "are lost in the crop. "
    "At a delta-orthogonal kernel none is, and what remains is of "
    f"second order: {short(left['16 → 16', large], 1)} times a "
    f"disturbance of {large:g}, and "
    f"{short(left['16 → 16', small], 1)} times one of {small:g}."
)

# %% [markdown]
# In a real training the gradient's norm is what counts. {numref}`fig-transitions` is from six trainings of ProcResNet-166 on a part of CIFAR-10: three in which the transitions were {term}`held`, and three in which they were {term}`free`.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Held, the three transitions of ProcResNet-166 end nearer to norm preservation than free. The first one also begins nearer; the two others begin near 1 either way. Above 1 the gradient shrinks on its way back. Lines: medians over the seeds, with all of them in the band.", "name": "fig-transitions"}, "image": {"alt": "Three panels, one a transition. At the first one the free kernel begins far above 1 and falls below it, while the held one begins at 1 and falls less. At the two others both begin at 1, and the free one falls further."}}
runs = [
    r
    for r in records.read_all(results_root())
    if r.network in ("procresnet-166", "procresnet-166-noproject")
    and (r.config.preset, r.config.schedule) == ("desk", "steps")
]
transitions = pd.concat(
    r.blocks.assign(held=r.config.project, seed=r.config.seed)
    for r in runs
)
draw.transition_ratios(transitions)

# %% tags=["remove-input"]
only = transitions[transitions.kind == "transition"]
place = only.block.min()
ratio = only[only.block == place].groupby(["held", "epoch"]).log_ratio
ratio = ratio.median().map(math.exp)
last = only.epoch.max()
starts_at = [
    math.exp(r.initial.set_index("block").log_ratio[place])
    for r in runs
    if not r.config.project
]
Markdown(
    f"The first transition begins at {ratio[True, 1]:.2f} when it is "
    f"held and at {ratio[False, 1]:.2f} when it is free. For the two "
    "others the usual start happens to be right on average: He's "
    "initialisation, in the fan-out form that these networks use, gives "
    "each weight a variance of $2/(dk^2)$, and "
    "each output passes its gradient to $ck^2$ inputs, so that the "
    "gradient gets $2c/d$ times its energy. With $d = 2c$ this is 1. "
    "With three input channels it is 6/64, a ratio of 3.3. Measured "
    f"before the first update it is {min(starts_at):.1f} to "
    f"{max(starts_at):.1f}; the figure's first point is a mean over "
    "the first epoch.\n\n"
    f"But held kernels do not stay at 1 either: after {last} epochs "
    f"the first transition is at {ratio[True, last]:.2f} (free: "
    f"{ratio[False, last]:.2f}), so the gradient grows there. Its "
    "kernel is still projected onto the target. So the assumption about "
    "the gradients has to be looked at."
)

# %% [markdown]
# (gradient-energy)=
# ## Do gradients have no preference?
#
# In a trained network they do have one. Training turns a kernel towards its gradients, so that these lose less than {eq}`eq-target` assumes. The equation needs the surviving directions to carry $r/d$ of the gradient's energy. The paper says that this holds "if the energy [of the gradient] is distributed uniformly among the directions", and that it "is not a strict assumption in high dimensional spaces". Where there are few channels it expects trouble "due to the smaller size of the space".
#
# How much the share varies by chance can be computed. For a random row space of $r$ dimensions, and gradients whose second moment has the effective rank $m$ (the squared sum of its eigenvalues over the sum of their squares), its relative standard deviation is
#
# $$
# \sqrt{\frac{2\,(d-r)\,(d-m)}{r\,m\,(d-1)(d+2)}} .
# $$ (eq-spread)
#
# :::{admonition} Why
# :class: dropdown
# Take the eigenvectors of the second moment, and let $w_i$ be the eigenvalues over their sum, so that $\sum w_i = 1$ and $\sum w_i^2 = 1/m$. A random space of $r$ dimensions holds a part $X_i$ of the square of the $i$-th eigenvector, and the share is $\sum w_i X_i$. Each $X_i$ has a beta distribution with the mean $r/d$ and the variance $V = 2r(d-r)/(d^2(d+2))$. All $X_i$ add up to $r$, so that two of them have the covariance $-V/(d-1)$. Hence the share has the mean $r/d$ and the variance
#
# $$
# V \Big( \sum_i w_i^2 - \frac{1}{d-1} \sum_{i \ne j} w_i w_j \Big) = V \Big( \frac1m - \frac{1 - 1/m}{d-1} \Big) = V\,\frac{d-m}{m\,(d-1)} .
# $$
#
# Its root over $r/d$ is {eq}`eq-spread`.
# :::
#
# It is zero for $m = d$, however small $r$ is. So a small space does no harm by itself. It does when gradients are *correlated* and use few of their $d$ directions. {numref}`fig-energy` takes three sets of gradients with 64 channels (the real ones are from a ProcResNet-13 before training), and for each number of input channels 100 random kernels.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "How much the energy that a random kernel passes on varies from kernel to kernel. Few channels make it vary only where the gradients use few directions. Dots: measured. Lines: the formula, without a free parameter.", "name": "fig-energy"}, "image": {"alt": "Standard deviation falls with the number of channels; highest for gradients along one direction, near zero for isotropic ones, in between for real ones. Dots lie on the lines."}}
torch.manual_seed(0)
network = models.build("procresnet", 11)
data = cifar.load("cifar10", "sample").subset(200, 50)
images = augmentation.normalise(data.train_images, data.mean, data.std)
conv = "chain.transition1"
real = output_gradients(network, images, data.train_labels, [conv])[
    conv
]
line = torch.randn(1, 64, 1, 1, dtype=torch.float64)
gradients = {
    "real, at the first transition": real,
    "isotropic": torch.randn(200, 64, 8, 8, dtype=torch.float64),
    "along one direction": torch.randn(200, 1, 8, 8).double() * line,
}
variation = studies.energy_by_channels(gradients, [1, 2, 4, 8, 16, 32])
draw.energy_spread(variation)

# %% tags=["remove-input"]
sd = variation.set_index(["gradients", "channels"]).sd
one = "along one direction"
p3 = claims.read_all(results_root(), only=("P3",))[0].quantities
RATE = 0.1
begins = p3[f"share over c/d, rate {RATE:g}, at the start"].mean
finishes = p3[f"share over c/d, rate {RATE:g}, at the end"].mean
Markdown(
    "Isotropic gradients satisfy the assumption even with one input "
    f"channel: the standard deviation is {sd['isotropic', 1]:.2f}. "
    f"Gradients along one direction violate it by {sd[one, 1]:.0%} "
    f"with one channel, and still by {sd[one, 32]:.0%} with half of "
    "the channels. "
    "(With so few kernels a standard deviation is itself uncertain, "
    "most so for one channel.)\n\n"
    "In training it is not chance alone. In the networks of [chapter "
    f"3](03_channel_grid.ipynb), at the learning rate {RATE:g}, the "
    f"surviving directions carry {begins:.2f} times what is assumed "
    f"before training and {finishes:.2f} times after it, on average "
    "over the pairs of channel numbers. A share that "
    "is $z$ times as large as assumed brings the gradient-norm "
    f"{{term}}`ratio` to $1/\\sqrt{{z}}$, "
    f"here from {begins**-0.5:.2f} to {finishes**-0.5:.2f}. This is "
    "the direction in which the held transitions of "
    f"{{numref}}`fig-transitions` go."
)

# %% [markdown]
# (what-it-costs)=
# ## What it costs
#
# On the CPU that was measured, the paper's iteration is no faster than a singular value decomposition, and what saves time is a pair of shortcuts. The paper makes three statements: that projecting "increases the training time by less than 8%" when it follows every second step of ResNet-164 (O1a; that the figure is this network's is *inferred*), that "as the network becomes deeper the computational overhead becomes less significant" (O1b), and that "this is significantly less computation compared to regularization using SVD" (O1c). A fourth line, O1d, is about this library's projection, which is a different program from the paper's.
#
# Two programs can be compared only if both have the same shortcuts: one matrix for all frequencies of a 1 × 1 kernel, and half of the spectrum. Neither belongs to the iteration or to the SVD, so each is timed with both shortcuts and with neither. "The paper's iteration" in {numref}`fig-overhead` is its (8) and (9) as they are written, at all $n^2$ frequencies. Ten steps are assumed, which is what the published code takes; the paper gives no number.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "On a CPU, what counts is the two shortcuts, and not whether an iteration or an SVD computes the projection: what projecting after every second step adds to the training time of ProcResNet-166. Medians of the rounds.", "name": "fig-overhead"}, "image": {"alt": "Five dots on a logarithmic scale: the library, the SVD and the iteration with the same shortcuts lie together, far below the paper's 8 per cent; the SVD and the iteration at every frequency lie together above it."}}
labels = {
    "library": "this library",
    "svd, shortcuts": "SVD, shortcuts",
    "iteration, shortcuts": "the paper's iteration, shortcuts",
    "svd": "SVD at every frequency",
    "iteration": "the paper's iteration",
}
variants = pd.DataFrame(
    {"variant": labels.values(), "percent": share[list(labels)].values}
)
draw.overhead(variants, limit=8)

# %% tags=["remove-input"]
times = found["O1a"].frames["seconds"]
of_svd = {
    which: (times[f"iteration{which}"] / times[f"svd{which}"]).median()
    for which in ("", ", shortcuts")
}
saved = (times.svd / times["svd, shortcuts"]).median()
deep = found["O1b"].frames["seconds"]
deeper = (50 * deep.iteration / deep.step).groupby(deep.depth).median()
steps_of = deep.groupby("depth").step.median()
longer = steps_of.iloc[-1] / steps_of.iloc[0]
recomputed = (
    ", and both networks computed their activations a second time on "
    "the way back, which takes less memory and makes a step longer"
    if deep.recomputed.all()
    else ""
)
again = (
    f" (These {deep['round'].nunique()} rounds are not those with the "
    f"{share['iteration']:.2g}% above{recomputed}.)"
)
load = times.groupby("round").load.mean().median()
decides = (
    "A CPU decides nothing of this. The paper's times are taken to be "
    "those of a GPU, which is made for many small matrix products, and "
)
decides += (
    "these are of a GPU:\n\n"
    + "\n".join(
        f"* {f.claim}, {f.provenance.device.name}, {c.name}: {c.text}"
        for f in on_gpu
        for c in claims.details(f).compared
    )
    + "\n\n"
    if on_gpu
    else "none has been measured here yet. "
)
Markdown(
    f"In the median of {len(times)} rounds the paper's iteration adds "
    f"{share['iteration']:.2g}% to the training time, and an SVD at "
    f"every frequency adds {share['svd']:.2g}%. The iteration takes "
    f"{of_svd['']:.1f} times as long as the SVD "
    f"where neither has a shortcut, and {of_svd[', shortcuts']:.1f} "
    "times where both have them. "
    f"The shortcuts make the SVD {saved:.0f} times as fast. This "
    f"library's projection adds {share['library']:.2g}%.\n\n"
    f"**A deeper network (O1b).** At depth {deep.depth.max()} the "
    f"paper's iteration adds {deeper.iloc[-1]:.2g}% to the training "
    f"time, and at depth {deep.depth.min()}, measured beside it, "
    f"{deeper.iloc[0]:.2g}%. The work of the projection is the same, "
    "since a network of any depth has three transitions, while a "
    f"training step takes {longer:.1f} times as long.{again}\n\n"
    f"{decides}The CPU's times were taken on a busy machine, where "
    f"{load:.0f} processes ran or waited in the median round. So a "
    "time alone means little; shares and ratios, which compare what "
    "ran in turns, mean more."
)

# %% tags=["remove-input"]
measured = benchmark("projection")
slope = measured["growth_exponents"]["ours"][-1]
*_, before, widest = (row["channels"] for row in measured["growth"])
grams, root = next(iter(measured["inverse_sqrt_milliseconds"].items()))
count = grams.split()[0]
Markdown(
    "**How the library computes it.** No kernel is ever transformed. "
    "The projected kernel is the kernel convolved with the $c \\times "
    "c$ filter $(P^{\\mathsf H}P)^{-1/2}$. Here $P^{\\mathsf H}P$ is "
    "the Fourier transform of the kernel's autocorrelation, which has "
    "few taps, and only few taps of the filter can reach the places "
    "that the crop keeps. So the Fourier transform only ever sees $c "
    "\\times c$ matrices, and the larger number of channels enters "
    "through two ordinary matrix products.\n\n"
    "For the inverse square roots an eigen-decomposition is fastest "
    f"on a CPU ({root['eigh']:.1f} milliseconds for the first "
    f"transition's {count} matrices, where Newton–Schulz takes "
    f"{root['newton-schulz']:.1f}). On CUDA the library takes the "
    "quintic, for which the CPU never waits for the GPU's result. "
    "With more channels the time grows, in the end, with nearly their "
    f"third power: the exponent is {slope:.1f} from {before} to "
    f"{widest}."
)

# %% [markdown]
# ## What holds
#
# Theorem 3 and the iteration hold as the paper says. The projection is exact before the crop and for 1 × 1 kernels, which two of the three transitions have. For larger kernels it has to be repeated, and for a random square kernel no repetition helps. What it costs is decided on a GPU. {numref}`tab-projection` shows what was measured with more seeds and rounds. It gives means, where the text and the rules take medians of the times and the worst of the singular values; the rules behind the verdicts are on the [scorecard](00_scorecard.ipynb).

# %% tags=["hide-input", "hide-output"] mystnb={"figure": {"caption": "What was measured for the seven claims: means with their standard deviations.", "name": "tab-projection"}}
table = claims.overview(every)
table.set_index(["claim", "measured"])[["mean ± sd", "seeds"]]

# %% [markdown]
# ## Exercises
#
# The code of the solutions goes on from the cells above.
#
# **1. A spectrum by hand.** A 3 × 3 kernel from one channel to one averages: each of its nine taps is 1/9. What are its singular values on an $n \times n$ image that wraps around? For which $n$ does the convolution lose some images entirely?
#
# :::{admonition} Solution
# :class: dropdown
# With the taps at $-1, 0, 1$, {eq}`eq-transfer` is a product of two sums, and $P^{(u,v)} = p_u p_v$ with $p_u = \tfrac13 \big(1 + 2\cos(2\pi u/n)\big)$. (Another place for the taps multiplies it by a number of modulus 1.) A matrix of one entry has its modulus as singular value: $|p_u p_v|$. It vanishes where $\cos(2\pi u/n) = -1/2$, that is at $u = n/3$, so if $n$ is divisible by 3.
#
# ```python
# average = torch.full((1, 1, 3, 3), 1 / 9, dtype=torch.float64)
# u = torch.arange(6, dtype=torch.float64)
# p = (1 + 2 * torch.cos(2 * math.pi * u / 6)) / 3
# by_hand = torch.outer(p, p).abs().flatten().sort().values
# computed = singular_values(average, 6).flatten().sort().values
# assert torch.allclose(by_hand, computed)
# assert computed[0] < 1e-12 and singular_values(average, 5).min() > 0.01
# ```
# :::
#
# **2. Targets.** Find $\sigma^2$ for these convolutions: (a) 16 to 64 channels, 3 × 3; (b) 64 to 16 channels, 1 × 1; (c) 3 to 64 channels, 7 × 7, stride 2; (d) 64 to 64 channels, 3 × 3, followed by a ReLU.
#
# :::{admonition} Solution
# :class: dropdown
# (a) $r = 16$, $\sigma^2 = 64/16 = 4$. (b) $r = \min(16, 64) = 16$, no direction of the gradient is lost, and $\sigma^2 = 1$. (c) The kernel reads all $2^2$ positions, $r = \min(64, 4 \cdot 3) = 12$ and $\sigma^2 = 64/12 = 16/3$. (d) $r = 64$, and the ReLU doubles $\sigma^2 = 1$ to 2.
#
# ```python
# from paperlib.projection import rank
#
# squares = [
#     target((64, 16, 3, 3)) ** 2,
#     target((16, 64, 1, 1)) ** 2,
#     target((64, 3, 7, 7), stride=2) ** 2,
#     target((64, 64, 3, 3), relu=True) ** 2,
# ]
# assert [round(x, 9) for x in squares] == [4, 1, round(16 / 3, 9), 2]
# assert rank((64, 3, 7, 7), stride=2) == 12
# ```
# :::
#
# **3. Why cropping breaks exactness.** Take one channel and one dimension. (a) Show that a kernel whose singular values are all equal on every image has a single tap that is not zero. (b) What does this say about the projection of the kernel $(2, 1)$, before the crop and after it?
#
# :::{admonition} Solution
# :class: dropdown
# (a) $|P|^2$ is the Fourier transform of the autocorrelation $\sum_a K_a K_{a+j}$. If $|P|$ is constant, the autocorrelation is zero for every lag $j \ne 0$. At the lag between the first and the last tap that are not zero, it is the product of these two, which is not zero unless they are the same tap. (b) $P/|P|$ has modulus 1 at each frequency. Its phase is not linear in $u$, so its kernel is not a single tap. By (a), a kernel on the two places alone would have to be one. So there are taps beyond them. In fact it has them everywhere, and the crop takes them away.
#
# ```python
# P = torch.fft.fft(torch.tensor([2.0, 1.0], dtype=torch.float64), n=16)
# flat_kernel = torch.fft.ifft(P / P.abs()).real
# assert (flat_kernel.abs() > 1e-5).all()  # taps everywhere
# after_crop = torch.fft.fft(flat_kernel[:2], n=16).abs()
# assert after_crop.max() - after_crop.min() > 0.3
# ```
# :::
#
# **4. A norm that is not the convolution's.** The kernel reshaped to a $d \times ck^2$ matrix $W$ is often taken for the convolution. Show that the convolution's norm is at most $k \lVert W \rVert$. Find a kernel whose convolution has a norm above $\lVert W \rVert$.
#
# :::{admonition} Solution
# :class: dropdown
# Each output pixel is $W$ times the patch of the image under the kernel. So the output's squared norm is at most $\lVert W \rVert^2$ times the sum of the squared norms of all patches, in which each pixel of the image is counted at most $k^2$ times. The averaging kernel of exercise 1 has $\lVert W \rVert = 1/3$, and its convolution has norm 1, on constant images: here the factor $k = 3$ is attained.
#
# ```python
# from paperlib.spectrum import operator_norm
#
# norm = torch.linalg.matrix_norm(average.flatten(1), 2)
# assert torch.isclose(3 * norm, operator_norm(average, 6))
# random = studies.he_kernel(16, 16, 3)
# norm = torch.linalg.matrix_norm(random.flatten(1), 2)
# assert norm < operator_norm(random, 16) < 3 * norm
# ```
# :::
#
# **5. An SVD against the iteration.** Count operations at one frequency, for $d = 2c$. A product of an $m \times p$ and a $p \times q$ matrix takes $2mpq$ of them. One step of the paper's (9) takes three products of $c \times c$ matrices. An SVD with its singular vectors takes about $6dc^2 + 20c^3$ (Golub and Van Loan's count), and then one product makes the polar factor. (a) Compare ten steps with an SVD. (b) How many steps does a singular value of 0.01 need to come within $10^{-6}$ of 1?
#
# :::{admonition} Solution
# :class: dropdown
# (a) The Gram matrix takes $2dc^2 = 4c^3$, ten steps take $60c^3$, and the last product $4c^3$: together $68c^3$. The SVD takes $32c^3$ and the product of its singular vectors $4c^3$: together $36c^3$. So the iteration does more work, and can be faster only where matrix products run at a higher speed than the steps of an SVD, as on a GPU. (b) While it is small it grows by half in each step, and $\log 100 / \log 1.5 \approx 11$. The last few steps are quadratic: 15 steps together.
#
# ```python
# def iteration(d, c, steps=10):
#     return 2 * d * c**2 + 6 * steps * c**3 + 2 * d * c**2
#
#
# assert iteration(2, 1) == 68 and 6 * 2 + 20 + 2 * 2 == 36
# z, count = 0.01, 0
# while 1 - z > 1e-6:
#     z, count = z * (3 - z**2) / 2, count + 1
# assert count == 15
# ```
# :::
#
# ## What follows
#
# The projection keeps the singular values where they should be, and what it assumes about gradients is only roughly true. [Chapter 3](03_channel_grid.ipynb) asks how far that matters, for many numbers of channels and with a ReLU after the convolution. The [appendix](02b_published.ipynb) reads the authors' published code beside the equations of this chapter, and [chapter 6](06_your_network.ipynb) holds the convolutions of a network of your own.

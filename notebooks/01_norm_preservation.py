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
# # Why skips keep the gradient's norm
#
# On its way back from the loss, the gradient passes every {term}`block` of a network, and each block multiplies its norm by some factor. Over many blocks the factors multiply, so that the gradient vanishes or explodes unless nearly all of them are close to 1. A plain chain of layers does not have such factors by itself; with a skip around every few layers it mostly does.
#
# The paper {cite}`zaeemzadeh2020` explains this by two theorems and a corollary about residual blocks $x_{l+1} = x_l + F_l(x_l)$. Whatever a network is to represent, it can do so in small steps, the more blocks the smaller, and a block that takes a small step hardly changes the gradient's norm. The theorems say that such blocks *exist*. So this chapter builds them, measures them, and looks for the point where each statement breaks.
#
# :::{card} About this chapter
# :class-card: chapter-card
#
# - **Shows:** why a block near the identity keeps the gradient's norm, how any smooth map is built from such blocks, and what the paper's theorems leave out
# - **Decides:** claims T1, C1 and T2 ([scorecard](00_scorecard.ipynb))
# - **Needs:** two CPU cores, about 1 GB of memory
# - **Fetches:** nothing
# - **Takes:** about half a minute at `desk` ([measured](reproducibility.ipynb))
# - **Run it:** `papermill notebooks/01_norm_preservation.ipynb out.ipynb`
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
from IPython.display import HTML, Markdown

from paperlib import claims, records
from paperlib.config import RunConfig
from paperlib.figures import interactive
from paperlib.figures import norm_preservation as draw
from paperlib.store import results_root
from paperlib.studies import norm_preservation as studies
from paperlib.studies import runs
from paperlib.theorems import (
    ball,
    compose,
    corollary_bound,
    gradient_delta,
    linear_factors,
    linear_map,
    near_identity_path,
    theorem2_delta,
)

# %% tags=["remove-input"] mystnb={"markdown_format": "myst"}
names = ("T1", "C1", "T2")
found = {
    finding.claim: finding
    for finding in claims.read_all(results_root(), only=names)
}
verdict = {name: claims.spoken(found[name]) for name in names}
slope = found["T1"].quantities["slope of δ in L, twist, arc"].mean
mirrored = found["T2"].frames["mirrored"]
limit = claims.CLAIMS["T2"].REACHED
positive, negative = (
    mirrored[sign * mirrored.determinant > 0] for sign in (1, -1)
)
training = found["C1"].frames["training"]
state = training.groupby(["decay", "step"])[
    ["bound", "delta", "risk", "exponent"]
].mean()
start, early, late = state.index.unique("step")
none, paper, strong = state.index.unique("decay")
bound = state.bound
Markdown(
    "> **Found.** By Theorem 1 any smooth, invertible map that is no "
    "mirror image can be cut into $L$ blocks that change the "
    "gradient's norm by at most $\\delta$ "
    f"(T1: {verdict['T1']}). Cut in equal steps, the two maps built "
    "here have a $\\delta$ that falls like $1/L$ (for one of them with "
    f"a slope of −{-slope:.2f} on logarithmic scales), "
    "faster than the $\\log(2L)/L$ of the paper. "
    "For linear blocks the paper leaves out a condition: gradient "
    f"descent reached {(positive.excess <= limit).sum()} of "
    f"{len(positive)} targets with "
    f"a positive determinant and {(negative.excess <= limit).sum()} of "
    f"their {len(negative)} mirror images (T2: {verdict['T2']}). "
    "A block's weights bound its $\\delta$ in every case that was "
    f"measured (C1: {verdict['C1']}), but training can loosen "
    f"the bound: in {late:,} steps without weight decay it went "
    f"from {bound[none, start]:.2f} to {bound[none, late]:.2f}, and "
    f"the measured $\\delta$ from {state.delta[none, start]:.2f} to "
    f"{state.delta[none, late]:.2f}."
)

# %% [markdown]
# ## Without skips the gradient explodes before training and vanishes after it
#
# In {numref}`fig-question` the gradient's norm falls by many powers of ten on its way back through a chain without skips, and changes little where there are skips. Three networks of 164 layers (166 with the {term}`transitions <transition>` of the third) were trained on part of CIFAR-10, as [chapter 4](04_cifar.ipynb) does it: one without skips, one with skips, and a ProcResNet, in which three convolutions of their own change the number of channels and are {term}`held` {term}`norm-preserving`. In the last epoch the gradient of the loss was measured at the input of every block.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The gradient's norm on its way back through three networks after a short training, from the loss on the right to the input on the left: without skips most of it is lost. Plain-164 has not learnt.", "name": "fig-question"}, "image": {"alt": "On a logarithmic scale the two residual networks stay near 1. Without skips the norm falls steeply and steadily on its way to the input, and rises again in the first two blocks."}}
on_record = records.read_all(results_root())
back = runs.way_back(on_record)
draw.real_gradients(back)

# %% tags=["remove-input"]
typical = back.groupby("arch").log_ratio.apply(
    lambda ratio: math.exp(ratio.abs().median())
)
lowest = back.groupby("arch").log_norm.min()
furthest = back[back.arch != "plain"].log_norm.abs().max()
grows = math.exp(-runs.at_the_start(on_record).median())
Markdown(
    "On its way back through a typical block (the median) the "
    "gradient's norm is divided or multiplied by "
    f"{typical['plain']:.2f} without a skip, and by "
    f"{typical['resnet']:.2f} with one. The gradient of "
    f"the plain chain falls to $10^{{{lowest['plain']:.0f}}}$ of what "
    "it was. Those of the two others stay within a factor of "
    f"{10**furthest:.0f}. Before the first update it was the other "
    "way round without skips: the gradient grew on its way back, "
    f"{grows:.1f}-fold in the median block ([chapter 5]"
    "(05_results.ipynb) derives by how much)."
)

# %% [markdown]
# A factor that is harmless in one block is not in fifty. So in a deep network each factor has to be close to 1, and the closer the more blocks there are. When does a block with a skip have such a factor?
#
# (This is one run of each network, short and on little data. The plain chain was trained in float32, because in bfloat16 it diverged. It learnt nothing, so the picture does not tell cause from consequence. How it fares depends on its start: plain chains of ten thousand layers, begun as isometries, have been trained {cite}`xiao2018`.)
#
# ## A block near the identity keeps the norm
#
# A block keeps the gradient's norm if its derivative is close to the identity matrix. Let $J$ be the derivative of a block's output with respect to its input. On its way back the gradient is multiplied by $J^\top$, which changes its norm by a factor between the smallest and the largest singular value of $J$. With an identity skip $J = I + M$, where $M$ is the derivative of the branch.
#
# :::{prf:lemma} Near the identity, norms are kept; the paper's Lemma 1
# :label: lemma-identity
# For every square $M$: $\;1 - \sigma_{\max}(M) \le \sigma_{\min}(I+M) \le \sigma_{\max}(I+M) \le 1 + \sigma_{\max}(M)$.
# :::
#
# *Why.* By the triangle inequality $\lVert v + Mv \rVert$ differs from $\lVert v \rVert$ by at most $\lVert Mv \rVert$. (The paper asks for a non-singular matrix and uses the Neumann series. Neither is needed.)

# %% tags=["remove-input"]
kinds = studies.lemma1().set_index("M")
skew = kinds.largest["skew-symmetric"]
Markdown(
    f"Of several matrices $M$ of norm {kinds.upper.max() - 1:g}, the "
    "multiples of $I$ attain the two ends, "
    f"{kinds.smallest['a negative multiple of I']:g} and "
    f"{kinds.largest['a multiple of I']:g}. A random one reaches "
    f"{kinds.smallest['random']:.2f} and "
    f"{kinds.largest['random']:.2f}, and a skew-symmetric one "
    f"stretches every vector by {skew:.2f}."
)

# %% [markdown]
# Two measures of a block follow, and they are not the same. The gradient feels $\delta = \max |\sigma(J) - 1|$, the largest distance of a singular value of $J$ from 1. The theorems bound $\lVert J - I \rVert$, which is at least $\delta$ by the lemma. It can be much larger: a rotation keeps every norm, so that $\delta = 0$, and half a turn has $\lVert J - I \rVert = 2$. Being near the identity is sufficient, but not necessary.
#
# ## Any smooth map can be cut into such blocks
#
# The paper's Theorem 1 says that a chain of residual blocks can represent any smooth, invertible map while each block keeps the gradient's norm, the better the more blocks there are.
#
# :::{prf:theorem} Norm-preserving blocks exist; the paper's Theorem 1, after {cite}`bartlett2018`
# :label: thm-nonlinear
# Let $F$ be differentiable and invertible on the unit ball, with $\lVert F'(x) - F'(y) \rVert \le \alpha \lVert x - y \rVert$, an inverse with Lipschitz constant $\beta$, and $\det F' > 0$. Then $F$ is a composition of $L$ blocks
# $x_{l+1} = x_l + F_l(x_l)$ with
#
# $$
# (1-\delta) \Big\lVert \frac{\partial E}{\partial x_{l+1}} \Big\rVert \le \Big\lVert \frac{\partial E}{\partial x_l} \Big\rVert
# \le (1+\delta) \Big\lVert \frac{\partial E}{\partial x_{l+1}} \Big\rVert , \qquad \delta = O\Big( \frac{\log 2L}{L} \Big).
# $$
# :::
#
# *Idea of the proof.*
#
# 1. Find a path of maps $G_t$ that leads from the identity $G_0$ to $F = G_1$, and cut it at times $0 = t_0 < t_1 < \dots < t_L = 1$. Let block $l$ be the piece from one cut to the next, $G_{t_l} \circ G_{t_{l-1}}^{-1}$. In the whole chain all inner maps cancel, and $F$ is left. If the path is smooth, a short piece of it is close to the identity.
# 2. The path comes from zooming into the map. Shift $F$ so that $F(0) = 0$. Near 0 it looks like its derivative there, so that $\kappa = F'(0)^{-1} F$ looks like the identity. Take $\kappa$ in a small ball of radius $t$ and enlarge it to the unit ball: this is $\kappa(tx)/t$. For $t \to 0$ it is the identity, and for $t = 1$ it is $\kappa$.
# 3. The linear part $F'(0)$ is a rotation times a stretch, $F'(0) = QP$ (the polar decomposition; $\det F' > 0$ makes $Q$ a rotation). Its powers $Q^t P^t$ lead from the identity to it. The paper takes the two parts one after the other, first $\kappa$ and then the linear part. They can also be taken together:
#
# $$
# G_t(x) = Q^t P^t \, \frac{\kappa(tx)}{t} .
# $$ (eq-path)
#
# Two maps serve as examples. Let $S$ turn each pair of coordinates by a quarter turn, so that $e^{\varphi S}$ turns each by the angle $\varphi$. The *twist* $T e^{\omega \lVert x \rVert^2 S} x$ turns every point by an angle that grows with its distance from 0, and then applies a matrix $T$. The *tanh map* $T(x + \varepsilon W^\top \tanh Wx)$ is itself a residual block with tied weights, followed by a matrix. {numref}`fig-path` shows the path for two such maps of the plane.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "A grid on the unit disk, carried from the identity to F along the path, for two maps of the plane. Each block of the network takes one short step along it.", "name": "fig-path"}, "image": {"alt": "Two rows of three pictures: a square grid on a disk is gradually turned and sheared in the first, and bent in the second."}}
draw.carried_grid(
    studies.carried_grid(studies.plane_maps(), [0, 0.5, 1])
)

# %% [markdown]
# In eight dimensions `near_identity_path` returns the blocks. Each one is called on what the one before returned, and in the end $F$ is there, up to rounding:

# %%
maps = studies.example_maps()
blocks = near_identity_path(maps["twist"], L=16)
x = y = ball(8, 32)
for block in blocks:
    y = block(y)
bool((y - maps["twist"](x)).abs().max() < 1e-12)

# %% [markdown]
# ## How near to 1: like 1/L, without the logarithm
#
# How near to the identity the blocks are depends on where the path is cut, and the paper's way is not the best. Let $\tilde\alpha$ and $\tilde\beta$ be the constants $\alpha$ and $\beta$ of $\kappa$, and cut the path from the identity to $\kappa$ at the radii $a_1 < a_2 < \dots < a_m = 1$. This gives $m$ of the $L$ blocks.
#
# :::{prf:lemma} The length of a step
# :label: lemma-step
# Let $\lVert h \rVert_{\mathrm{Lip}}$ be the smallest Lipschitz constant of a map $h$ (of a linear map its largest singular value, $\lVert h \rVert$). With $g_i(x) = \kappa(a_i x)/a_i$, the blocks $h_i = g_i \circ g_{i-1}^{-1}$ satisfy
# $\lVert h_1 - \mathrm{Id} \rVert_{\mathrm{Lip}} \le \tilde\alpha a_1$ and $\lVert h_i - \mathrm{Id} \rVert_{\mathrm{Lip}} \le \tilde\alpha \tilde\beta\, (a_i - a_{i-1})$.
# :::
#
# *Why.* Write $h_i - \mathrm{Id} = (g_i - g_{i-1}) \circ g_{i-1}^{-1}$. The derivative of the bracket at $x$ is $\kappa'(a_i x) - \kappa'(a_{i-1} x)$, and in the unit ball its norm is at most $\tilde\alpha (a_i - a_{i-1})$. The other map is $g_{i-1}^{-1}(y) = \kappa^{-1}(a_{i-1} y)/a_{i-1}$, with the same Lipschitz constant as $\kappa^{-1}$. For the first block, $g_0$ is the identity, the limit of $\kappa(tx)/t$ for $t \to 0$.

# %% tags=["remove-input"]
pairs = pd.concat(
    studies.lemma_lipschitz(f, [0.1, 0.3, 0.6, 1.0])
    for f in maps.values()
)
share = (pairs.measured / pairs.bound).max()
Markdown(
    "Measured on random pairs of points, the blocks of the two maps "
    f"above reach at most {share:.0%} of these bounds."
)

# %% [markdown]
# Three ways to cut are compared:
#
# * **Geometric** radii $a_i = \big(1 - \tfrac{\log 2m}{m}\big)^{m-i}$ for one half of the blocks, $m = L/2$, and the linear part in the other. This is the decomposition that the paper refers to {cite}`bartlett2018`. Its largest step is $\tilde\alpha\tilde\beta \log(2m)/m$: the rate of the theorem.
# * **Uniform** radii $a_i = i/m$, with the linear part as before. By {prf:ref}`lemma-step` no step is longer than $\tilde\alpha\tilde\beta/m$, so the logarithm is gone.
# * **Equal arcs** follow {eq}`eq-path`, where bending, turning and stretching go together, in steps of equal length. The length of a short step is about the largest $\lVert J - I \rVert$ of its block.
#
# {numref}`fig-rates` has the result: the geometric cuts follow the dashed curve of the theorem, and the two others fall faster.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The largest change of a gradient's norm by a block falls with the number of blocks, like log(2L)/L (dashed) with the paper's cuts and like 1/L with the others. No decomposition reaches the grey region.", "name": "fig-rates"}, "image": {"alt": "Two panels on logarithmic scales. The geometric cuts follow the dashed curve; uniform radii and equal arcs fall in parallel to the edge of the grey region."}}
rates = studies.theorem1_rates(maps, points=32)
draw.rates(rates)

# %% tags=["remove-input"]
fit = studies.slopes(rates, "delta", ["map", "schedule"])
theirs = fit[fit.schedule == "geometric"]["in log(2L)/L"]
others = fit[fit.schedule != "geometric"]["in L"]
deepest = rates[rates.L == rates.L.max()].set_index(["schedule", "map"])
over = deepest.delta / deepest.lower
Markdown(
    "Straight lines through the logarithms, for "
    f"{rates.L[rates.L >= 16].min()} to {rates.L.max():,} blocks, say "
    "the same. With the paper's cuts the slope of $\\delta$ in "
    f"$\\log(2L)/L$ is {' and '.join(f'{x:.2f}' for x in theirs)} for "
    "the two maps, where 1 is the theorem's rate. (For the twist it is "
    "a little below 1 since half of the blocks make $\\kappa$, so that "
    "$\\log(2m)/m$ with $m = L/2$ is what falls. For the tanh map the "
    "linear part decides as long as there are few blocks, which makes "
    "the line steeper.) With the other two "
    f"the slope in $L$ itself is between −{-others.min():.2f} and "
    f"−{-others.max():.2f}, where −1 is the rate $1/L$."
)

# %% [markdown]
# The reason for the logarithm is in {numref}`fig-spectra-blocks`. The first half of the paper's blocks makes $\kappa$, the second the linear part. The geometric progression spends most of the first half near radius 0, where $\kappa$ is nearly linear and there is nothing to do, and takes the largest step last.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The singular values of the derivative of each of 32 blocks, over the unit ball. With the paper's cuts some blocks do all the bending; with equal arcs all do the same.", "name": "fig-spectra-blocks"}, "image": {"alt": "Two panels of bars around 1. Geometric: hardly visible at first, then growing up to the middle of the chain, then all alike; equal arcs: all alike."}}
spectra = studies.block_spectra(maps["twist"], 32, ("geometric", "arc"))
draw.block_spectra(spectra)

# %% [markdown]
# In {numref}`fig-spectra-depth` you choose the number of blocks and the schedule. More blocks bring $\delta$ down for each schedule. In a longer chain with the paper's schedule, the block in the middle takes the largest step.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The singular values of every block's derivative, by the number of blocks L and the schedule. With the paper's schedule their largest distance from 1 falls like log(2L)/L, up to a constant; with the other two it falls faster.", "name": "fig-spectra-depth"}}
stored_spectra = studies.read_spectra()
some = stored_spectra.blocks.query("L in (4, 16, 64)")
HTML(
    interactive.html(
        interactive.spectra_by_depth(stored_spectra.blocks),
        "Singular values of each block, by the number of blocks",
        "The picture has chains of 4, 16 and 64 blocks. On the book's "
        "page a slider goes from 2 to 1,024.",
        draw.block_spectra(some),
    )
)

# %% tags=["remove-input"]
Markdown(
    f"*The map is the twist, at {stored_spectra.points} random points "
    f"of the unit ball (commit {stored_spectra.commit}). "
    f"{stored_spectra.again} makes the table again.*"
)

# %% [markdown]
# **No better rate is possible.** However $F$ is cut, the derivatives of the $L$ blocks multiply to that of $F$. If $F$ stretches some direction by $K$, one of the blocks stretches by at least $K^{1/L}$, and likewise where $F$ shrinks. Hence
#
# $$
# \delta \;\ge\; \max\big( \lVert F' \rVert^{1/L} - 1,\; 1 - \lVert F'^{-1} \rVert^{-1/L} \big) ,
# $$ (eq-lower)
#
# and the first of the two is about $\log K / L$. This is the edge of the grey region in {numref}`fig-rates`.

# %% tags=["remove-input"]
Markdown(
    f"At {rates.L.max():,} blocks, equal arcs are above it by a factor "
    f"of {over['arc', 'twist']:.2f} for the twist and of "
    f"{over['arc', 'tanh']:.2f} for the tanh map; "
    f"the paper's cuts by {over['geometric', 'twist']:.1f} and "
    f"{over['geometric', 'tanh']:.1f}."
)

# %% [markdown]
# ### Where Theorem 1 breaks
#
# **The constant.** The theorem's rate is taken to be $\delta = C \log(2L)/L$. (*Inferred*: the formula is lost in the text that the authors of the book had.) The paper calls the constants of its assumptions, $\alpha$ and $\beta$, "independent of network size and architecture". Could $C$ depend on these alone, and the bound hold for every $L$? No. The map $F(x) = Kx$ has $\alpha = 0$ and $\beta = 1/K$, both small when $K$ is large, and by {eq}`eq-lower` each of $L$ blocks has to stretch by $K^{1/L}$.

# %% tags=["remove-input"]
scaling = studies.pure_scaling().iloc[-1]
Markdown(
    f"With $K = {scaling.K:.0f}$ the constants are {scaling.alpha:g} "
    f"and {scaling.beta:g}, and sixteen blocks still need $\\delta = "
    f"{scaling.delta:.2f}$. "
    "So either the constant depends on $\\lVert F'(0) \\rVert$, too, "
    "or the statement is only for $\\log 2L \\ge (\\log K)/C$, "
    "that is, for $L$ above $K^{1/C}/2$."
)

# %% [markdown]
# **Orientation.** Small steps do not lead to a mirror image (exercise 3). The paper's third assumption excludes it, "without loss of generality", as it says, since one more layer can turn the sign. `near_identity_path` refuses such a map with one sentence.
#
# **Which blocks.** The theorem's blocks are arbitrary functions, and a network's are two or three layers. How well can two layers, $W_2\,\mathrm{ReLU}(W_1 x + b)$, be the last of 16 blocks of a twist? Let $W_1$ be random and $W_2$ the best one.

# %% tags=["remove-input"]
layers = studies.two_layer_fit().set_index("width")
wide = layers.index.max()
Markdown(
    f"With {wide:,} hidden units and biases, the error is "
    f"{layers['with biases'][wide]:.0%} of what the block adds. "
    f"Without biases it is {layers.without[wide]:.0%}, "
    "and no width helps: such a block is homogeneous, $f(\\lambda x) = "
    "\\lambda f(x)$ for $\\lambda > 0$, and so is any chain of them, "
    "which a twist is not. (In a real network batch normalisation "
    "brings biases.)"
)

# %% [markdown]
# ## A block's weights bound its δ
#
# For a block of two layers, the norms of its weights say how far it is from keeping the gradient's norm.
#
# :::{prf:corollary} A bound from the weights; the paper's Corollary 1
# :label: cor-weights
# For a block $x + W_2\,\rho(W_1 x)$ with $|\rho'| \le c_\rho$, the gradient's norm is kept within $1 \pm \delta$ with $\delta = c_\rho \lVert W_1 \rVert_2 \lVert W_2 \rVert_2$.
# :::
#
# *Why.* The branch's derivative is $W_2\, \mathrm{diag}(\rho')\, W_1$. Its norm is at most the product of the three norms, and {prf:ref}`lemma-identity` does the rest. Every further activation brings its own $c_\rho$, and every further layer its norm.
#
# `corollary_bound` multiplies the norms. For convolutions these are the norms of the operators on the image, which are the subject of [chapter 2](02_projection.ipynb).

# %%
blocks = studies.two_layer_blocks()
branch, size, _ = blocks["conv, 6 channels, zeros"]
delta = corollary_bound(branch, size).item()
print(f"conv 3×3, ReLU, conv 3×3, at the usual start: δ ≤ {delta:.2f}")

# %% [markdown]
# A bound above 1 allows the gradient to vanish, so this block would have to start with smaller weights. How tight is the bound? In {numref}`fig-corollary` random blocks are scaled until their bound is 1/4, and measured.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The distance of random two-layer ReLU blocks from the identity, ‖J − I‖, is about half of the corollary's bound or more. A random gradient feels little of it. One dot a seed.", "name": "fig-corollary"}, "image": {"alt": "One row per kind of block. The worst direction uses a large part of the bound, most of it where the two matrices are tied; a random gradient uses little."}}
tight = found["C1"].frames["tightness"]
draw.tightness(tight)

# %% tags=["remove-input"]
used = tight.groupby("block", sort=False).ratio.mean()
felt = (tight.random / tight.bound).groupby(tight.block).mean()
convs = tight[tight.block.str.startswith("conv")]
bounded = (tight.measured <= tight.bound).all()
holds = "holds in every case" if bounded else "fails"
Markdown(
    "The bound "
    f"{holds}. "
    "The distance from the identity, which is never below $\\delta$, "
    f"uses most of it, {used['dense, 64, tied']:.0%}, where $W_2 = "
    "W_1^\\top$: there, what the first matrix "
    "amplifies is not lost in the second. A random gradient feels "
    f"{felt['dense, 16']:.0%} of the bound at 16 dimensions and "
    f"{felt['dense, 256']:.0%} at 256. "
    "A shortcut that is often taken for convolutions, the norm of the "
    "kernel reshaped to a matrix, would be no bound: it is below what "
    f"was measured in {(convs.reshaped < convs.measured).sum()} of "
    f"{len(convs)} cases."
)

# %% [markdown]
# ### Where the corollary breaks
#
# **Training may leave the neighbourhood.** The paper says that norm preservation "is enforced throughout the training process, as long as the norm of the weights are small", and goes on: "This is the case in practice, since the weights of the network are regularized either explicitly", by weight decay, "or implicitly by the optimization algorithm". That is a statement about trainings.
#
# It can be tried. Eight blocks $x + W_2\,\mathrm{ReLU}(W_1 x + b)$ learn a twist in 16 dimensions: without weight decay, with the paper's, and with a hundred times the paper's. {numref}`fig-training` shows that only the strongest weight decay keeps the bound near its start.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The corollary's bound and the measured δ of eight blocks, before and after training, for three weight decays. From 1 on (dashed) the bound allows the gradient to vanish.", "name": "fig-training"}, "image": {"alt": "Three panels. Without weight decay and with the paper's, the bounds rise well above their first values during training. With the largest weight decay they stay low."}}
ends = training[training.step.isin([start, late])]
draw.bounds_in_training(ends, paper=studies.PAPER_DECAY)

# %% tags=["remove-input"] mystnb={"markdown_format": "myst"}
exponent = state.exponent
setting = RunConfig(preset="paper").resolve_on("cpu")
per_epoch = math.ceil(setting.train_images / setting.batch_size)
steps_of_the_paper = [
    setting.lr_at(epoch)
    for epoch in range(1, setting.epochs + 1)
    for _ in range(per_epoch)
]
adds_up = studies.accumulated_decay(
    setting.weight_decay, steps_of_the_paper, setting.momentum
)
Markdown(
    f"The mean bound of the blocks begins at {bound[none, start]:.2f}. "
    f"After {late:,} steps it is {bound[none, late]:.2f} without "
    f"weight decay, {bound[paper, late]:.2f} with the paper's "
    f"{paper:g}, and {bound[strong, late]:.2f} with {strong:g}, "
    "where the fit is worse (a mean squared error of "
    f"{state.risk[strong, late]:.4f} instead of "
    f"{state.risk[none, late]:.4f}). The measured $\\delta$ "
    f"goes from {state.delta[none, start]:.2f} to "
    f"{state.delta[none, late]:.2f}, {state.delta[paper, late]:.2f} "
    f"and {state.delta[strong, late]:.2f}. "
    "So the optimiser alone did not keep the weights small here, and "
    "nor did the paper's weight decay in so short a training.\n\n"
    "This does not tell what happened in the authors' networks, since "
    "weight decay takes time. By itself it shrinks a weight by a "
    "factor of $e^{-z}$, where $z$ is the weight decay times the sum "
    "of all learning rates, divided by one minus the momentum. "
    f"With the paper's {paper:g}, $z$ is {exponent[paper, late]:.2f} "
    "at the end here, and would be "
    f"{adds_up:.1f} after the paper's {setting.epochs} epochs. With "
    f"{strong:g} it is {exponent[strong, late]:.1f} here. That the weights stay small "
    "is a condition, and whether it is met has to be measured in each "
    "training."
)

# %% [markdown]
# **Not every critical point is good.** The paper adds that "under certain conditions, any critical point achieved during optimization of ResNets is a global minimizer". This is known for linear blocks near the identity {cite}`hardt2017` and for arbitrary functions as blocks {cite}`bartlett2018`. It is not so for the corollary's blocks: if $W_1 x < 0$ on all data, ReLU switches the block off, its gradient is zero, and other weights of the same size could fit the data exactly.

# %% tags=["remove-input"]
dead = studies.dead_block()
within = "below $10^{-12}$" if dead["reachable"] < 1e-12 else "above it"
Markdown(
    "In an example of that kind the gradient is "
    f"{dead['gradient']:.0f} at a mean squared error of "
    f"{dead['risk']:.2f}, while the least error that such weights can "
    f"reach is {within}."
)

# %% [markdown]
# ## Linear blocks need one more condition
#
# For linear maps the paper proves more, and leaves out a condition. (That it does is *inferred*: the theorem's formulas are lost in our copy, and its words name no sign of the determinant.) Data $y = Rx + \xi$ with independent noise $\xi$ are fitted by $L$ linear blocks, $\hat y = (I + A_L) \cdots (I + A_1)\, x$. Their mean squared error, the *risk*, is least where the product is $R$, so the question is how near to the identity the factors of a matrix can be.
#
# :::{prf:theorem} Linear residual networks; the paper's Theorem 2, after {cite}`hardt2017`
# :label: thm-linear
# Let $\det R > 0$, $\gamma = \max |\log \sigma(R)|$ and $L \ge 3\gamma$. The mean squared error has a global minimum at which every block keeps the gradient's norm within $1 \pm \delta$, with
# $\delta = C/L$ and $C = 2\big(\sqrt\pi + \sqrt{3\gamma}\big)^2$.
# :::
#
# *A shorter proof, with a sharper constant.* Split $R = QP$ into a rotation and a stretch, and give each block an $L$-th of both:
#
# $$
# I + A_l = Q^{l/L} \, P^{1/L} \, Q^{-(l-1)/L} .
# $$ (eq-factors)
#
# In the product the rotations between two stretches cancel, and $QP$ is left. Each factor is a rotation by an $L$-th of $Q$'s angles times a stretch, $P^{1/L}$ in a turned basis. If $\theta \le \pi$ is the largest angle of $Q$, the rotation is at most $\theta/L$ from the identity, since a chord is no longer than its arc, and the stretch at most $e^{\gamma/L} - 1$. So $\lVert A_l \rVert \le \theta/L + e^{\gamma/L} - 1$, for every $L$. With $L \ge 3\gamma$ this is at most $(\theta + 1.2\,\gamma)/L$, since $3(e^{1/3} - 1) < 1.2$, and so below the theorem's $C/L$ with $C = 2\pi + 4\sqrt{3\pi\gamma} + 6\gamma$. The singular values of $I + A_l$ are $\sigma(R)^{1/L}$: the gradient's norm changes by exactly what {eq}`eq-lower` says that it must, and rotation costs nothing.

# %%
R = studies.gaussian_matrix()
factors = linear_factors(R, L=1024)
delta = gradient_delta(torch.eye(16) + factors).max().item()
print("product is R:", torch.allclose(compose(factors), R))
print(f"δ = {delta:.6f}, least possible: {theorem2_delta(R, 1024):.6f}")

# %% tags=["remove-input"]
linear = studies.theorem2_rates(R)
end = linear.iloc[-1]
steep = studies.slopes(linear, "distance", [], start=128)["in L"]
descent = studies.descent_rates(linear_map(8, 0.5, seed=1))
far = (descent.descent / descent.explicit - 1).max()
worse = (descent.delta / descent["best delta"] - 1).max()
Markdown(
    "For this Gaussian matrix of 16 dimensions, the largest $\\lVert "
    f"A_l \\rVert$ falls with a slope of −{-steep.item():.2f} in $L$ "
    "(from 128 blocks), and the published bound is "
    f"{end.published / end.distance:.1f} times it, and "
    f"{end.published / end.delta:.0f} times the least possible "
    "$\\delta$. "
    "\n\n"
    "**Does training find these factors?** Nearly. Gradient descent "
    "from zero on 4,000 noisy points of a map in eight dimensions, "
    f"for {descent.L.min()} to {descent.L.max()} blocks, ends with "
    f"blocks that are at most {far:.1%} larger than the explicit ones "
    "in this run (on average over five seeds they are larger still, "
    "{numref}`tab-theory`), "
    f"and with a $\\delta$ at most {worse:.1%} "
    "above the best, without being told to. The reason is that descent "
    "keeps neighbouring blocks *balanced* {cite}`du2018`, $(I + "
    "A_{l+1})^\\top (I + A_{l+1}) = (I + A_l) (I + A_l)^\\top$. So all "
    "blocks have the same singular values, which then have to be near "
    "$\\sigma(R)^{1/L}$."
)

# %% [markdown]
# The paper concludes that linear blocks approach norm preservation "at a faster rate" than others. With equal arcs a non-linear map has the same rate $1/L$, so the difference lies in the paper's construction and not in the maps.
#
# ### Where Theorem 2 breaks
#
# **A negative determinant.** The condition $\det R > 0$ is not in the paper's statement, which is "for learning a linear map". As long as the blocks stay near the identity, their product has a positive determinant. If $\det R < 0$, the best that the product can do is to come close to a singular matrix, and the risk above the least possible one tends to $\sigma_{\min}(R)^2$ (for inputs with covariance $I$).
#
# **Symmetry.** $R = \mathrm{diag}(-1, -1, 1, \dots)$ has a positive determinant: it is half a turn in a plane. But without noise the gradient at zero is diagonal, so the blocks stay diagonal, and no path of diagonal matrices turns. A random start of size 0.001 leaves this saddle, late. {numref}`fig-descents` shows both.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Gradient descent with eight blocks reaches a matrix with a positive determinant. It does not reach one with a negative determinant, and stays at a saddle where symmetry holds it. Dotted: what theory gives for the negative one.", "name": "fig-descents"}, "image": {"alt": "Excess risk on a logarithmic scale. One curve falls at once, one late; two stay at constants."}}
draw.descents(studies.descents())

# %% tags=["remove-input"]
off = (negative.excess / negative.floor - 1).abs()
kinds = mirrored.target.str.rsplit(", ", n=1).str[0].nunique()
Markdown(
    "The sign of the determinant decided in every case that was "
    "tried. On record are "
    f"{kinds} spectra in several dimensions, with several draws of "
    "the singular vectors each, and each target beside its mirror "
    "image. Of "
    f"{len(positive)} targets with a positive determinant, descent "
    f"reached {(positive.excess <= limit).sum()}; of their "
    f"{len(negative)} mirror images it reached "
    f"{(negative.excess <= limit).sum()}, "
    f"and there the excess risk ended within {100 * off.max():.2g}% "
    f"of $\\sigma_{{\\min}}(R)^2$."
)

# %% [markdown]
# **Blocks that are not small.** Near the identity there is no critical point to get stuck at {cite}`hardt2017`. With the risk $f$, its least value $f^*$ and the inputs' covariance $\Sigma$, if all $\lVert A_l \rVert \le \tau < 1$,
#
# $$
# \lVert \nabla f \rVert^2 \;\ge\; 4 L (1-\tau)^{2L-2} \, \sigma_{\min}(\Sigma) \, (f - f^*) .
# $$ (eq-landscape)

# %% tags=["remove-input"] mystnb={"markdown_format": "myst"}
points = studies.critical_points()
Markdown(
    f"For random blocks with $\\tau$ from {points.tau.min()} to "
    f"{points.tau.max()} the left side is at least "
    f"{points.smallest.min():.1f} times the right. With "
    "$\\Sigma = I$ and $A_l = -\\tau I$ the two sides are equal, so "
    "the inequality is sharp. "
    "At $\\tau = 1$ it is empty, and it has to be: there a block can "
    "be singular, and two singular blocks can hide the error from each "
    "other (exercise 5)."
)

# %% [markdown]
# ## What holds
#
# The theorems hold once Theorem 2 has its condition, and once the constant of Theorem 1 may depend on more than $\alpha$ and $\beta$. They say that norm-preserving blocks exist, so what the verdicts judge are the constructions, their constants and the code. Whether trained networks are like that is a question for runs, which [chapter 5](05_results.ipynb) asks. {numref}`tab-theory` has what was measured with more seeds; the rules behind the verdicts are on the [scorecard](00_scorecard.ipynb).

# %% tags=["hide-input", "hide-output"] mystnb={"figure": {"caption": "What was measured for the three claims, over five seeds each.", "name": "tab-theory"}}
table = claims.overview(found.values())
table.set_index(["claim", "measured"])[["mean ± sd"]]

# %% tags=["remove-input"] mystnb={"markdown_format": "myst"}
Markdown(
    "What is imprecise in the paper's theory, in short:\n\n"
    "1. The logarithm in {prf:ref}`thm-nonlinear` comes from where the "
    "path is cut, and can be removed.\n"
    "2. The theorem's constant cannot depend on $\\alpha$ and $\\beta$ "
    "alone if it is to hold for every $L$. Its blocks are arbitrary "
    "functions; two layers of ReLU can be close to them if they are "
    "wide and have biases.\n"
    f"3. {{prf:ref}}`thm-linear` needs $\\det R > 0$, and its constant "
    f"is {end.published / end.delta:.0f} times what $\\delta$ needs "
    "for the Gaussian matrix above.\n"
    "4. {prf:ref}`lemma-identity` needs no invertibility.\n"
    f"5. {{prf:ref}}`cor-weights` describes a neighbourhood of the "
    "identity. Training may leave it: here the bound went to "
    f"{bound[none, late]:.2f}.\n"
    "6. That “any critical point” is “a global minimizer” holds for "
    "linear blocks near the identity and for arbitrary functions as "
    "blocks, but not for blocks of a fixed size."
)

# %% [markdown]
# ## Exercises
#
# The code of the solutions goes on from the cells above.
#
# **1. A block by hand.** In two dimensions let $W_1 = \mathrm{diag}(0.5, 0.25)$, and let $W_2$ be a quarter turn times 0.4, $W_2 = \begin{pmatrix} 0 & -0.4 \\ 0.4 & 0 \end{pmatrix}$. What does {prf:ref}`cor-weights` say about the block $x + W_2\,\mathrm{ReLU}(W_1 x)$? What is $\delta$ in each quadrant, and how much of the bound does the worst one use?
#
# :::{admonition} Solution
# :class: dropdown
# The norms are 0.5 and 0.4, so the bound is 0.2. The derivative is $I + W_2 D W_1$, where the diagonal matrix $D$ has a 1 for each positive coordinate and a 0 for each other one. If both coordinates are negative, $\delta = 0$. The worst case is the first coordinate alone: $J = \begin{pmatrix} 1 & 0 \\ 0.2 & 1 \end{pmatrix}$, with singular values $\sqrt{1.01} \pm 0.1$, so that $\delta = 0.105$, about half of the bound.
#
# ```python
# W1 = torch.diag(torch.tensor([0.5, 0.25], dtype=torch.float64))
# W2 = torch.tensor([[0.0, -0.4], [0.4, 0.0]], dtype=torch.float64)
# quadrants = torch.tensor([[1, 1], [1, 0], [0, 1], [0, 0]]).double()
# delta = gradient_delta(torch.eye(2) + W2 @ torch.diag_embed(quadrants) @ W1)
# assert [round(d, 3) for d in delta.tolist()] == [0.061, 0.105, 0.051, 0.0]
# ```
# :::
#
# **2. Many factors near 1.** Each of $L$ blocks changes the gradient's norm by a factor between $1 - C/L$ and $1 + C/L$. Show that the whole chain changes it by a factor between $e^{-2C}$ and $e^C$, for every $L \ge 2C$: a bound that does not depend on the depth.
#
# :::{admonition} Solution
# :class: dropdown
# $(1 + C/L)^L \le e^C$, since $1 + z \le e^z$. For the other side, $\log(1-z) \ge -2z$ for $0 \le z \le 1/2$: both sides are 0 at 0, the left is concave, the right is a line, and at $z = 1/2$ the left, $-\log 2$, is above $-1$. With $z = C/L \le 1/2$, $(1 - C/L)^L \ge e^{-2C}$.
#
# ```python
# C = 3.0
# for L in (6, 10, 100, 10_000):
#     assert math.exp(-2 * C) <= (1 - C / L) ** L
#     assert (1 + C / L) ** L <= math.exp(C)
# ```
# :::
#
# **3. The mirror.** Let $F(x_1, x_2) = (-x_1, x_2)$. (a) Show that no chain of blocks with $\lVert J - I \rVert < 1$ is $F$. (b) Is $F$ norm-preserving? What does this say about the theorem's assumption $\det F' > 0$?
#
# :::{admonition} Solution
# :class: dropdown
# (a) If $\lVert M \rVert < 1$, then $I + tM$ is invertible for $0 \le t \le 1$. Its determinant does not vanish on the way from $\det I = 1$, so $\det(I + M) > 0$. Determinants multiply, and the chain's is positive, but $\det F' = -1$. (b) It is, perfectly: $F$ keeps every norm, so $\delta = 0$. The assumption is needed for blocks near the identity, and not for norm preservation itself.
#
# ```python
# mirror = torch.diag(torch.tensor([-1.0, 1.0], dtype=torch.float64))
# assert gradient_delta(mirror) == 0
# try:
#     linear_factors(mirror, L=100)
# except ValueError as error:
#     assert "negative determinant" in str(error)
# else:
#     raise AssertionError("a mirror image was factored")
# ```
# :::
#
# **4. What the logarithm costs.** Suppose that all one knows about $L$ blocks is $\delta = C \log(2L)/L$, the paper's rate. What bound on the whole chain follows, as in exercise 2? Is it independent of the depth?
#
# :::{admonition} Solution
# :class: dropdown
# $(1 + \delta)^L \le e^{C \log 2L} = (2L)^C$, and this is nearly attained for large $L$. So the paper's rate alone lets the gradient grow like a power of the depth. The rate $1/L$ bounds it for every depth. (The blocks of {prf:ref}`thm-nonlinear` do better than their bounds say: their product is the derivative of $F$, whatever $L$ is.)
#
# ```python
# def chain(L, C=1.0):
#     return (1 + C * math.log(2 * L) / L) ** L
#
#
# assert all(chain(L) <= 2 * L for L in (10, 1000, 10**6))
# assert chain(10**6) > 0.99 * 2 * 10**6
# ```
# :::
#
# **5. Two blocks that hide the error.** Let $A_1 = A_2 = -e_1 e_1^\top$, $R = \mathrm{diag}(2, 1, 1, 1)$ and $\Sigma = I$. Show that the gradient of the risk is zero, although the risk is 4 above the least.
#
# :::{admonition} Solution
# :class: dropdown
# Both blocks are $I + A = \mathrm{diag}(0, 1, 1, 1)$, and so is their product. The error $N = (I + A_2)(I + A_1) - R$ is $\mathrm{diag}(-2, 0, 0, 0)$, and the risk above the least is $\lVert N \rVert_F^2 = 4$. The gradient with respect to $A_1$ is $2 (I + A_2)^\top N$, which is zero, since the other block is zero exactly where the error is. The one with respect to $A_2$ is $2 N (I + A_1)^\top = 0$.
#
# ```python
# A = torch.zeros(2, 4, 4, dtype=torch.float64)
# A[:, 0, 0] = -1
# A.requires_grad_()
# R = torch.diag(torch.tensor([2.0, 1, 1, 1], dtype=torch.float64))
# risk = (compose(A) - R).square().sum()
# (gradient,) = torch.autograd.grad(risk, A)
# assert risk == 4 and gradient.abs().max() == 0
# ```
# :::
#
# ## What follows
#
# So a skip alone does not make a block norm-preserving: its branch must be small, too. [Chapter 5](05_results.ipynb) derives how small the branches of a ResNet are before training, although its weights are not small. And where the number of channels changes there is no identity to add. [Chapter 2](02_projection.ipynb) builds what the paper puts there: a convolution whose singular values are held at the one value that keeps the gradient's norm.

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
# # Why depth keeps the gradient's norm
#
# In the paper's experiments a plain chain of 164 layers becomes unstable after a few epochs. The same layers with a skip around every few of them train. (This chain, so initialised:
# with kernels that begin as isometries, plain networks of ten thousand layers have been trained {cite}`xiao2018`.) The paper {cite}`zaeemzadeh2020` explains what skips do by two theorems and a
# corollary about residual blocks $x_{l+1} = x_l + F_l(x_l)$: whatever the network is to represent, it can do so in small steps, the more blocks the smaller, and a
# block that takes a small step hardly changes the gradient's norm. The theorems say that such blocks *exist*, so here they are built. Each statement is followed by
# the idea of its proof, a check by numbers, and the place where it breaks.
#
# | | |
# |---|---|
# | **needs** | two CPU cores |
# | **fetches** | nothing |
# | **takes** | about a minute |
#
# Everything that is computed here is in float64 and seeded. The training runs of the first figure, the small trainings of the corollary, the table of targets and the table at the end are read from records.

# %%
# %matplotlib inline
import math

import numpy as np
import pandas as pd
import torch
from IPython.display import Markdown

from paperlib import claims, records
from paperlib.config import RunConfig
from paperlib.figures import norm_preservation as draw
from paperlib.store import results_root
from paperlib.studies import norm_preservation as studies
from paperlib.theorems import RotationStretch, linear_factors, linear_map

# %% [markdown]
# ## The question
#
# Three networks of 164 layers (166 with the transitions of the third) were trained on part of CIFAR-10 ([chapter 4](04_cifar.ipynb)): one without skips, one with, and one whose remaining transitions were held
# norm-preserving as well. The first was trained in float32, since in bfloat16 it diverged. In the last epoch the gradient of the loss was measured at the input of every block.

# %% mystnb={"figure": {"caption": "The gradient's norm on its way back through three trained networks of 164 layers, from the loss on the right to the input on the left. Runs on a small part of CIFAR-10, one seed each.", "name": "fig-question"}, "image": {"alt": "On a logarithmic scale the two residual networks stay near 1. Without skips the norm falls steeply and steadily on its way to the input, and rises again in the first two blocks."}}
runs = [
    r
    for r in records.read_all(results_root())
    if r.network in ("plain-164", "resnet-164", "procresnet-166")
    and r.status == "finished"
    and (r.config.preset, r.config.schedule, r.config.seed) == ("desk", "steps", 0)
]
last = pd.concat(
    [r.blocks[r.blocks.epoch == r.blocks.epoch.max()].assign(run=r.label) for r in runs]
)
draw.real_gradients(last, "In this chain without skips, the gradient is gone half way")

# %%
for r in runs:
    ratios = last[last.run == r.label].log_ratio
    print(
        f"{r.label}: a block changes the norm by a factor of {math.exp(ratios.abs().median()):.2f} (median), "
        f"all of them by 10^{-ratios.sum() / math.log(10):+.1f}; preset {r.config.preset}, {r.provenance.device.name}, commit {r.provenance.last.commit[:7]}"
    )
    print("   ", r.provenance.command)

# %% [markdown]
# The two residual networks are not told apart by this picture, after so few steps and from one seed each; [chapter 4](04_cifar.ipynb) looks at them. The one without skips is another matter.
#
# A factor that is harmless in one block is not in fifty: the factors multiply. To train deep networks, each block's factor has to be close to 1, and the closer the more
# blocks there are. Why should blocks with a skip behave like that?
#
# ## One block
#
# Let $J$ be the derivative of a block's output with respect to its input. The gradient passes it as $J^\top$, and changes its norm by a factor between the smallest
# and the largest singular value of $J$. With an identity skip $J = I + M$.
#
# :::{prf:lemma} Near the identity, norms are kept
# :label: lemma-identity
# For every square $M$: $\;1 - \sigma_{\max}(M) \le \sigma_{\min}(I+M) \le \sigma_{\max}(I+M) \le 1 + \sigma_{\max}(M)$.
# :::
#
# *Why.* $\lVert v + Mv \rVert$ differs from $\lVert v \rVert$ by at most $\lVert Mv \rVert$. (The paper states it "for any non-singular matrix", and its proof uses the Neumann series. Neither is needed: the lemma is true for more matrices than the paper claims.)
#
# *Check.* Six kinds of $M$, all of norm 0.6:

# %%
studies.lemma1().set_index("M").round(3)

# %% [markdown]
# So a residual branch whose derivative has norm at most $\delta$ keeps the gradient's norm within a factor $1 \pm \delta$. Multiples of $I$ attain the two ends. *Where it is loose:* a skew-symmetric $M$ only stretches, by $\sqrt{1 + 0.6^2}$, and a rotation keeps all
# norms and may be as far as 2 from the identity. Being near the identity is sufficient, not necessary. In the following, $\delta = \max |\sigma(J) - 1|$ is what the
# gradient feels, and $\lVert J - I \rVert$ what the theorems bound.
#
# ## Any smooth map, in small steps
#
# :::{prf:theorem} Norm-preserving blocks exist, after {cite}`zaeemzadeh2020,bartlett2018`
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
# *Idea of the proof.* Find a path of maps $G_t$ from the identity, $G_0$, to $F = G_1$, cut it at $0 = t_0 < t_1 < \dots < t_L = 1$, and let block $l$ lead from one cut to the
# next: $G_{t_l} \circ G_{t_{l-1}}^{-1}$. Chained, all inner maps cancel. If the path is smooth, a short piece of it is near the identity. The path comes from zooming into
# the map. Take $F(0) = 0$ and split its derivative there into a rotation and a stretch, $F'(0) = QP$. What remains, $\kappa = F'(0)^{-1} F$, looks like the identity close to 0. So $\kappa(tx)/t$, which is
# $\kappa$ seen in a ball of radius $t$, leads from the identity to $\kappa$, and with the linear part
#
# $$
# G_t(x) = Q^t P^t \, \frac{\kappa(tx)}{t} .
# $$ (eq-path)
#
# Two maps serve as examples. The *twist* $A e^{\omega \lVert x \rVert^2 J} x$ turns spheres, larger ones by more; the other, $A(x + \varepsilon B^\top \tanh Bx)$, is itself a residual
# block with tied weights, behind a matrix. Here is the path in two dimensions.

# %% mystnb={"figure": {"caption": "A grid on the unit disk carried along the path from the identity to F, for two maps of the plane. Each block of the network takes one step along it.", "name": "fig-path"}, "image": {"alt": "Two rows of six small pictures: a square grid on a disk is gradually turned, sheared and bent."}}
draw.carried_grid(
    studies.carried_grid(studies.plane_maps(), [0, 0.2, 0.4, 0.6, 0.8, 1]),
    "A grid on its way from the identity to F",
)

# %% [markdown]
# *Check.* In eight dimensions: `near_identity_path(f, L)` returns the blocks, and each one is called on what the one before returned.

# %%
maps = studies.example_maps()
errors = studies.theorem1_errors(maps, [16, 64])
worst = errors.groupby(["map", "schedule"], sort=False)[
    ["forward", "backward", "jacobian"]
].max()
worst.map(lambda x: "below 1e-12" if x < 1e-12 else f"{x:.0e}")

# %% [markdown]
# Chains of 16 and 64 blocks compose to $F$, their inverses lead back, and the product of their derivatives is that of $F$. The three *schedules* differ in where the path is cut:
#
# * **geometric** is the decomposition that the paper refers to {cite}`bartlett2018`. Half of the blocks make $\kappa$, with radii $a_i = (1-\rho)^{m-i}$, $\rho = \log(2m)/m$, in geometric progression; the other half make the linear part.
# * **uniform** takes $a_i = i/m$ instead.
# * **equal arcs** follows {eq}`eq-path`, where bending, turning and stretching go together, in steps of equal length.
#
# What bounds a step is the following. Let $\tilde\alpha, \tilde\beta$ be the constants of $\kappa$.
#
# :::{prf:lemma} The length of a step
# :label: lemma-step
# For $0 < a_1 < \dots < a_m = 1$ and $g_i(x) = \kappa(a_i x)/a_i$, the blocks $h_i = g_i \circ g_{i-1}^{-1}$ satisfy
# $\lVert h_1 - \mathrm{Id} \rVert_{\mathrm{Lip}} \le \tilde\alpha a_1$ and $\lVert h_i - \mathrm{Id} \rVert_{\mathrm{Lip}} \le \tilde\alpha \tilde\beta\, (a_i - a_{i-1})$.
# :::
#
# *Why.* $h_i - \mathrm{Id} = (g_i - g_{i-1}) \circ g_{i-1}^{-1}$. The derivative of the bracket is $\kappa'(a_i x) - \kappa'(a_{i-1} x)$, at most $\tilde\alpha (a_i - a_{i-1})$ in the ball, and $g_{i-1}^{-1}$
# has Lipschitz constant $\tilde\beta$.

# %%
pd.concat(
    [
        studies.lemma_lipschitz(f, [0.1, 0.3, 0.6, 1.0]).assign(map=name)
        for name, f in maps.items()
    ]
).set_index(["map", "block"]).round(3)

# %% [markdown]
# With the geometric radii the largest step is $\tilde\alpha\tilde\beta \log(2m)/m$: the rate of the theorem. How do the blocks behave?

# %% mystnb={"figure": {"caption": "The largest change of a gradient's norm by a block, against the number of blocks. Dashed: log(2L)/L. In the grey region no decomposition can be.", "name": "fig-rates"}, "image": {"alt": "Two panels on logarithmic scales. The geometric schedule follows the dashed curve; uniform and equal arcs fall in parallel to the edge of the grey region."}}
rates = studies.theorem1_rates(maps, points=32)
draw.rates(rates, "Norm preservation improves with depth")

# %%
fits = {
    symbol: studies.slopes(rates, column, ["map", "schedule"])
    for symbol, column in (("‖J − I‖", "distance"), ("δ", "delta"))
}
pd.concat(
    {symbol: fit.set_index(["map", "schedule"]) for symbol, fit in fits.items()}, axis=1
).round(2)

# %% tags=["hide-input"] mystnb={"markdown_format": "myst"}
paper_s = (
    fits["δ"]
    .set_index(["map", "schedule"])["in log(2L)/L"]
    .xs("geometric", level="schedule")
)
others = fits["δ"][fits["δ"].schedule != "geometric"]["in L"]
Markdown(
    f"The table has the slopes of straight lines through the logarithms, for {rates.L[rates.L >= 16].min()} to {rates.L.max():,} blocks. With the paper's schedule the slope of δ against "
    f"$\\log(2L)/L$ is {' and '.join(f'{x:.2f}' for x in paper_s)} for the two maps, where 1 is the theorem's rate: the rate of the theorem is the rate of its construction. With the other two "
    f"schedules the slope in $L$ itself is between −{-others.min():.2f} and −{-others.max():.2f}, where −1 is the rate $1/L$."
)

# %% [markdown]
# **The logarithm can be removed.** {prf:ref}`lemma-step` allows equal radii, and then every step is at most $\tilde\alpha\tilde\beta/m$. The geometric progression spends most of its
# blocks near radius 0, where $\kappa$ is nearly linear and there is nothing to do, and takes its largest step at the end.

# %% mystnb={"figure": {"caption": "The singular values of the derivative of each of 32 blocks, over the unit ball. Equal arcs share the work equally.", "name": "fig-spectra-blocks"}, "image": {"alt": "Three panels of bars around 1. Geometric: hardly visible at first, then growing up to the middle of the chain; uniform: growing less; equal arcs: all alike."}}
draw.block_spectra(studies.block_spectra(maps["twist"], 32))

# %% [markdown]
# **And no better rate is possible.** However $F$ is cut, the derivatives of the $L$ blocks multiply to that of $F$. If $F$ stretches some direction by $k$, one of them stretches by $k^{1/L}$, so
#
# $$
# \delta \;\ge\; \max\big( \lVert F' \rVert^{1/L} - 1,\; 1 - \lVert F'^{-1} \rVert^{-1/L} \big) \;\approx\; \frac{\log k}{L} .
# $$ (eq-lower)
#
# This is the edge of the grey region. How close do the schedules come to it?

# %%
deepest = rates[rates.L == rates.L.max()]
over = deepest.assign(
    **{
        "δ / lower bound": deepest.delta / deepest.lower,
        "proven bound / ‖J − I‖": deepest.bound / deepest.distance,
    }
).set_index(["map", "schedule"])[["δ / lower bound", "proven bound / ‖J − I‖"]]
over.round(2)

# %% tags=["hide-input"]
arc = over["δ / lower bound"].xs("arc", level="schedule")
Markdown(
    f"At {rates.L.max():,} blocks, equal arcs are a factor of {arc['twist']:.2f} above it for the twist, and of {arc['tanh']:.2f} for the other map."
)

# %% [markdown]
# The last column compares with the proven bounds, all constants explicit (`theorem1_bound`). They hold for every block, and are tight up to a small factor where $\tilde\alpha$ and $\tilde\beta$ are, as for the twist.
#
# What the gradient sees of all this: its norm on the way back through 128 blocks, and through 128 layers $x \mapsto W \tanh x$ of the same width at a usual initialisation.

# %% mystnb={"figure": {"caption": "Random gradients on their way back: median and range over 64 of them. The plain layers have Gaussian weights that keep a gradient's squared norm on average where tanh is nearly linear.", "name": "fig-back"}, "image": {"alt": "The band of the residual blocks stays around 1. That of the plain layers falls, and widens more and more."}}
draw.backward_norms(studies.backward_norms(maps["twist"], 128))

# %% [markdown]
# The residual blocks arrive where they must: at the ratios that $F$ itself has. They spread this change evenly over all blocks.
#
# ### Where it breaks
#
# **The constant.** The paper's two constants are "independent of network size and architecture". Can $\delta \le c \log(2L)/L$ hold for every $L$ with a $c$ that depends on these two alone? $F(x) = Kx$ has $\alpha = 0$ and $\beta = 1/K$, both small for a large $K$,
# and still each of $L$ blocks has to stretch by $K^{1/L}$, by {eq}`eq-lower`. Either the constant depends on $\lVert F'(0) \rVert$, too, or the statement is for $L$ above a bound that does, large against $\log K$. (A common factor $K$ can also be left to the last layer.)

# %%
studies.pure_scaling().set_index("K").round(3)

# %% [markdown]
# **Orientation.** A mirror image is not reached by small steps: a composition of blocks nearer than 1 to the identity has a positive determinant. The paper's third assumption excludes it, "without loss of generality", as it says: the sign can be left to one more layer. The library excludes it, too.

# %%
try:
    linear_factors(torch.diag(torch.tensor([-1.0, 1.0, 1.0])), L=100)
except ValueError as error:
    print(f"ValueError: {error}")

# %% [markdown]
# **Which blocks.** The theorem's blocks are arbitrary functions; a network's are two or three layers. How well can $W_2\,\mathrm{ReLU}(W_1 x + b)$ be one of them? Random $W_1$ and the best $W_2$, for the last of
# 16 blocks of a twist in four dimensions; the error is relative to the residual's own size.

# %%
studies.two_layer_fit().set_index("width").round(2)

# %% [markdown]
# Well, if it is wide enough and has biases. Without them such a block is homogeneous, $f(\lambda x) = \lambda f(x)$ for $\lambda > 0$, and so is any chain of them: no width makes a twist of it. The form
# $x + W_2\,\rho(W_1 x)$ of the next statement has no biases; batch norm brings them back in a real network.
#
# ## One block with weights
#
# :::{prf:corollary} A bound from the weights
# :label: cor-weights
# For a block $x + W_2\,\rho(W_1 x)$ with $|\rho'| \le c_\rho$, the gradient's norm is kept within $1 \pm \delta$ with $\delta = c_\rho \lVert W_1 \rVert_2 \lVert W_2 \rVert_2$.
# :::
#
# *Why.* The branch's derivative is $W_2\, \mathrm{diag}(\rho')\, W_1$; apply {prf:ref}`lemma-identity`. Every further activation brings its own $c_\rho$, every further layer its norm.
#
# *Check.* `corollary_bound(block)` multiplies the norms; for convolutions these are the norms of the operators on the feature map ([chapter 2](02_projection.ipynb)). Random weights, five seeds, scaled to a bound of 1/4:

# %% mystnb={"figure": {"caption": "How much of the corollary's bound random two-layer ReLU blocks use, one dot per seed.", "name": "fig-corollary"}, "image": {"alt": "One row per kind of block. The worst direction uses a large part of the bound, most of it where the two matrices are tied; a random gradient uses little."}}
tight = studies.corollary_tightness()
draw.tightness(tight, "How tight the corollary is")

# %%
tight.groupby("block", sort=False)[["bound", "ratio", "random", "reshaped"]].agg(
    {
        "bound": "mean",
        "ratio": ["min", "max"],
        "random": "mean",
        "reshaped": "mean",
    }
).round(3)

# %% tags=["hide-input"] mystnb={"markdown_format": "myst"}
used = tight.groupby("block", sort=False).ratio.mean()
felt = (tight.random / tight.bound).groupby(tight.block, sort=False).mean()
free = used.drop("dense, 64, tied")
conv = tight[tight.block.str.startswith("conv")]
Markdown(
    f"The bound {'holds in every case' if (tight.measured <= tight.bound).all() else 'fails'}. In the worst direction {free.min():.0%} to {free.max():.0%} of it is used on average, and "
    f"{used['dense, 64, tied']:.0%} where $W_2 = W_1^\\top$: there, what $W_1$ amplifies is not lost behind it. A random gradient feels much less: {felt['dense, 16']:.0%} of the bound at the smallest width, "
    f"{felt['dense, 64']:.0%} at the next and {felt['dense, 256']:.1%} at the largest. The last column shows what the norm of the reshaped $d \\times ck^2$ kernel would have given for convolutions: in "
    f"{(conv.reshaped < conv.measured).sum()} of {len(conv)} cases less than what was measured, so it is no bound."
)

# %% [markdown]
# ### Where it breaks
#
# **It describes a neighbourhood, and training may leave it.** The paper says so with an "if" and an "as long as": "if we bound the optimizer to search only in the space of functions with small norms, we can ensure that the
# network will remain norm preserving throughout the training", and "norm-preservation is enforced throughout the training process, as long as the norm of the weights are small". It goes on: "This is the case in
# practice, since the weights of the network are regularized either explicitly", by weight decay, "or implicitly by the optimization algorithm". That is a statement about trainings, and can be tried. Eight blocks
# $x + W_2\,\mathrm{ReLU}(W_1 x + b)$ learn a twist in 16 dimensions: without weight decay, with the paper's, and with a hundred times the paper's.

# %% mystnb={"figure": {"caption": "The corollary's bound and the measured δ of eight blocks at the start and after two durations of training, for three weight decays. The one in the middle is the paper's. At 1 (dashed) the bound says nothing any more.", "name": "fig-training"}, "image": {"alt": "Without weight decay and with the paper's, the bounds rise well above their first values during training. With the largest weight decay they stay low."}}
trained = claims.read(claims.place(results_root(), "C1", "desk")).frames["training"]
draw.bounds_in_training(trained, paper=studies.PAPER_DECAY)

# %%
state = trained.groupby(["decay", "step"])[
    ["bound", "delta", "risk", "exponent"]
].mean()
state.round({"bound": 3, "delta": 3, "risk": 4, "exponent": 3})

# %% tags=["hide-input"] mystnb={"markdown_format": "myst"}
start, early, late = state.index.unique("step")
none, paper, strong = state.index.unique("decay")
bound, exponent = state.bound, state.exponent


def kept(step):
    """Which of the three kept the mean bound where it began, in words."""
    below = [
        f"{d:g}" for d in (none, paper, strong) if bound[d, step] <= bound[d, start]
    ]
    return (
        f"only {below[0]} has"
        if len(below) == 1
        else f"{' and '.join(below)} have"
        if below
        else "none of them has"
    )


setting = RunConfig(preset="paper").resolve_on("cpu")
per_epoch = math.ceil(setting.train_images / setting.batch_size)
rates_of_the_paper = [
    setting.lr_at(e) for e in range(1, setting.epochs + 1) for _ in range(per_epoch)
]
theirs = studies.accumulated_decay(
    setting.weight_decay, rates_of_the_paper, setting.momentum
)
Markdown(
    f"The bound, as a mean over the blocks, begins at {bound[none, start]:.3f}.\n\n"
    f"* Without weight decay it stands at {bound[none, early]:.3f} after {early} steps, and at {bound[none, late]:.3f} after {late:,}.\n"
    f"* With the paper's {paper:g} it stands at {bound[paper, early]:.3f} and {bound[paper, late]:.3f}.\n"
    f"* With {strong:g}, a hundred times the paper's, it stands at {bound[strong, early]:.3f} and {bound[strong, late]:.3f}; the fit is worse, at a risk of {state.risk[strong, late]:.4f} "
    f"instead of {state.risk[none, late]:.4f}.\n\n"
    f"After {early} steps {kept(early)} kept the bound where it began, and after {late:,} steps {kept(late)}. The optimizer alone did not keep the weights small here, and nor did the paper's "
    f"weight decay in so short a training. The measured δ, {state.delta[none, start]:.3f} at the start, ends at {state.delta[none, late]:.3f}, {state.delta[paper, late]:.3f} and {state.delta[strong, late]:.3f}.\n\n"
    f"This does not tell what the authors' networks did, since weight decay takes time. By itself it shrinks a weight by a factor of $e^{{-x}}$, where $x$ is the column `exponent`. With {paper:g} it "
    f"is {exponent[paper, late]:.2f} at the end here. Over the paper's {setting.epochs} epochs it adds up to {theirs:.1f} (rates {setting.lr:g}, {setting.lr / 10:g} and {setting.lr / 100:g}, batches of "
    f"{setting.batch_size}, momentum {setting.momentum:g}), between what {strong:g} gives here after {early} steps, {exponent[strong, early]:.1f}, and after {late:,}, {exponent[strong, late]:.1f}. That the "
    f"weights stay small is a condition, as the paper says; whether it is met has to be measured in each training."
)

# %% [markdown]
# **Not every critical point is good.** The paper adds: "It is also known that, under certain conditions, any critical point achieved during optimization of ResNets is a global minimizer". The conditions matter. It is known for linear blocks, of which more below, and for arbitrary functions as blocks {cite}`bartlett2018`; it is not so for
# two-layer blocks of a fixed size, which the corollary is about. If $W_1 x < 0$ on all data, ReLU switches the block off:

# %%
dead = studies.dead_block()
print(
    f"gradient {dead['gradient']:.0f}, risk {dead['risk']:.2f}; with other weights of the same size the risk could be below 1e-12: {dead['reachable'] < 1e-12}"
)

# %% [markdown]
# ## Linear blocks
#
# For linear maps more can be said. Data $y = Rx + \xi$ with independent noise are fitted by $L$ layers, $\hat y = (I + A_L) \cdots (I + A_1) x$.
#
# :::{prf:theorem} Linear residual networks, after {cite}`zaeemzadeh2020,hardt2017`
# :label: thm-linear
# Let $\det R > 0$, $\gamma = \max |\log \sigma(R)|$ and $L \ge 3\gamma$. The mean squared error has a global minimum at which every layer keeps the gradient's norm within $1 \pm \delta$,
# $\delta = c/L$, $c = 2\big(\sqrt\pi + \sqrt{3\gamma}\big)^2$.
# :::
#
# *A shorter proof, with a sharper constant.* Split $R = QP$ into a rotation and a stretch and give each layer an $L$-th of both:
#
# $$
# I + A_l = Q^{l/L} \, P^{1/L} \, Q^{-(l-1)/L} .
# $$ (eq-factors)
#
# In the product the rotations cancel, and $QP$ is left. If $\theta \le \pi$ is the largest angle by which $Q$ turns, then
# $\lVert A_l \rVert \le \theta/L + e^{\gamma/L} - 1$, for every $L$. And the singular values of $I + A_l$ are $\sigma(R)^{1/L}$: the gradient's norm changes by exactly what {eq}`eq-lower` says it must. Rotation costs nothing.
#
# *Check.* `linear_factors(R, L)` for a Gaussian $R$ of 16 dimensions:

# %% mystnb={"figure": {"caption": "The size of the factors of a Gaussian matrix against their number, with the paper's bound and the sharper one.", "name": "fig-linear"}, "image": {"alt": "Four nearly parallel falling lines on logarithmic scales; the published bound is far above the largest factor, the sharper one close to it."}}
R = studies.gaussian_matrix()
powers = RotationStretch(R)
linear = studies.theorem2_rates(R)
draw.linear_rates(linear, "A Gaussian matrix in small steps")

# %%
slope = studies.slopes(linear, "distance", [], start=128)["in L"].item()
end = linear.iloc[-1]
print(
    f"γ = {powers.gamma:.2f}, largest angle {powers.largest_angle:.2f}, published c = {end.published * end.L:.1f}"
)
print(
    f"L‖A‖ at L = {end.L:.0f}: {end.L * end.distance:.3f}; slope from 128: {slope:.3f}"
)
print(f"published bound over ‖A‖: {end.published / end.distance:.1f}")
print(f"δ over the smallest possible one: {(linear.delta / linear.lower).max():.6f}")
print("product exact to 1e-12 of the condition number:", linear.error.max() < 1e-12)

# %% [markdown]
# The slope is −1 only in the limit. Below $L = 3\gamma$ the published bound says nothing, and `theorem2_bound` refuses to give it; the sharper one holds from $L = 1$.
#
# **Does training find these?** Existence is one thing. Gradient descent from $A = 0$ on 4,000 noisy points of a map in eight dimensions, step size $0.15/L$ on half the squared error, and the explicit factors for the same data:

# %%
descent = studies.descent_rates(linear_map(8, 0.5, seed=1))
shown = descent.set_index("L")
shown["balance"] = shown["balance"].map("{:.0e}".format)
shown["excess"] = shown.excess.map(lambda x: "below 1e-18" if x < 1e-18 else f"{x:.0e}")
shown.drop(columns="steps").round(3)

# %% tags=["hide-input"] mystnb={"markdown_format": "myst"}
far = descent.descent / descent.explicit - 1
Markdown(
    f"The columns are $L$ times the largest $\\lVert A_l \\rVert$ and $L$ times $\\delta$, found and best. Descent from zero ends {far.min():.1%} to {far.max():.1%} above the explicit factors in the size of its "
    f"layers, and at most {(descent.delta / descent['best delta'] - 1).max():.2%} above the best in δ, without being told to."
)

# %% [markdown]
# The reason is that it keeps neighbouring layers *balanced*,
# $W_{l+1}^\top W_{l+1} = W_l W_l^\top$ for $W = I + A$ {cite}`du2018`: all layers have the same singular values, which then have to be near $\sigma(R)^{1/L}$. The column `balance` shows how far the
# finite steps let them drift from that.
#
# **The landscape.** Near the identity there is no other critical point to get stuck at {cite}`hardt2017`: if all $\lVert A_l \rVert \le \tau < 1$,
#
# $$
# \lVert \nabla f \rVert^2 \;\ge\; 4 L (1-\tau)^{2L-2} \, \sigma_{\min}(\Sigma) \, (f - f^*) ,
# $$ (eq-landscape)
#
# for $f = \mathbb{E} \lVert \hat y - y \rVert^2$ and $\Sigma = \mathbb{E}\, x x^\top$. Left over right-hand side, four layers, for random layers, and where the inequality is sharp, at $A_l = -\tau I$:

# %%
studies.critical_points().set_index("tau").map("{:.3g}".format)

# %% mystnb={"figure": {"caption": "The excess risk of two scalar layers that are to multiply by 2, as a function of their weights. Inside of the dashed square all critical points are minima. Its corner is a saddle.", "name": "fig-landscape"}, "image": {"alt": "Filled level lines. A curve of minima crosses the square |a| < 1; at its corner (−1, −1) two level lines cross."}}
draw.landscape(studies.scalar_landscape(), "Two layers that are to multiply by 2")

# %%
corner = studies.bad_critical_point()
print(
    f"two layers −e₁e₁ᵀ, R = diag(2, 1, 1, 1): gradient {corner['gradient']:.0f}, excess risk {corner['excess']:.0f}"
)

# %% [markdown]
# At $\tau = 1$ a layer may be singular, and two singular layers hide the error from each other: the condition $\lVert A_l \rVert < 1$ cannot be weakened.
#
# ### Where it breaks
#
# **A negative determinant.** The condition $\det R > 0$ is not in the paper's statement, which is "for learning a linear map" and gives a condition on $L$ only. (The third assumption of its first theorem is of this kind, and is called "without loss of
# generality" there, with reference to {cite}`hardt2017`.) Without it there is no solution with small blocks, hence none that descent from zero could find: as long as the layers stay near the identity, their product has a positive determinant, and the
# best it can do is to come close to a singular matrix. The excess risk tends to $\sigma_{\min}(R)^2$ (for $\Sigma = I$).
#
# **Symmetry.** $R = \mathrm{diag}(-1, -1, 1, \dots)$ has a positive determinant: it is half a turn in a plane. But the gradient at zero is diagonal, the layers stay diagonal, and no diagonal path turns. A random start
# of size 0.001 leaves the saddle, late.

# %% mystnb={"figure": {"caption": "Gradient descent for four targets, eight layers in eight dimensions. Dotted: σ_min(R)², where theory puts the second.", "name": "fig-descents"}, "image": {"alt": "Excess risk on a logarithmic scale. One curve falls at once, one late; two stay at constants."}}
targets = studies.descents()
draw.descents(targets, "Gradient descent on four targets")

# %%
ends = targets.groupby("target", sort=False).last()
ends.assign(
    excess=ends.excess.map(lambda x: "below 1e-18" if x < 1e-18 else f"{x:.4f}")
).drop(columns="step").round(4)

# %% [markdown]
# Is this so for one matrix, or for all? On record are seven spectra in several dimensions, with five random sets of singular vectors each, four layers, and each target beside its mirror image. The table has the worst of the five.

# %%
mirrored = claims.read(claims.place(results_root(), "T2", "desk")).frames["mirrored"]
positive, negative = (mirrored[sign * mirrored.determinant > 0] for sign in (1, -1))
spectrum = mirrored.target.str.rsplit(", ", n=1).str[0]
pd.DataFrame(
    {
        "σ_min²": negative.groupby(spectrum, sort=False).floor.first(),
        "excess over σ_min², det R < 0": (negative.excess / negative.floor)
        .groupby(spectrum)
        .max()
        .map("{:.5f}".format),
        "excess, det R > 0": positive.excess.groupby(spectrum)
        .max()
        .map(lambda x: "below 1e-18" if x < 1e-18 else f"{x:.0e}"),
    }
).loc[spectrum.unique()]

# %% tags=["hide-input"]
off = (negative.excess / negative.floor - 1).abs()
limit = claims.CLAIMS["T2"].REACHED
Markdown(
    f"Of {len(positive)} targets with a positive determinant, descent reached {(positive.excess <= limit).sum()}; of their {len(negative)} mirror images it reached {(negative.excess <= limit).sum()}. "
    f"There, the excess risk ended at σ_min(R)², but for {100 * off.max():.2g} % of it at most."
)

# %% [markdown]
# ## The two rates
#
# The paper concludes that linear blocks approach norm preservation "at a faster rate", like $1/L$, and others like $\log L / L$. The difference lies in the construction: with equal arcs the same non-linear map has the faster rate.

# %% mystnb={"figure": {"caption": "L times δ. A flat line is a rate of 1/L; a straight rise is a rate of log L / L.", "name": "fig-two-rates"}, "image": {"alt": "The geometric schedule rises steadily; equal arcs and the linear factors are flat."}}
twist = rates[rates["map"] == "twist"]
parts = {
    f"twist, {draw.SCHEDULES[s]}": twist[twist.schedule == s]
    for s in ("geometric", "arc")
}
parts["linear, 16 dimensions"] = linear
draw.both_rates(
    pd.concat([p.assign(what=name, scaled=p.L * p.delta) for name, p in parts.items()]),
    "The logarithm belongs to the schedule",
)

# %% [markdown]
# ## What holds
#
# The same measurements with more seeds and points are on record. The verdicts follow from these records by the rules below the table.

# %%
found = claims.read_all(results_root(), only=("T1", "C1", "T2"))
claims.overview(found).drop(columns=["device", "commit", "verdict"]).set_index(
    ["claim", "measured"]
)

# %%
print(claims.report(found))

# %% tags=["hide-input"]
Markdown(
    "\n\n".join(
        f"Until {former.until}, {name} had another rule: *{former.sentence}*. It said: {former.outcome}. It was replaced because {former.reason}."
        for name in ("T1", "C1", "T2")
        for former in claims.CLAIMS[name].former
    )
)

# %% [markdown]
# The theorems say that such blocks exist, so what these verdicts judge is the constructions, the constants and the code; whether trained networks are like that is a question for runs. What is imprecise in the paper's theory, in short:

# %% tags=["hide-input"] mystnb={"markdown_format": "myst"}
gamma = np.geomspace(1e-6, 1e6, 10001)
loose = 2 * (np.sqrt(np.pi) + np.sqrt(3 * gamma)) ** 2 / (np.pi + gamma)
Markdown(
    f"""
1. The $\\log 2L$ of {{prf:ref}}`thm-nonlinear` is an artefact of the schedule.
2. Its constant cannot depend on $\\alpha$ and $\\beta$ alone, if it is to hold for every $L$.
3. {{prf:ref}}`thm-linear` needs $\\det R > 0$, which its statement does not ask for. Its constant is between {loose.min():.1f} and {loose.max():.1f} times the $\\pi + \\gamma$ of the shorter proof in the limit; for the Gaussian matrix above it is {end.published / end.distance:.1f} times what is needed.
4. {{prf:ref}}`lemma-identity` needs no invertibility: here the paper asks for more than it has to.
5. {{prf:ref}}`cor-weights` bounds a neighbourhood, "as long as the norm of the weights are small". In the experiment above {late:,} steps of training took the mean bound from {bound[none, start]:.2f} to {bound[none, late]:.2f} without weight decay, to {bound[paper, late]:.2f} with the paper's {paper:g}, and to {bound[strong, late]:.2f} with {strong:g}.
6. "Any critical point … is a global minimizer" holds for linear blocks near the identity and for arbitrary functions as blocks, not for blocks of a fixed size.
7. {{prf:ref}}`thm-nonlinear` is about arbitrary functions as blocks. Two layers of ReLU can be close to them if they are wide and have biases.
"""
)

# %% [markdown]
# Three more concern the projection: the paper's (8) for wide matrices, cropping and zero padding are in [chapter 2](02_projection.ipynb), and so is the question of what happens where channels are few.

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
# # What the trained networks show
#
# The paper's Section 4 trains Plain networks, ResNets and ProcResNets {cite}`zaeemzadeh2020` and looks at each block's ratio of gradient norms, at
# losses and at errors. This page draws the same figures and tables from records of runs. It trains nothing. It then follows two questions
# further than the paper does: what a theory says of the ratios before training begins, and whether norm preservation explains the accuracy.
#
# | | |
# |---|---|
# | **needs** | nothing but the committed records |
# | **fetches** | nothing |
# | **takes** | seconds |
#
# The records are those of one preset. `desk`, the default, is a small part of the paper's protocol, and each figure says so. What there is of the paper's
# own scale stands [in a section of its own](paper-scale). `runs` names a folder with more records:
#
# ```bash
# papermill notebooks/05_results.ipynb out.ipynb -p preset paper -p runs runs
# ```

# %% tags=["parameters"]
preset = "desk"
runs = None

# %%
# %matplotlib inline
import pandas as pd
from IPython.display import HTML, Markdown

from paperlib import claims, paper
from paperlib.figures import section4 as draw
from paperlib.figures.interventions import paired_differences
from paperlib.scorecard import price
from paperlib.store import results_root
from paperlib.studies import beginning, explanation, interventions, sentences
from paperlib.studies import section4 as studies

roots = [results_root(), *([runs] if runs else [])]
records = studies.stored(preset, roots)
precision = studies.usual_precision(records)
usual = [r for r in records if r.config.precision == precision]
grid = studies.main_grid(usual)

# %% tags=["hide-input"]
ratios = studies.ratios(grid)
start = beginning.beginnings(grid)
curves = studies.curves(grid)
errors = studies.final_errors(grid)
one = studies.first_seeds(ratios)
label = (
    f"{preset}, {precision}, {sentences.seeds(grid)}"  # for figures, which need records
)
label_one = f"{preset}, {precision}, n = 1 (the first seed)"


def dashes(table):
    """The table with a dash where there is nothing."""
    return table.astype(object).where(table.notna() & (table != ""), "–")


def about(some, what, **parameters):
    """What these runs are, or the command that makes them."""
    if precision:  # of the records that are there, those in the usual precision count
        what += f" in {precision}"
    return Markdown(
        sentences.made(some) if some else sentences.missing(what, preset, **parameters)
    )


# %% [markdown]
# Three findings, each computed from the records of this preset as far as there are any:

# %% tags=["hide-input"]
compared = explanation.correlations(explanation.deviations(grid))
found = (
    sentences.norms(ratios),
    sentences.theory(beginning.accuracy(start)),
    sentences.errors(errors) + " " + sentences.association(compared),
)
Markdown("\n".join(f"1. {text}" for text in found))

# %% tags=["hide-input"]
about(grid, sentences.GRID, depth=20, schedule="constant")

# %% [markdown]
# (figure-three)=
# ## Figure 3: each block's ratio while the network trains
#
# A block takes $x_l$ to $x_{l+1}$. Its ratio is
#
# $$
# r_l = \frac{\lVert \partial E / \partial x_{l+1} \rVert}{\lVert \partial E / \partial x_l \rVert} ,
# $$
#
# output over input, as everywhere in this book. Above 1 the gradient shrinks on its way back, below 1 it grows. The paper says that identity skips keep
# the ratios near 1, the more so the deeper the network is; that Plain networks move away from 1; that a ResNet's transitions are off, and that a ProcResNet's are
# not, except for the first one. Epoch 0 is the state before the first update, measured on batches of training images.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The ratio of every block over the epochs, one run a network, all on one scale. Coloured lines are blocks of constant width, black ones the transitions. Triangles at the edge stand for ratios off the scale. Look at how narrow the bundle of coloured lines is, and at where the black ones go.", "name": "fig-ratio-grid"}, "image": {"alt": "Nine panels of lines over the epochs: three architectures by three depths."}}
first = studies.first_seeds(errors)
if len(one):
    display(draw.ratio_grid(one, studies.remarks(first), f"Ratios, {label_one}"))
# %% tags=["nbval-ignore-output", "hide-input"]
if len(one):
    display(
        Markdown(
            "The authors show the same thing as an animation. Move the slider, or press play:"
        )
    )
    display(HTML(draw.stepper(one, f"Ratio of each block, {label_one}")))

# %% [markdown]
# A single run says nothing of how runs differ. What follows takes all seeds that are on record. It condenses a network to the distance from 1 of its median block, as a factor:
# the ratio or its inverse, whichever is above 1.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "How far the median block is from keeping the norm. Lines are means over the seeds; a band is their standard deviation, where a network has several seeds.", "name": "fig-distance"}, "image": {"alt": "Six panels of lines over the epochs: blocks of constant width above, transitions below, one column for each depth."}}
if len(ratios):
    display(draw.distances(ratios[ratios.epoch > 0], f"Distance from 1, {label}"))
# %% tags=["hide-input"]
Markdown(sentences.norms(ratios, "transition"))

# %% [markdown]
# The paper blames one block of the deeper Plain networks, the first transition: it says that this block's ratio becomes so large that
# the network with the largest depth cannot converge. Which way round its ratio is we cannot read from our copy of the text, whose formulas are lost.

# %% tags=["hide-input"]
Markdown(sentences.first_transitions(ratios))

# %% [markdown]
# A ratio far below 1 means that the gradient at the block's input, which is what the stem learns by, is many times the one at its output.
#
# How did the runs end? `stuck` counts runs that finished, but whose test error never left the region of guessing. The paper reports that its Plain
# network with the largest of these depths became numerically unstable and stopped after about ten epochs. That it trained in float32 is assumed. So runs of that network in
# float32 stand in the same table, where there are any.

# %% tags=["hide-input"]
ends = studies.final_errors(studies.main_grid(records))
summed = studies.summed_up(ends, ["network", "precision", "epochs"])
if len(summed):
    display(summed.drop(columns=["mean", "sd"]).set_index("network"))
about(studies.main_grid(records), sentences.GRID, depth=20, schedule="constant")

# %% [markdown]
# (before-training)=
# ## Before the first update: what theory predicts
#
# The ratios at epoch 0 need no training to be understood. Random weights fix them, and three short steps give their values with no parameter to fit.
# The gradient is taken to be independent of the activations, which is what mean-field theory assumes.
#
# **One layer, forwards.** A layer is a batch normalisation, a ReLU and a $k \times k$ convolution from $c$ to $d$ channels. Behind the normalisation a
# unit's values are about standard Gaussian. Behind the ReLU they have the second moment $\tfrac12$ and the mean $1/\sqrt{2\pi}$, so their variance is
#
# $$
# \frac12 - \frac1{2\pi} = \frac{1}{2\rho}, \qquad \rho = \frac{\pi}{\pi - 1} \approx 1.467 .
# $$
#
# He's start {cite}`he2015`, in the form that these networks use, draws the kernel's entries with the variance $2/(k^2 d)$. A channel of the output sums $k^2 c$ products.
# Over images and pixels it therefore has the variance
#
# $$
# k^2 c \cdot \frac{2}{k^2 d} \cdot \frac{1}{2\rho} = \frac{c}{d\,\rho} .
# $$ (eq-forwards)
#
# **One layer, backwards.** Three factors multiply the squared norm of the gradient. The convolution gives $2c/d$, whatever its stride. The ReLU lets half of it through:
# $\tfrac12$. The batch normalisation divides by the variance $v$ of its own input: $1/v$. Together: $c/(d\,v)$.
#
# **A block with an identity skip** has three layers, $4n \to n \to n \to 4n$. Its input has the variance $q$. By {eq}`eq-forwards` the second normalisation sees $4/\rho$
# and the third $1/\rho$. From the last layer to the first the factors are $\rho/4$, $\rho/4$ and $4/q$. The product is $\rho^2/(4q)$, and the skip adds the
# gradient itself:
#
# $$
# \lVert g_l \rVert^2 = \Bigl(1 + \frac{\rho^2}{4 q_l}\Bigr) \lVert g_{l+1} \rVert^2 ,
# \qquad r_l = \Bigl(1 + \frac{\rho^2}{4 q_l}\Bigr)^{-1/2} .
# $$ (eq-identity)
#
# The branch's output has the variance $1/(4\rho)$, so that $q_{l+1} = q_l + 1/(4\rho)$. The variance grows from block to block, and the ratio comes nearer to 1. The deviation
# falls like one over the block's number, and the product of the ratios falls only like a power of it.
#
# **A Plain block** has the branch alone. Its input is another block's output, $q = 1/(4\rho)$. The squared norm is multiplied by $\rho^3$ at every block, and the ratio is
#
# $$
# r = \rho^{-3/2} \approx 0.563
# $$ (eq-plain)
#
# at every depth and every width, the second and third transitions included. So a Plain network is not norm-preserving at its start: on the way to the input the gradient grows by a constant factor in
# each block, that is exponentially.
#
# **A ResNet's transition** goes from $c$ to $4n$ channels. Its skip is a convolution that begins behind the block's first ReLU. There the branch brings
# $\tfrac{\rho}{4} \cdot \tfrac{\rho n}{c} \cdot \tfrac{2c}{n} = \tfrac{\rho^2}{2}$ and the skip $\tfrac{2c}{4n}$. The ReLU and the normalisation are still to come, $\tfrac12$ and $1/q$:
#
# $$
# r = \Bigl(\frac{4 q}{\rho^2 + c/n}\Bigr)^{1/2} ,
# \qquad q_{\text{behind}} = \Bigl(1 + \frac{c}{n}\Bigr) \frac{1}{4\rho} .
# $$ (eq-transition)
#
# In the first stage $c/n = 1$, in the others $c/n = 2$. A second transition comes behind the $N$ blocks of a stage, so that its $q$ is $(N+1)/(4\rho)$ and its ratio is
# $\bigl((N+1)/(\rho(\rho^2+2))\bigr)^{1/2}$. It grows with the square root of the depth: the deeper a ResNet, the less its transitions keep the norm, while its other blocks keep it better.
# This is the weakness that the paper's changed transitions remove. **A ProcResNet's transition** is a convolution held so that $r = 1$ for a gradient that is spread evenly over the
# directions; the held kernel leaves the variance of a channel as it is, so that $q$ goes on growing from stage to stage.
#
# Calculations of this kind are known for other networks: the polynomial growth that skips bring {cite}`yang2017`, the exponential one of batch normalisation without them {cite}`yang2019`, and
# residual blocks that begin near the identity {cite}`de2020`. Those for a ResNet's transitions were made for this page.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Ratios before the first update, geometric means over the seeds: measured (points, squares for transitions) and predicted. The solid line and the crosses take the measured variance of each block's input, the dotted line takes the theory's own. Points on the line mean that the theory holds.", "name": "fig-beginning"}, "image": {"alt": "Nine panels, ratio against block: points on lines that rise towards one within each stage of a residual network."}}
if len(start):
    display(draw.beginnings(start, f"Before the first update, {label}"))
# %% tags=["hide-input"]
Markdown(sentences.theory(beginning.accuracy(start)))

# %% tags=["hide-input"]
accuracy = beginning.accuracy(start)
if len(accuracy):
    short = {
        "first transition": "first",
        "later transitions": "later",
        "residual": "width",
    }
    ways = {"off": "measured variance", "off_unmeasured": "theory alone"}
    wide = (
        accuracy.rename(columns=ways)
        .replace({"blocks": short})
        .pivot(index="network", columns="blocks", values=list(ways.values()))
    )
    display(dashes(wide.loc[accuracy.network.unique()].round(3)))
    display(
        Markdown(
            "The table has the median size of the logarithm of the measured ratio over the predicted one: of the `first` transition, of the `later` ones, and of the blocks of "
            "constant `width`. On the left the measured variance of a block's input is put in, on the right the theory's own; there is a dash where it has none."
        )
    )

# %% [markdown]
# Why is a ResNet's first transition off? Batch normalisation divides the gradient in each channel by that channel's own variance. So $q$ in the equations is the harmonic mean
# over the channels. Between random blocks all channels are alike, and every mean is the same. Behind the stem they are not: it sees three correlated colours of
# smooth images, so that some channels vary much and others hardly at all. A small experiment on the embedded sample of CIFAR-10 puts both means into
# {eq}`eq-transition`.

# %% tags=["nbval-ignore-output", "hide-input"]
stems = beginning.stems(range(5))
display(stems.round(3).set_index("seed"))
measured, *predicted = stems[["measured", "by_arithmetic", "by_harmonic"]].mean()
Markdown(
    f"Mean over {len(stems)} seeds: measured {measured:.2f}, predicted {predicted[0]:.2f} with the arithmetic mean of the channels' variances and "
    f"{predicted[1]:.2f} with the harmonic one."
)

# %% [markdown]
# The same is to be expected of the first blocks of a ProcResNet, because their input is still nearly an image.
#
# How does training leave the prediction?

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Each block's ratio before training and after some epochs, with the prediction for the beginning, at the largest depth; geometric means over the seeds. Look at which blocks stay on the coloured line.", "name": "fig-profiles"}, "image": {"alt": "Three panels, one for each architecture: the ratio against the block's number at several epochs."}}
deepest = max(studies.GRID_DEPTHS)
followed = beginning.followed(ratios, start)
last = int(followed.epoch.max()) if len(followed) else 0
shown = sorted({0, 1, 5, last} & set(range(last + 1)))
if len(start):
    display(draw.profiles(followed, deepest, shown, f"Ratios, {label}"))

# %% tags=["hide-input"]
left = explanation.left(ratios, start)
if len(left):
    display(left.drop(columns="precision").round(3).set_index("network"))
    display(
        Markdown(
            "The table has the median over the blocks of constant width of the size of the logarithm of the ratio over its first prediction."
        )
    )
else:
    display(
        about(
            [],
            f"a ratio before the first update of {sentences.GRID}",
            depth=20,
            schedule="constant",
        )
    )

# %% [markdown]
# (figure-four)=
# ## Figure 4: loss and error
#
# The paper says that deeper Plain networks train worse, and deeper ResNets and ProcResNets train better; and that the test error fluctuates most for
# Plain and least for ProcResNet. Its figure is a plot without numbers.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Training loss, a mean over the epoch while the weights change, and test error at its end. Lines are means over the seeds, bands their standard deviation; the grey line is the error of guessing. Compare the three depths within a column.", "name": "fig-learning"}, "image": {"alt": "Six panels of lines over the epochs: loss above, test error below, one column for each architecture, one kind of line for each depth."}}
if len(curves):
    display(draw.learning(curves, f"Loss and error, {label}", guessing=90))
# %% tags=["hide-input"]
fluctuation = (
    claims.CLAIMS["F4b"].tables(grid)["fluctuation"] if grid else pd.DataFrame()
)
display(Markdown(sentences.errors(errors)))
display(Markdown(sentences.widths(fluctuation)))
display(about(grid, sentences.GRID, depth=20, schedule="constant"))

# %% [markdown]
# A network that does not learn guesses the same class in every epoch, so that its error does not fluctuate at all. Little fluctuation is a sign of calm only
# where a network learns.

# %% tags=["hide-input"]
Markdown(sentences.unlearnt(errors))

# %% [markdown]
# ## Table I: the generalisation gap
#
# The gap is the test error less the training error, in points, and the table has its mean and its largest value over the epochs. The paper does not say which training error it took. Both are taken:
# the `running` one is a mean over an epoch, of augmented images, while the weights change; the `clean` one is measured at the epoch's end, without augmentation. The first column of the paper's table was lost in our copy, so the depths of its rows are
# *inferred* from the text. The paper's values belong to longer training on all images, so the figures here are not to be compared with them one by one. The order of the architectures may be.

# %% tags=["hide-input"]
table = studies.table_1(grid).drop(columns="precision").set_index(["network", "n"])
table.columns = pd.MultiIndex.from_tuples([name.split() for name in table.columns])
if len(table):
    display(dashes(table))
about(
    grid,
    "the networks of Table I at a constant rate",
    depth=20,
    schedule="constant",
)

# %% [markdown]
# ## Table II: test errors
#
# The paper compares each ResNet with its ProcResNet, with and without the last ReLU of a block ("EraseReLU"), on two data sets. The `paper` trained for long on all images, so that its
# errors are not to be compared with those of a smaller preset. `here` stands a mean ± standard deviation over the seeds; `failed` counts runs that diverged or stayed at the error of guessing.

# %% tags=["hide-input"]
classified = [
    r for r in usual if (r.config.schedule, r.config.project_every) == ("steps", 2)
]
ended = studies.final_errors(classified)
printed = {
    name: {"cifar10": row[1], "cifar100": row[2]}
    for name, row in paper.TABLE_II.items()
}
shown = [r for r in classified if r.network in printed]


def headed(table, runs):
    """The table with what the two errors are of in their columns' heads."""
    here = f"here ({sentences.size(preset, runs)})"
    named = {"paper": "paper (300 epochs)", "here": here}
    return dashes(table.rename(columns=named)).set_index("network")


display(headed(studies.beside(ended, printed), shown))
about(shown, "a network of Table II with its falling rate", depth=164)

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Test errors of the networks of Table II on CIFAR-10, a point a run; a bar is the mean of several runs. Where a network has one run, its place among the others shows nothing.", "name": "fig-table-two"}, "image": {"alt": "Points on a line of errors for each network."}}
on_ten = ended[(ended.dataset == "cifar10") & ended.network.isin(list(printed))]
if len(on_ten):
    display(
        draw.error_dots(
            on_ten,
            "network",
            list(printed),
            f"Table II, {preset}, {precision}, {sentences.seeds(shown)}",
        )
    )

# %% [markdown]
# ## Table III: the transition with and without its projection
#
# Does the projection help, or is it enough to move the convolution in front of the skip? The paper asks it on CIFAR-100: the original ResNet, the
# changed transition without the projection, and with it. CIFAR-10 is this book's addition. The last row is held as [the published code](02b_published.ipynb) holds it.

# %% tags=["hide-input"]
third = {
    name: {"cifar100": error} for name, error in claims.CLAIMS["TIII"].ORDER.items()
}
names = [*list(third)[::-1], "procresnet-166-published"]
extension = {name: {"cifar10": float("nan")} for name in names}
both = pd.concat([studies.beside(ended, third), studies.beside(ended, extension)])
compared_in_three = [r for r in classified if r.network in names]
display(headed(both, compared_in_three))
about(
    compared_in_three,
    "a network of Table III with its falling rate",
    arch="procresnet",
    depth=164,
    project="false",
)

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Test errors on CIFAR-10 with the original transition, with the changed one, and with the changed one held, a point a run; a bar is the mean of several runs. Where a network has one run, its place among the others shows nothing.", "name": "fig-table-three"}, "image": {"alt": "Points on a line of errors for each kind of transition."}}
held = ended[(ended.dataset == "cifar10") & ended.network.isin(names)]
if len(held):
    display(
        draw.error_dots(
            held,
            "network",
            names,
            f"Table III, {preset}, {precision}, {sentences.seeds(compared_in_three)}",
        )
    )

# %% [markdown]
# ## Figure 5: fewer parameters for the same error
#
# The paper's Figure 5 says that ProcResNet-274 slightly outperforms ResNet-1001, with about a quarter of its parameters.

# %% tags=["hide-input"]
fifth = [
    r
    for size in dict.fromkeys((preset, "paper"))
    for r in studies.stored(size, roots)
    if r.network in claims.CLAIMS["F5"].NETWORKS and r.config.schedule == "steps"
]
rows = studies.final_errors(fifth).assign(preset=[r.config.preset for r in fifth])
if fifth:
    display(
        studies.summed_up(rows, ["network", "preset", "precision", "parameters"])
        .round(2)
        .set_index("network")
    )
else:
    display(
        Markdown(
            sentences.missing(
                " and ".join(claims.CLAIMS["F5"].NETWORKS),
                "paper",
                arch="procresnet",
                depth=272,
            )
            + " What they would take: "
            + price.here(results_root()).of(claims.CLAIMS["F5"], "figure_5")
        )
    )

# %% [markdown]
# ## Projecting less often
#
# A projection costs time, so the paper makes it every second step only, "without hurting the performance much". What it costs is measured in [chapter 2](02_projection.ipynb).
# Here is whether it hurts.

# %% tags=["hide-input"]
seldom = [
    r
    for r in usual
    if claims.CLAIMS["O2"].takes(r.config) and r.config.schedule == "steps"
]
often = studies.final_errors(seldom)
display(
    studies.summed_up(often, ["network", "project_every"])
    .sort_values(["network", "project_every"])
    .round(2)
    .set_index("network")
)
about(
    seldom,
    "a ProcResNet projected at several intervals",
    arch="procresnet",
    depth=20,
    project_every=4,
)

# %% [markdown]
# (explains)=
# ## Does norm preservation explain the accuracy?
#
# The paper attributes its better errors to better norm preservation. Its own experiments change the architecture each time, and with it much else. Two things can be looked at here.
# The first is an association: across the runs on record, does the final test error go with how far the blocks were from 1?

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Final test error against the distance from 1 of the median block, its mean over the epochs, as a factor; a point a run. Hollow points are runs that did not learn. If norm preservation decided the error, the points of one colour would rise to the right.", "name": "fig-explanation"}, "image": {"alt": "Two scatter plots of test error against the distance from one: blocks of constant width, and transitions."}}
deviating = explanation.deviations(grid)
if len(deviating):
    display(draw.explanation(deviating, f"Error and norm preservation, {label}"))
# %% tags=["hide-input"]
if len(compared):
    display(compared.round(3).set_index("runs"))
    display(
        Markdown(
            "`rho` is Spearman's rank correlation. `p` is the share of random reassignments of the errors to the runs that correlate at least as strongly."
        )
    )
Markdown(sentences.association(compared))

# %% [markdown]
# Such correlations are to be read with care:
#
# * Across *all* runs the architecture decides both quantities. A correlation there may say no more than that one architecture differs from the others in both.
# * *Within an architecture* the depth does the same: it changes the ratios and the error together.
# * *Within networks* only the seed differs. This is the fairest of these comparisons, and the one with the least variation to see anything by.
#
# None of them shows a cause.
#
# ## Interventions
#
# The second thing to look at is what happens when norm preservation alone is changed. The networks here are ProcResNets with the same seeds, whose three transitions are held at a *factor* of the
# norm-preserving target: the ratio of each of them becomes one over the factor. Others have one transition changed, or transitions that are not held (*free*), that are set to
# the target once and not trained (*fixed*), or that are held as the published code does it. Each is compared with the network of the same seed that is held at the target. If
# norm preservation is what helps, a factor below 1 and one above 1 should both do harm.
#
# A factor also multiplies what the skip carries, against what the branches add. So harm need not come from the gradient's norm alone; that none is seen would say more.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Test error less that of the same seed's network held at the target, in points. Small marks are seeds, large ones their mean with its confidence interval. Above zero the intervention does harm.", "name": "fig-interventions"}, "image": {"alt": "Two panels of differences: by the factor on the target, and for the other interventions."}}
changed = interventions.stored(preset, roots)
pairs = interventions.differences(interventions.runs(changed))
effects = interventions.effects(pairs)
if len(pairs):
    precisions = ", ".join(sorted(set(pairs.precision)))
    seeds = f"n = {effects.n.min()} to {effects.n.max()}"
    display(
        paired_differences(
            pairs, effects, f"Interventions, {preset}, {precisions}, {seeds}"
        )
    )

# %% tags=["hide-input"]
if len(pairs):
    display(effects.drop(columns=["way", "at", "factor"]).round(3).set_index("setting"))
    display(
        Markdown(
            f"*{changed[0].config.left_out()} `python -m paperlib sweep workflow/config/interventions.yaml` makes all of these runs.*"
        )
    )
else:
    display(
        Markdown(
            f"*There is no record of an intervention at the {preset} preset yet. `python -m paperlib sweep workflow/config/interventions.yaml` makes all of them, and {sentences.command(preset, arch='procresnet', depth=20, hold_at=2)} one.*"
        )
    )

# %% [markdown]
# (paper-scale)=
# ## At the paper's scale
#
# What is on record of the paper's full protocol stands here, apart from the smaller runs. Nothing that is said above is about it. The gaps of Table I are compared, not judged:
# one run has no spread, and which of the table's rows belongs to which depth is inferred. (An earlier form of the rule judged the mean gap, too, and called it in agreement.)

# %% tags=["hide-input"]
large = studies.stored("paper", roots)
large_grid = studies.main_grid(large)
if large:
    compared = [paper.compare(r).assign(network=r.network) for r in large]
    display(pd.concat(compared).set_index("network"))
    made = "; ".join(
        f"{r.network}: seed {r.config.seed}, {r.config.precision}, {r.provenance.last.device.name}, commit {r.provenance.short_commit}"
        for r in large
    )
    display(
        Markdown(
            f"*{made}. `make gpu` makes them where there is a GPU, and `{large[0].provenance.command}` the first one.*"
        )
    )
else:
    display(
        Markdown(sentences.missing("any run", "paper", depth=20, schedule="constant"))
    )

# %% tags=["hide-input"]
at_full_scale = sentences.at_full_scale(studies.ratios(large_grid))
for text in at_full_scale:
    display(Markdown(text))
if at_full_scale:
    display(
        Markdown(
            "One run has no spread: how much another seed would differ is not known."
        )
    )

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Ratios of the runs at the paper's scale, the form of Figure 3. Epoch 0 is missing in older records.", "name": "fig-paper-scale"}, "image": {"alt": "Lines over the epochs, one panel for each network on record."}}
there = {(r.config.arch, r.config.depth) for r in large_grid}
if there:
    display(
        draw.ratio_grid(
            studies.first_seeds(studies.ratios(large_grid)),
            title=f"Paper's scale, {', '.join(sorted({r.config.precision for r in large_grid}))}, n = 1",
            archs=[a for a in draw.TITLES if a in {arch for arch, _ in there}],
            depths=sorted({depth for _, depth in there}),
        )
    )

# %% [markdown]
# ## Verdicts
#
# Each claim of Section 4 has a rule, which was written before the runs that it judges, and so has the question of this book's interventions. A run that is smaller than the paper's protocol decides nothing: its verdict says what the rule
# finds at this scale, and that the paper's scale has not been tested. Where there is a verdict at the paper's scale, it stands beside it. The [scorecard](00_scorecard.ipynb) has them beside all other claims.

# %% tags=["hide-input"]
mine = [claim.name for claim in claims.section4.CLAIMS + claims.interventions.CLAIMS]
known = {
    (f.claim, f.preset): f  # of two, that of the folder of runs
    for root in roots
    for f in claims.read_all(root, only=mine)
    if f.preset in (preset, "paper") or f.claim == "TIIp"  # a count has no preset
}
findings = sorted(known.values(), key=lambda f: mine.index(f.claim))
print(claims.report(findings))

# %% tags=["hide-input"]
lacking = [name for name in mine if name not in {f.claim for f in findings}]
Markdown(
    f"*No finding is on record yet for {', '.join(lacking)}. `python -m paperlib measure {' '.join(lacking)} --preset {preset} --out results` measures them.*"
    if lacking
    else "*Every claim of Section 4 has a finding on record.*"
)

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
# Most claims of the paper's Section 4 {cite}`zaeemzadeh2020` are not yet tested at the paper's own scale, and this page says what smaller {term}`runs <run>` show meanwhile. The paper trains Plain networks, ResNets and ProcResNets and
# looks at each {term}`block`'s {term}`ratio`, at losses and at errors. The page draws the same figures and tables from {term}`records <record>`, and trains nothing.
#
# It then asks what the paper does not test: whether norm preservation is the reason for the accuracy, and what a theory says of the ratios before training begins. The records are those of one {term}`preset`. `desk`, the default, is a
# small part of the paper's protocol, and nothing that it shows is presented as the paper's scale. What there is of that scale is [in a section of its own](paper-scale).
#
# :::{card} About this chapter
# :class-card: chapter-card
#
# - **Shows:** which claims of Section 4 hold, as far as runs on record can tell, and whether norm preservation explains the accuracy
# - **Claims:** F3a to F3g, F4a, F4b, TI, TII, TIIp, TIII, F5, O2, and the book's own S0 and I1 ([scorecard](00_scorecard.ipynb))
# - **Needs:** one CPU core, 2 GB of memory
# - **Fetches:** nothing
# - **Takes:** about half a minute, at any preset, since it reads records ([measured](reproducibility.ipynb))
# - **Run it:** `papermill notebooks/05_results.ipynb out.ipynb`; add `-p preset paper -p runs FOLDER` for other records
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

# %% tags=["parameters"]
preset = "desk"
runs = None

# %% tags=["hide-input"]
from paperlib.studies import section4 as studies

studies.Choice.from_namespace()

# %matplotlib inline
from itertools import pairwise

import numpy as np
import pandas as pd
from IPython.display import HTML, Markdown

from paperlib import claims, paper
from paperlib.claims.cards import CARDS
from paperlib.claims.claim import UNTESTED
from paperlib.claims.section4.base import below
from paperlib.figures import interactive
from paperlib.figures import section4 as draw
from paperlib.figures.interventions import paired_differences
from paperlib.models import title
from paperlib.store import results_root
from paperlib.studies import (
    beginning,
    explanation,
    interventions,
    sentences,
)
from paperlib.studies.tables import fitted

roots = [results_root(), *([runs] if runs else [])]
all_records = list(studies.everything(roots))
records = studies.among(all_records, preset)
precision = studies.usual_precision(records)
usual = [r for r in records if r.config.precision == precision]
grid = studies.main_grid(usual)

ratios = studies.ratios(grid)
start = beginning.beginnings(grid)
curves = studies.curves(grid)
errors = studies.final_errors(grid)
one = studies.first_seeds(ratios)
compared = explanation.correlations(explanation.deviations(grid))
changed = interventions.among(all_records, preset)
held = interventions.runs(changed)
doses = interventions.doses(held)
pairs = interventions.differences(held)
effects = interventions.effects(pairs)
answered = claims.CLAIMS["I1"].said_of(changed)

mine = [
    claim.name
    for claim in claims.section4.CLAIMS + claims.interventions.CLAIMS
]
findings = [f for r in roots for f in claims.read_all(r, only=mine)]
told = {(f.claim, f.preset): claims.details(f) for f in findings}
verdicts = dict.fromkeys(mine, UNTESTED)
qualified = dict(verdicts)  # with the precision, and n = 1
for f in claims.counting(findings):
    said = claims.verdict(f)
    if said not in ("undecided", UNTESTED):
        verdicts[f.claim] = said
        qualified[f.claim] = told[f.claim, f.preset].said

titles = {name: CARDS[name].title.partition(" (")[0] for name in mine}
for f in claims.counting(findings):
    counts = [quantity.n for quantity in f.quantities.values()]
    if max(counts, default=0) == 1 and not claims.CLAIMS[f.claim].exact:
        titles[f.claim] += "; one run of each network"
        if kind := claims.CLAIMS[f.claim].precision(f.frames):
            titles[f.claim] += f", in {kind}"

# What the figures below are of; without a record none is drawn.
label = f"{preset}, {precision}, {sentences.seeds(grid)}"
label_one = f"{preset}, {precision}, n = 1 (the first seed)"


def about(some, what, **parameters):
    """What these runs are, or the command that makes them."""
    if precision:  # only records in the usual precision count
        what += f" in {precision}"
    return Markdown(
        sentences.made(some)
        if some
        else sentences.missing(what, preset, **parameters)
    )


# %% tags=["remove-input"]
Markdown(
    f"> **Found.** {sentences.decided(verdicts, UNTESTED, titles)} "
    f"{sentences.nearer(ratios, preset, below)} "
    f"{sentences.guessing(errors)} "
    f"{sentences.answer(answered, effects, briefly=True)}"
)

# %% [markdown]
# ## Which claims hold
#
# {numref}`tab-verdicts` has every {term}`claim` of the paper's Section 4 but those about the projection's cost, which are in [chapter 2](02_projection.ipynb), and two of the book's own: S0 about the first ratios, and I1 about the cause of the accuracy. The last column is the {term}`verdict`. The column before it says what the claim's rule finds in the
# runs of this preset, which are far smaller than the paper's; that decides nothing about the paper. Each rule, with its numbers and its records, is in the [scorecard](00_scorecard.ipynb).
#
# In our copy of the paper some numbers of its protocol are lost with the formulas, and what stands here for them is *inferred*. The data set of Table III follows from its 24.33, which Table II prints for CIFAR-100. The interval of the projection follows from the published code, which projects after every second step on average. For the depth 20
# and the 100 epochs of Figures 3 and 4 and Table I our copy gives no ground: check them in the paper.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The claims of Section 4 and what became of them. What a rule finds in smaller runs is no verdict.", "name": "tab-verdicts"}}
here = {
    name: details.brief
    for (name, size), details in told.items()
    if size == preset
}
table = pd.DataFrame(
    {
        "claim": mine,
        "the paper": [CARDS[name].says for name in mine],
        f"the rule, at {preset}": [
            here.get(name, "no finding yet") for name in mine
        ],
        "verdict": [qualified[name] for name in mine],
    }
)
HTML(fitted(table, "verdicts", index=False))

# %% tags=["remove-input"]
lacking = [
    name for name in mine if name not in {f.claim for f in findings}
]
Markdown(
    f"*No finding is on record yet for {', '.join(lacking)}. "
    "Where the trainings that its rule names are on record, "
    f"`python -m paperlib measure {' '.join(lacking)} "
    f"--preset {preset} --out results` measures "
    f"{'it' if len(lacking) == 1 else 'them'}.*"
    if lacking
    else "*Every claim of this chapter has a finding on record.*"
)

# %% [markdown]
# The runs of this page do not all have one size. {numref}`tab-runs` says which section is about which runs. Errors of different sizes are not to be compared.
#
# On this page a difference between two groups of runs lies *beyond the scatter* if Welch's one-sided t-test over the seeds finds it at a level of 5 %, and else *within the scatter*.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The runs behind this page: the sections show networks that were trained for different times on different numbers of images.", "name": "tab-runs"}}
falling = [r for r in usual if r.config.schedule == "steps"]
published = "procresnet-166-published"  # in no table of the paper's
of_tables = {*paper.TABLE_II, *claims.CLAIMS["TIII"].ORDER, published}
classified = [
    r
    for r in falling
    if r.network in of_tables and r.config.project_every == 2
]
often = [r for r in falling if claims.CLAIMS["O2"].takes(r.config)]
intervals = {(r.network, r.config.project_every) for r in often}
networks = [network for network, _ in intervals]
often = [r for r in often if networks.count(r.network) > 1]
sizes = sentences.by_size(
    {
        "Figures 3 and 4, Table I; before the first update": grid,
        "Tables II and III": classified,
        "projecting less often": often,
        "interventions": changed,
    }
)
HTML(fitted(sizes, "runs", index=False))

# %% tags=["remove-input"]
about(grid, sentences.GRID, depth=20, schedule="constant")

# %% [markdown]
# (figure-three)=
# ## Figure 3: each block's ratio while the network trains
#
# The paper says that identity skips keep the ratios near 1, the more so the deeper the network is, and that Plain networks move away from 1. It also says that a ResNet's {term}`transitions <transition>` are off, and that a ProcResNet's are
# not, except for the first one. A block takes $x_l$ to $x_{l+1}$, and its ratio is
#
# $$
# r_l = \frac{\lVert \partial E / \partial x_{l+1} \rVert}{\lVert \partial E / \partial x_l \rVert} ,
# $$
#
# output over input, as everywhere in this book. Above 1 the gradient shrinks on its way back, below 1 it grows.
#
# {numref}`fig-ratio-grid` shows one run of each network. Epoch 0 is the state before the first update, measured on batches of training images.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "In ResNet and ProcResNet the blocks of constant width (coloured) lie near 1, the nearer the deeper the network. A ResNet's transitions (black) are far from 1 in the deeper networks; of a ProcResNet's only the first moves far from it, to between 0.7 and 0.8. Triangles at the edge are ratios off the scale.", "name": "fig-ratio-grid"}, "image": {"alt": "Nine panels of lines over the epochs: three architectures by three depths."}}
first = studies.first_seeds(errors)
if len(one):
    heading = f"Ratios, {label_one}"
    display(draw.ratio_grid(one, studies.remarks(first), heading))

# %% [markdown]
# The authors show the same thing as an animation. In {numref}`fig-epochs` you choose the network, and move the slider or press *Play*.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "In deep Plain networks training takes most blocks across 1: they begin below it and end above. Every block's ratio, geometric means over the seeds.", "name": "fig-epochs"}}
if len(ratios):
    on_record = sorted(set(ratios.depth))
    middle = on_record[len(on_record) // 2]
    ends = [0, int(ratios.epoch.max())]
    measured = ratios.drop(columns="prediction")
    display(
        HTML(
            interactive.html(
                interactive.ratios_over_epochs(ratios),
                f"Ratio of each block, {label}",
                "The picture has the networks of one depth, before "
                "training and after it. On the book's page you choose "
                "the network and the epoch.",
                draw.profiles(measured, middle, ends),
            )
        )
    )

# %% [markdown]
# A single run says nothing of how runs differ. {numref}`fig-distance` takes all {term}`seeds <seed>` on record, and condenses a network to the distance from 1 of its median block. The distance is a factor: the ratio or its inverse, whichever is above 1.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "With skips the median block of constant width (top) is nearer to 1 in deeper networks; at depth 20 it is nearest to 1 in Plain. The median transition (bottom) of a ProcResNet stays near 1 at every depth. Lines are means over the seeds, bands their standard deviation.", "name": "fig-distance"}, "image": {"alt": "Six panels of lines over the epochs: blocks of constant width above, transitions below, one column for each depth."}}
if len(ratios):
    trained = ratios[ratios.epoch > 0]
    display(draw.distances(trained, f"Distance from 1, {label}"))

# %% tags=["remove-input"]
Markdown(
    f"* {sentences.norms(ratios, below)}\n"
    f"* {sentences.norms(ratios, below, 'transition')}\n\n"
    f"{sentences.cut_short(ratios)}"
)

# %% [markdown]
# ### What the rules miss
#
# The rules of Figure 3 that are not met at this preset are missed by these numbers. A distance is the size of $\ln r$ here, in which 0 keeps the norm.

# %% tags=["remove-input"]
limits = {
    "F3a": f"{np.log(claims.CLAIMS['F3a'].NEAR):.3f}",
    "F3d": f"{claims.CLAIMS['F3d'].ALIKE}",
    "F3e": f"{claims.CLAIMS['F3e'].TIMES}",
    "F3g": f"{claims.CLAIMS['F3g'].NEAR}",
}
missed = {
    name: details
    for (name, size), details in told.items()
    if size == preset and details.outcome == "not reproduced"
}
Markdown(
    sentences.why(
        {n: [c.text for c in d.compared] for n, d in missed.items()},
        limits,
        {name: details.tally for name, details in missed.items()},
    )
    or "*At this preset none of them is missed.*"
)

# %% [markdown]
# ### Where Plain networks break
#
# The paper blames one block of the deeper Plain networks, the first transition: its ratio becomes so large that Plain-164 cannot converge. The paper defines the ratio as output over input, as this book does, and says that it becomes too large. In our deeper runs, which learn nothing, it becomes too small, so that the inverse may be meant. In Plain-20, which learns, it does go up in the first epochs and falls later, as the paper tells of Plain-83. A
# ratio far below 1 means that the gradient at the block's input, which is what the stem learns by, is many times the one at its output.

# %% tags=["remove-input"]
Markdown(sentences.first_transitions(ratios))

# %% tags=["remove-input"]
Markdown(
    "The paper reports that Plain-164 became numerically unstable and "
    "stopped after 10 epochs. We assume that the paper trained in "
    "float32, so that runs in float32 are counted here, too, where "
    "there are any. A run that finished *did not learn* if its test "
    f"error never fell below {studies.STUCK:g} %; guessing has 90 %."
)

# %% tags=["remove-input"]
every_precision = studies.final_errors(studies.main_grid(records))
Markdown(
    sentences.ended(every_precision)
    or sentences.missing(
        sentences.GRID, preset, depth=20, schedule="constant"
    )
)

# %% [markdown]
# (figure-four)=
# ## Figure 4: loss and error
#
# The paper says that deeper Plain networks train worse, and deeper ResNets and ProcResNets train better. It also says that the test error fluctuates most for Plain and least for ProcResNet. Its figure is a plot without numbers.
# {numref}`fig-learning` shows both over the epochs, and {numref}`tab-errors` gives the errors at the end.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Plain-83 and Plain-164 stay at guessing (grey line); with skips the deep networks learn as well as the shallow ones. Training loss, a mean over the epoch while the weights change, and test error at its end. Lines are means over the seeds, bands their standard deviation.", "name": "fig-learning"}, "image": {"alt": "Six panels of lines over the epochs: loss above, test error below, one column for each architecture, one kind of line for each depth."}}
if len(curves):
    heading = f"Loss and error, {label}"
    display(draw.learning(curves, heading, guessing=90))

# %% tags=["hide-input"] mystnb={"figure": {"caption": "ProcResNet's error is not seen to fluctuate less than ResNet's. Test error of the last epoch, mean ± standard deviation over the seeds, where a run that diverged counts as guessing; and the standard deviation of its change from one epoch to the next, from epoch 11 on.", "name": "tab-errors"}}
fluctuation = pd.DataFrame()
if grid:
    tables = claims.CLAIMS["F4b"].tables(grid)
    fluctuation = tables["fluctuation"]
by_depth = studies.by_depth(errors, fluctuation)
if len(by_depth):
    display(HTML(fitted(by_depth, "errors")))

# %% tags=["remove-input"]
loss = claims.CLAIMS["F4a"]
final = loss.numbers(loss.gathered(grid)) if grid else {}
depths = sorted({r.config.depth for r in grid})
groups = {
    arch: {
        depth: final[f"final training loss, {title(arch, depth)}"]
        for depth in depths
    }
    for arch in draw.TITLES
    if final
}
said = sentences.with_depth("the final training loss", groups, below)
images = {r.config.test_images for r in grid}
Markdown(
    f"{said} "
    + (sentences.uncertain(errors, *images) if len(images) == 1 else "")
)

# %% tags=["remove-input"]
Markdown(sentences.unlearnt(errors))

# %% [markdown]
# ## Table I: the generalisation gap
#
# {numref}`tab-gaps` gives the test error minus the training error, its mean and its largest value over the epochs. The paper's values belong to longer training on all images, so that the order of the architectures may be compared and the single values may not. The first column of
# the paper's table was lost in our copy: the depths of its rows are *inferred* from the text.
#
# The paper does not say which training error it took, and both are here. The *running* one is a mean over an epoch, of augmented images, while the weights change. The *clean* one is measured at the epoch's end, without augmentation.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "ProcResNet's mean gap is smaller than ResNet's at every depth and by either training error, as in the paper, though mostly within the scatter. The gap in points, mean ± standard deviation over the seeds; n counts the runs that have a gap, and a run that diverged in its first epoch has none.", "name": "tab-gaps"}}
table = studies.table_1(grid).drop(columns="precision")
table = table.assign(network=table.network.map(sentences.titled))
table.columns = pd.MultiIndex.from_tuples(
    [(*name.split(), "")[:2] for name in table.columns]
)
if len(table):
    display(HTML(fitted(table, "gaps", index=False)))

# %% tags=["remove-input"]
found_gaps = studies.gaps(curves)
Markdown(
    f"{sentences.gaps(found_gaps, below)} "
    f"{sentences.against_the_paper(found_gaps, below)}"
)

# %% [markdown]
# ## Tables II and III: test errors
#
# The paper's Table II compares each ResNet with its ProcResNet, with and without the last ReLU of a block ("EraseReLU"), on two data sets. Its Table III asks on CIFAR-100 whether the {term}`projection` helps, or whether it is enough to move the convolution
# in front of the skip: *free* is the changed transition without its projection. {numref}`tab-test-errors` sets both beside the paper's. The free network on CIFAR-10 and the transitions held [as the published code holds them](02b_published.ipynb) are not in the paper.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "ProcResNet-166 has a lower mean error than ResNet-164, as in the paper: with EraseReLU beyond the scatter, without it within. Test errors in per cent, mean ± standard deviation over the seeds. The paper trained for long on all images, so that the two are not to be compared one by one.", "name": "tab-test-errors"}}
ended = studies.final_errors(classified)
missing = float("nan")
second = {
    name: {"cifar10": row[1], "cifar100": row[2]}
    for name, row in paper.TABLE_II.items()
}
third = {
    name: {"cifar10": missing, "cifar100": error}
    for name, error in claims.CLAIMS["TIII"].ORDER.items()
    if name not in second
}
ours = {published: {"cifar10": missing}}
printed = second | third | ours
here = f"here ({sentences.size(preset, classified)})"
table = studies.beside(ended, printed).pivot(
    index="network", columns="dataset", values=["paper", "here"]
)
table = table.loc[list(printed)].dropna(axis=1, how="all")
names = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}
table = table.rename(columns=names | {"here": here})
table.index = list(map(sentences.titled, table.index))
table = table.rename_axis(columns=[None, None])
present = table.columns[(table.notna() & (table != "")).any()]
HTML(fitted(table[present], "test-errors"))

# %% tags=["remove-input"]
about(
    classified, "a network of Table II with its falling rate", depth=164
)

# %% [markdown]
# {numref}`fig-test-errors` shows the same errors run by run.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "With EraseReLU both networks have a lower mean error, beyond the scatter. Test errors on CIFAR-10 of the networks of Tables II and III, a point a run; a bar is the mean of several runs.", "name": "fig-test-errors"}, "image": {"alt": "Points on a line of errors for each network."}}
wanted = (ended.dataset == "cifar10") & ended.network.isin(
    list(printed)
)
on_ten = ended[wanted]
if len(on_ten):
    heading = f"{preset}, {precision}, {sentences.seeds(classified)}"
    names = on_ten.network.map(sentences.titled)
    order = [sentences.titled(name) for name in printed]
    display(
        draw.error_dots(
            on_ten.assign(name=names),
            "name",
            order,
            f"Tables II and III, {heading}",
        )
    )

# %% tags=["remove-input"]
pairs_of_tables = [
    *claims.CLAIMS["TII"].PAIRS,
    *pairwise(claims.CLAIMS["TIII"].ORDER),
    *(
        (f"{network}-eraserelu", network)
        for network in ("procresnet-166", "resnet-164")
    ),
]
Markdown(
    sentences.differences(
        sentences.beside(on_ten, "test_error", pairs_of_tables, below)
    )
)

# %% [markdown]
# ## Figure 5, and projecting less often
#
# The paper's Figure 5 says that ProcResNet-274 slightly outperforms ResNet-1001, with about a quarter of its parameters.

# %% tags=["remove-input"]
pair = claims.CLAIMS["F5"].NETWORKS
fifth = [
    r
    for size in dict.fromkeys((preset, "paper"))
    for r in studies.among(all_records, size)
    if r.network in pair and r.config.schedule == "steps"
]
rows = studies.final_errors(fifth)
columns = ["network", "precision"]
lines = [
    f"* {sentences.titled(row.network)} in {row.precision}: "
    f"{studies.told(row.mean, row.sd, row.n)} per cent"
    for row in studies.summed_up(rows, columns).itertuples(index=False)
]
Markdown(
    "\n".join(lines)
    or sentences.missing(
        " and ".join(map(sentences.titled, pair)),
        "paper",
        arch="procresnet",
        depth=272,
    )
    + " What they would take is in the [scorecard](00_scorecard.ipynb)."
)

# %% [markdown]
# A projection costs time, so the paper makes it every second step only, "without hurting the performance much". What it costs is measured in [chapter 2](02_projection.ipynb); in short:

# %% tags=["remove-input"]
took = {
    f.claim: f
    for f in claims.read_all(results_root(), only=["O1a", "O1d"])
}
theirs, ours = (
    took[name].quantities[f"per cent of the training time, {what}"]
    for name, what in (
        ("O1a", "the paper's iteration"),
        ("O1d", "this library"),
    )
)
Markdown(
    sentences.overhead(
        (theirs.mean, theirs.sd),
        (ours.mean, ours.sd),
        ours.n,
        took["O1a"].provenance.device.name,
    )
)

# %% [markdown]
# Does it hurt?

# %% tags=["remove-input"]
by_interval = studies.summed_up(
    studies.final_errors(often), ["network", "project_every"]
)
by_interval = by_interval.sort_values(["network", "project_every"])
Markdown(
    sentences.seldom(by_interval, sentences.extent(often))
    or sentences.missing(
        "a ProcResNet projected at several intervals",
        preset,
        arch="procresnet",
        depth=20,
        project_every=4,
    )
)

# %% [markdown]
# (explains)=
# ## Does norm preservation explain the accuracy?
#
# The paper attributes its better errors to better norm preservation. Its own experiments change the architecture each time, and with it much else. Two things can be looked at here: whether error and norm preservation go together, and what happens when norm preservation is changed and as little else as possible.
#
# ### The association
#
# Across the runs on record, does the final test error go with how far the blocks were from 1? If norm preservation decided the error, the points of one colour in {numref}`fig-explanation` would rise to the right.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Among runs that learnt, error and distance from 1 are not seen to go together. Final test error against the distance from 1 of the median block, its mean over the epochs, as a factor; a point a run, hollow if it did not learn.", "name": "fig-explanation"}, "image": {"alt": "Two scatter plots of test error against the distance from one: blocks of constant width, and transitions."}}
deviating = explanation.deviations(grid)
if len(deviating):
    heading = f"Error and norm preservation, {label}"
    display(draw.explanation(deviating, heading))

# %% [markdown]
# The correlations in {numref}`tab-correlations` are to be read with care, and none of them shows a cause:
#
# * Across *all* runs the architecture decides both quantities. A correlation there may say no more than that one architecture differs from the others in both.
# * *Within an architecture* the depth does the same: it changes the ratios and the error together.
# * *Within networks* only the seed differs. This is the fairest of these comparisons, and the one with the least variation to see anything by: with three seeds in each network only a correlation beyond about one half would be noticed.
# * The small p-values of *all* and of *Plain* come from comparing networks that learnt with networks that guess: among *those that learnt* none is small.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Where only the seed differs, no correlation is seen between the final test error and the distance from 1 of the median block. Spearman's rank correlation; the p-value is the share of random reassignments of the errors to the runs that correlate at least as strongly.", "name": "tab-correlations"}}
if len(compared):
    table = compared.round(3).rename(columns={"rho": "correlation"})
    table = table.pivot(
        index=["runs", "n"],
        columns="blocks",
        values=["correlation", "p"],
    ).loc[list(dict.fromkeys(compared.runs))]
    table = table.rename_axis(columns=[None, None]).reset_index()
    display(HTML(fitted(table, "correlations", index=False)))

# %% tags=["remove-input"]
Markdown(sentences.cause(compared))

# %% [markdown]
# ### Interventions
#
# An intervention is meant to change norm preservation and as little else as possible. The networks are ProcResNets with the same seeds, whose three transitions are {term}`held` at a *factor* of the {term}`target`: the ratio of each of them becomes one over the factor. The rule of I1 asks for a higher error on both sides of the target.
#
# A factor changes two things at once. It takes the transitions away from keeping the norm, on either side. And it changes how much the skip carries compared with what the branches add. A factor above 1 enlarges what the skip carries. The branches then matter less, and the other blocks come nearer to 1 ([why](before-training)).
# So a factor above 1 brings the blocks of constant width *nearer* to keeping the norm, and one below 1 takes them farther from it. No factor tests norm preservation alone.
#
# Other networks have one transition changed, or transitions that are {term}`free`, that are set to the target once and not trained (*fixed*), or that are held as the published code does it. Each is compared with the network of the same seed that is held at the target: {numref}`fig-interventions` shows the
# differences, and {numref}`tab-interventions` their means.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "In ProcResNet-22 the error rises with the factor, so that it is not lowest at the target. Test error minus that of the same seed's network held at the target, in points; small marks are seeds, large ones their mean with its interval of confidence. Above zero the intervention does harm.", "name": "fig-interventions"}, "image": {"alt": "Two panels of differences: by the factor on the target, and for the other interventions."}}
if len(pairs):
    heading = ", ".join(
        ["Interventions", preset, *sorted(set(pairs.precision))]
    )
    display(paired_differences(pairs, effects, heading))

# %% tags=["hide-input"] mystnb={"figure": {"caption": "What differs from the target beyond chance is in ProcResNet-22; ProcResNet-166 shows nothing beyond chance. The intervals are not corrected for their number, so that one of them may leave out 0 by chance. The mean difference of the test error from that at the target, in points, with its interval of confidence (95 %) and the number of seeds; and by how much the transitions' mean log ratio moved.", "name": "tab-interventions"}}
if len(pairs):
    table = effects.assign(
        interval=[
            f"{row.low:+.2f} to {row.high:+.2f}" if row.n > 1 else ""
            for row in effects.itertuples()
        ],
        mean=[f"{mean:+.2f}" for mean in effects["mean"]],
        moved=[f"{shift:+.2f}" for shift in effects["shift"]],
        beyond=[
            {"harm": "harm", "help": "help"}.get(sentences.says(row))
            for row in effects.itertuples()
        ],
        network=effects["setting"].str.partition(",")[0],
    ).rename(
        columns={
            "label": "intervention",
            "mean": "mean difference",
            "beyond": "beyond chance",
            "moved": "log ratio moved",
        }
    )
    first = ["network", "intervention", "mean difference"]
    rest = ["interval", "n", "beyond chance", "log ratio moved"]
    table = table[[*first, *rest]]
    display(HTML(fitted(table, "interventions", index=False)))

# %% tags=["remove-input"]
plan = "workflow/config/interventions.yaml"
sweep = f"`python -m paperlib sweep {plan}`"
one_command = sentences.command(
    preset, arch="procresnet", depth=20, hold_at=2
)
Markdown(
    f"{sentences.answer(answered, effects)}\n\n"
    f"{sentences.dose(doses, effects)}\n\n"
    f"{sentences.unmoved(effects)}\n\n"
    f"*{sentences.left_out(changed)} {sweep} makes all of these runs.*"
    if len(pairs)
    else f"{sentences.answer(answered, effects)}\n\n"
    f"*There is no record of an intervention at the {preset} preset "
    f"yet. {sweep} makes all of them, and {one_command} one.*"
)

# %% [markdown]
# Where a factor below 1 lowers the error, a likely reason is that a smaller skip lets what the branches add count for more: a network that is farther from the identity may learn faster in so short a training. What it does in a long one these runs cannot say.

# %% [markdown]
# (before-training)=
# ## Before the first update: what theory predicts
#
# The ratios at epoch 0 need no training to be understood. Random weights fix them, and three short steps give their values with no parameter to fit. The gradient is taken to be independent of the activations, which is what mean-field theory assumes.
#
# **One layer, forwards.** A layer is a batch normalisation, a ReLU and a $k \times k$ convolution from $c$ to $d$ channels. After the normalisation a unit's values are about standard Gaussian. After the ReLU they have the second moment $\tfrac12$ and the mean $1/\sqrt{2\pi}$, so their variance is
#
# $$
# \frac12 - \frac1{2\pi} = \frac{1}{2\rho}, \qquad \rho = \frac{\pi}{\pi - 1} \approx 1.467 .
# $$
#
# He's start {cite}`he2015`, in the form that these networks use, draws the kernel's entries with the variance $2/(k^2 d)$. A channel of the output sums $k^2 c$ products. Over images and pixels it therefore has the variance
#
# $$
# k^2 c \cdot \frac{2}{k^2 d} \cdot \frac{1}{2\rho} = \frac{c}{d\,\rho} .
# $$ (eq-forwards)
#
# **One layer, backwards.** Three factors multiply the squared norm of the gradient. The convolution gives $2c/d$, whatever its stride. The ReLU lets half of it through: $\tfrac12$. The batch normalisation divides by the variance $v$ of its own input: $1/v$. Together they give $c/(d\,v)$.
#
# **A block with an identity skip** has three layers, $4n \to n \to n \to 4n$, and its input has the variance $q$. By {eq}`eq-forwards` the second normalisation sees $4/\rho$ and the third $1/\rho$. From the last layer to the first the factors are $\rho/4$, $\rho/4$ and $4/q$. Their product is $\rho^2/(4q)$, and the skip adds
# the gradient itself:
#
# $$
# \lVert g_l \rVert^2 = \Bigl(1 + \frac{\rho^2}{4 q_l}\Bigr) \lVert g_{l+1} \rVert^2 ,
# \qquad r_l = \Bigl(1 + \frac{\rho^2}{4 q_l}\Bigr)^{-1/2} .
# $$ (eq-identity)
#
# The branch's output has the variance $1/(4\rho)$, so that $q_{l+1} = q_l + 1/(4\rho)$. The variance grows from block to block, and the ratio comes nearer to 1. The deviation falls like one over the block's number, and the product of the ratios falls only like a power of it.
#
# **A Plain block** has the branch alone, and its input is another block's output. [Exercise 1](results-exercises) shows that
#
# $$
# r = \rho^{-3/2} \approx 0.563
# $$ (eq-plain)
#
# at every depth and every width, the second and third transitions included. So a Plain network is not norm-preserving at its start: on the way to the input the gradient grows by a constant factor in each block, that is, exponentially. In the deep ones the direction turns after the first updates: most of their blocks then have ratios above 1 ({numref}`fig-profiles`), and the gradient shrinks on its way back.
#
# **A ResNet's transition** goes from $c$ channels to $n$ inside the block and $4n$ at its output, and its skip is a convolution that begins after the block's first ReLU. Its ratio, and the variance that it leaves to the next block, are
#
# $$
# r = \Bigl(\frac{4 q}{\rho^2 + c/n}\Bigr)^{1/2} ,
# \qquad q_{\text{after}} = \Bigl(1 + \frac{c}{n}\Bigr) \frac{1}{4\rho} .
# $$ (eq-transition)
#
# The ratio grows with the square root of $q$, and so with about the square root of the number of blocks in the stage before. From about five blocks a stage on, a deeper ResNet's later transitions keep the norm less, while its other blocks keep it better. This is the weakness that the paper's changed transitions remove.
#
# :::{dropdown} Where a transition's ratio comes from
# This derives {eq}`eq-transition`. On its way back the gradient reaches the first ReLU by two ways.
#
# * The branch has two whole layers and the first one's convolution. The third layer, from $n$ to $4n$ channels with $v = 1/\rho$, gives $\rho/4$. The second one, from $n$ to $n$, sees the variance $c/(n\rho)$ of {eq}`eq-forwards`, and gives $\rho n/c$. The first convolution, from $c$ to $n$, gives $2c/n$. The product is $\rho^2/2$.
# * The skip is a convolution from $c$ to $4n$ channels, and gives $2c/4n$.
#
# The two add up to $(\rho^2 + c/n)/2$. The first ReLU and the normalisation before it give $\tfrac12$ and $1/q$. So the squared norm is multiplied by $(\rho^2 + c/n)/(4q)$, and the ratio is one over the root of that. Forwards the branch ends with the variance $1/(4\rho)$ and the skip with $c/(4n\rho)$, which add up to $q_{\text{after}}$.
#
# In the first {term}`stage` $c/n = 1$, in the others $c/n = 2$. If a stage has $N$ blocks, the second transition comes after the first one and $N - 1$ blocks with an identity skip, so that its $q$ is $(N+1)/(4\rho)$ and its ratio is $\bigl((N+1)/(\rho(\rho^2+2))\bigr)^{1/2}$. With few blocks it is below 1, and with five of them it is near 1.
# :::
#
# **A ProcResNet's transition** is a convolution held so that $r = 1$ for a gradient that is spread evenly over the directions. The held kernel leaves the variance of a channel as it is, so that $q$ goes on growing from stage to stage.
#
# Calculations of this kind are known for other networks: the polynomial growth that skips bring {cite}`yang2017`, the exponential one of batch normalisation without them {cite}`yang2019`, and residual blocks that begin near the identity {cite}`de2020`. Those for a ResNet's transitions were made for this page.
#
# In {numref}`fig-beginning` points on the line mean that the theory holds; {numref}`tab-beginning`, which opens on a click, gives the deviations network by network.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The theory fits most blocks of constant width. It misses the first transition of Plain networks and ResNets, and it lies above the first blocks of each ProcResNet. Ratios before the first update, geometric means over the seeds: measured (points, squares for transitions) and predicted, with the measured variance of each block's input (solid line, crosses) or with the theory's own (dotted line).", "name": "fig-beginning"}, "image": {"alt": "Nine panels, ratio against block: points on lines that rise towards one within each stage of a residual network."}}
if len(start):
    heading = f"Before the first update, {label}"
    display(draw.beginnings(start, heading))

# %% tags=["remove-input"]
accuracy = beginning.accuracy(start)
of_s0 = told.get(("S0", preset))
Markdown(
    f"{sentences.theory(accuracy)}\n\n"
    f"{sentences.hidden(accuracy, start)}"
    + (
        f"\n\nBy its rule, S0 is {of_s0.brief}"
        + (f"; {of_s0.remark}" if of_s0.remark else "")
        + "."
        if of_s0
        else ""
    )
)

# %% tags=["hide-input", "hide-output"] mystnb={"figure": {"caption": "The first transition of Plain networks and ResNets is farther from its prediction than all else. The median over the blocks of the size of the logarithm of the measured ratio over the predicted one, a mean over the seeds, with the measured variance of a block's input and with the theory's own. A dash: theory alone knows no variance behind the stem. S0 takes the same number from all runs on record, so that its last digit may differ.", "name": "tab-beginning"}}
if len(accuracy):
    short = {
        "first transition": "first transition",
        "later transitions": "later ones",
        "residual": "constant width",
    }
    ways = {
        "off": "measured variance",
        "off_unmeasured": "theory alone",
    }
    wide = (
        accuracy.rename(columns=ways)
        .replace({"blocks": short})
        .pivot(
            index="network",
            columns="blocks",
            values=list(ways.values()),
        )
    ).loc[accuracy.network.unique()]
    wide.index = list(map(sentences.titled, wide.index))
    wide = wide.rename_axis(columns=[None, None])
    wide = wide.map("{:.3f}".format, na_action="ignore")
    display(HTML(fitted(wide, "theory")))

# %% [markdown]
# Why is the first transition of a ResNet or a Plain network off? Batch normalisation divides the gradient in each channel by that channel's own variance, so that $q$ in the equations is the harmonic mean over the channels. Between random blocks all channels are alike, and every mean is the same. After the stem they are not: it sees three correlated
# colours of smooth images, so that some channels vary much and others hardly at all. A small experiment on the embedded sample of CIFAR-10 puts both means into the theory. The same is to be expected of the first blocks of a ProcResNet, because their input is still nearly an image.

# %% tags=["nbval-ignore-output", "remove-input"]
kinds = ["measured", "by_arithmetic", "by_harmonic"]
lines = []
for arch in ("resnet", "plain"):
    stems = beginning.stems(range(5), arch=arch)
    measured, arithmetic, harmonic = stems[kinds].mean()
    lines.append(
        f"* {draw.TITLES[arch]}: measured {measured:.2f}, predicted "
        f"{arithmetic:.2f} with the arithmetic mean of the channels' "
        f"variances and {harmonic:.2f} with the harmonic one"
    )
Markdown(
    f"The ratio of that transition, a mean over {len(stems)} seeds:\n\n"
    + "\n".join(lines)
)

# %% [markdown]
# How does training leave the prediction? {numref}`fig-profiles` shows which blocks stay on the dashed line.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Training takes the Plain network far from its prediction (dashed), and leaves most blocks of the networks with skips near theirs. Each block's ratio at the largest depth, geometric means over the seeds.", "name": "fig-profiles"}, "image": {"alt": "Three panels, one for each architecture: the ratio against the block's number at several epochs."}}
deepest = max(studies.GRID_DEPTHS)
followed = beginning.followed(ratios, start)
last = int(followed.epoch.max()) if len(followed) else 0
epochs = sorted({0, 1, last} & set(range(last + 1)))
if len(start):
    heading = f"Ratios, {label}"
    display(draw.profiles(followed, deepest, epochs, heading))

# %% tags=["remove-input"]
Markdown(
    sentences.left(explanation.left(ratios, start), deepest)
    or sentences.missing(
        f"a ratio before the first update of {sentences.GRID}",
        preset,
        depth=20,
        schedule="constant",
    )
)

# %% [markdown]
# (paper-scale)=
# ## At the paper's scale
#
# What is on record with the paper's epochs, images and rate is here, apart from the smaller runs: 100 epochs at a constant rate of 0.1. The precision is not the paper's: these runs were made in bfloat16, and the paper's are taken to be in float32. Of what is said above, only the verdict on F3d rests on it. {numref}`tab-paper-scale` gives the numbers, and {numref}`fig-paper-scale` the ratios.

# %% tags=["remove-input"]
shallow = claims.CLAIMS["F3d"]
large_findings = [f for f in findings if f.preset == "paper"]
at_20 = {f.claim: f for f in large_findings}.get("F3d")
off = pd.DataFrame()
if at_20:
    networks = [title(a, shallow.DEPTH) for a in draw.TITLES]
    off = pd.DataFrame(
        [
            (network, quantity.mean, quantity.n)
            for network in networks
            for name, quantity in at_20.quantities.items()
            if f" {network} (" in name
        ],
        columns=["network", "log", "n"],
    )
Markdown(
    sentences.shallow(
        dict(zip(off.network, off.log, strict=True)), off.n.min()
    )
    + " "
    + sentences.made_again(studies.repeated(all_records, "paper"))
    if len(off)
    else ""
)

# %% [markdown]
# F3d is judged on these runs, since its rule compares medians over the blocks of a network and asks for no scatter over seeds; another seed could turn it. The gaps of Table I are compared, not judged: one run has no scatter, and which of the table's rows belongs to which depth is inferred.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "At the paper's scale the median block is nearest to 1 in Plain-20 (n = 1, bfloat16). What the runs gave, beside what the paper prints for the same network.", "name": "tab-paper-scale"}}
large = studies.among(all_records, "paper")
large_grid = studies.main_grid(large)
if large:
    each = [
        paper.compare(r).assign(network=sentences.titled(r.network))
        for r in large
    ]
    if len(off):
        ratio_rows = pd.DataFrame(
            {
                "network": off.network,
                "quantity": "median block's distance from 1, a factor",
                "this run": [
                    f"{factor:.2f}" for factor in np.exp(off.log)
                ],
                "verdict": f"{told['F3d', 'paper'].said}: F3d",
            }
        )
        each = [ratio_rows, *each]
    table = pd.concat(each)
    first = ["network", "quantity", "paper"]
    table = table[[*first, *table.columns.drop(first)]]
    display(HTML(fitted(table, "paper-scale", index=False)))

# %% tags=["remove-input"]
if large:
    made = "; ".join(map(sentences.origin, large))
    said = f"*{made}. `make gpu` makes them where there is a GPU.*"
else:
    said = sentences.missing(
        "any run", "paper", depth=20, schedule="constant"
    )
Markdown(said)

# %% tags=["hide-input"] mystnb={"figure": {"caption": "ProcResNet-22's first transition ends farther from 1 than any other transition of these runs (n = 1, bfloat16). Each network at the paper's scale, in the form of the paper's Figure 3.", "name": "fig-paper-scale"}, "image": {"alt": "Lines over the epochs, one panel for each network on record."}}
there = {(r.config.arch, r.config.depth) for r in large_grid}
large_ratios = studies.ratios(large_grid)
if there:
    kinds = ", ".join(sorted({r.config.precision for r in large_grid}))
    display(
        draw.ratio_grid(
            studies.first_seeds(large_ratios),
            title=f"Paper's scale, {kinds}, n = 1",
            archs=[
                a
                for a in draw.TITLES
                if a in {arch for arch, _ in there}
            ],
            depths=sorted({depth for _, depth in there}),
        )
    )

# %% tags=["remove-input"]
at_full_scale = sentences.at_full_scale(large_ratios)
Markdown(
    "The numbers in brackets are factors away from 1, means over the "
    f"first and over the last {studies.WINDOW} epochs:\n\n"
    + "\n".join(f"* {text}" for text in at_full_scale)
    + f"\n\n{sentences.two_scales(ratios, large_ratios, preset)}"
    if at_full_scale
    else ""
)

# %% [markdown]
# (results-exercises)=
# ## Exercises
#
# **1. A Plain block.** Derive {eq}`eq-plain` from {eq}`eq-forwards` and from the three factors that a layer puts on the squared norm of the gradient. Why does the number of channels drop out?
#
# :::{admonition} Solution
# :class: dropdown
# The block's input is another block's output, whose last layer goes from $n$ to $4n$ channels. By {eq}`eq-forwards` it has the variance $1/(4\rho)$. A layer gives the factor $c/(d\,v)$. The first one, from $4n$ to $n$ with $v = 1/(4\rho)$, gives $16\rho$. The second one, with $v = 4/\rho$, gives $\rho/4$, and so does the third, from $n$ to
# $4n$ with $v = 1/\rho$. The product is $\rho^3$, and the ratio is one over its root. The channels drop out because $c/d$ stands in the factor, and its inverse in the variance that the next layer divides by.
#
# ```python
# import math
#
# from paperlib import mean_field
#
# rho = math.pi / (math.pi - 1)
# assert math.isclose((16 * rho * rho / 4 * rho / 4) ** -0.5, rho**-1.5)
# assert math.isclose(mean_field.PLAIN, rho**-1.5)
# ```
# :::
#
# **2. Two training errors, two gaps.** Averaging over an epoch makes the running training error larger than the clean one, and so does augmentation. What does that do to the gap? In the `desk` runs of {numref}`tab-gaps` the clean gap of the residual networks is the smaller one all the same. What may work the other way?
#
# :::{admonition} Solution
# :class: dropdown
# The two gaps differ by the two training errors alone: the clean gap is the running gap, plus the running error, minus the clean error. So averaging and augmentation make the clean gap the larger one. Here the clean error is the larger error, although its images are easier.
# What else differs is the batch normalisation: the running error uses the statistics of its own batch, the clean one the averages that are kept for testing. At a high rate these lag behind the weights, for training images as for test images. The records do not isolate this cause.
#
# ```python
# from paperlib.store import results_root
# from paperlib.studies import section4
#
# records = section4.main_grid(section4.stored("desk", [results_root()]))
# residual = section4.curves(r for r in records if r.config.arch != "plain")
# assert residual.clean_train_error.mean() > residual.train_error.mean()
# ```
# :::
#
# **3. A correlation without a cause.** Make up two groups of four runs whose errors and distances have a rank correlation above 0.7 over all eight, and none within either group. Which of the groups in {numref}`tab-correlations` guards against this?
#
# :::{admonition} Solution
# :class: dropdown
# Let the second group have larger values of both quantities, and let the order within a group be one that correlates with nothing. The row *within networks* guards against it: there each network's mean is taken away first, and errors change places only within a network.
#
# ```python
# import numpy as np
#
# from paperlib.studies.explanation import spearman
#
# distance = np.array([1, 2, 3, 4, 11, 12, 13, 14.0])
# error = np.array([2, 4, 1, 3, 12, 14, 11, 13.0])
# overall, p = spearman(distance, error)
# assert overall > 0.7 and p < 0.05
# assert spearman(distance[:4], error[:4])[0] == 0
# assert spearman(distance[4:], error[4:])[0] == 0
# ```
# :::
#
# **4. Why the differences are paired.** Five seeds end with errors of 61, 55, 68, 58 and 63 per cent at the target, and of 62, 57, 68.5, 59.5 and 64 per cent at another factor. Give the mean difference with its interval of 95 per cent confidence, once by pairs and once as if the two groups were independent. What does pairing take away?
#
# :::{admonition} Solution
# :class: dropdown
# The mean difference is 1.2 points either way. By pairs its interval is from 0.5 to 1.9, which shows harm. As independent groups it is from $-5.6$ to 8.0, which shows nothing. A seed fixes the first weights and the order of the images, and makes both of its runs better or worse. Pairing takes this common part away.
#
# ```python
# import numpy as np
# from scipy.stats import ttest_ind, ttest_rel
#
# target = np.array([61, 55, 68, 58, 63.0])
# other = np.array([62, 57, 68.5, 59.5, 64.0])
# paired = ttest_rel(other, target).confidence_interval()
# apart = ttest_ind(other, target).confidence_interval()
# assert np.isclose(np.mean(other - target), 1.2)
# assert np.allclose(paired, (0.5, 1.9), atol=0.05)
# assert np.allclose(apart, (-5.6, 8.0), atol=0.05)
# ```
# :::
#
# ## What follows
#
# This chapter has shown what the paper's networks do. [Chapter 6](06_your_network.ipynb) puts the same tools into a network of your own: it watches the ratios, holds the convolutions that no skip leads around, and says when that does nothing.

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
# # Why residual networks can become extremely deep
#
# A network of a thousand layers trains when each of its blocks adds what it computes to its input {cite}`he2016b`. Take these skips away, initialise the
# same layers in the usual way, and a network of 164 layers already fails. {cite:t}`zaeemzadeh2020` explain the difference by
# the norm of the gradient ([arXiv 1805.07477](https://arxiv.org/abs/1805.07477)). On its way back from the loss the gradient passes every block.
# If each block changes its norm by some factor, the factors multiply, and the gradient vanishes or explodes. A block with an identity
# skip, they say, is nearly *norm-preserving*, the more so the deeper the network is.
#
# This book builds what the paper describes, measures it, and says of each claim whether it holds. Every page runs. The authors of the book had the
# paper as plain text, without its figures and formulas, without many of the numbers in its sentences, and with one column of a table missing. Where a page says *assumed* or
# *inferred*, a reader with the paper can check it, and should.

# %% tags=["remove-cell"]
import importlib.util

if importlib.util.find_spec("paperlib") is None:
    raise ModuleNotFoundError(
        "paperlib, the library of this book, is not installed here: "
        "say `pip install norm-preservation` (once it is on the Python "
        "Package Index), or `make run` in a checkout of the book's "
        "repository, which creates an environment with it, `.venv`."
    )

# %% tags=["hide-input"] mystnb={"figure": {"caption": "After a short training the gradient's norm changes by little more than an order of magnitude from the loss (right) to the image (left) where there are skips. Without them nearly all of it is lost, and in the first blocks, above all the first transition, what is left grows again. Plain-164, ResNet-164 and ProcResNet-166 on a part of CIFAR-10, one seed each; Plain-164 has not learnt.", "name": "fig-front"}, "image": {"alt": "The norm of the gradient on a logarithmic scale, block by block. The two residual networks stay near 1. Without skips the norm falls steeply, and rises again at the first two blocks."}}
# %matplotlib inline
import math

from IPython.display import Markdown

from paperlib import claims, records, scorecard
from paperlib.figures import norm_preservation as draw
from paperlib.scorecard.text import sentences
from paperlib.store import results_root
from paperlib.studies import beginning, runs, section4

on_record = records.read_all(results_root())
back = runs.way_back(on_record)
draw.real_gradients(back)

# %% [markdown]
# ## Four findings
#
# A *Plain* network is a ResNet without its skips. A *ProcResNet* is the paper's network: where a ResNet changes its number of channels (a {term}`transition`), it
# has a convolution that is kept norm-preserving. A block's *ratio* is the gradient's norm at its output over the norm at its input.

# %% tags=["remove-input"]
card = scorecard.build(results_root())
rows = {row.claim: row for row in card.rows}
lost = back[back.arch == "plain"].log_norm
furthest = back[back.arch != "plain"].log_norm.abs().max()


def number(claim, name):
    """A number of a claim's finding."""
    (found,) = [
        n for n in rows[claim].evidence[0].numbers if n.name == name
    ]
    return found


start = beginning.beginnings(
    section4.main_grid(section4.among(on_record, "desk"))
)
accuracy = beginning.accuracy(start).query("blocks == 'residual'")
first = start[start.network == "plain-164"]
grows = math.exp(-runs.at_the_start(on_record).median())
arrives = -first.groupby(
    ["precision", "seed"]
).log_ratio.sum().mean() / math.log(10)


def most(arch):
    """The network of a kind where the formula alone is farthest off."""
    of_it = accuracy[accuracy.network.str.startswith(f"{arch}-")]
    return f"{100 * math.expm1(of_it.off_unmeasured.max()):.0f}%"


trained = [
    row
    for row in card.rows
    if row.claim[:2] in ("F3", "F4", "TI") and row.claim != "TIIp"
]  # TIIp counts parameters
decided = "; ".join(
    f"{row.claim}: *{row.verdict}*, {row.evidence[0].remark}"
    for row in trained
    if row.verdict != claims.UNTESTED
)
slopes = [
    number("T1", f"slope of δ in {x}")
    for x in ("log(2L)/L, twist, geometric", "L, twist, arc")
]

Markdown(
    f"""
1. **Skips keep the gradient. Without them it explodes before training and vanishes after it.** Before the first update the gradient of Plain-164, which has
   no skips, grows {grows:.1f}-fold in the median block on its way back, and about $10^{{{arrives:.0f}}}$-fold over all of them. After a short training, in which the network
   learns nothing, it falls to $10^{{{lost.min():.0f}}}$ of what it is at the last block, and grows again near the image, to $10^{{{lost.iloc[-1]:.0f}}}$ ({{numref}}`fig-front`). With skips it stays within a
   factor of {10**furthest:.0f} after training. Since Plain-164 does not learn, the picture alone does not tell cause from consequence.
2. **The theorem's bound is met by the maps that were built, and can be improved** (T1: *{rows["T1"].verdict}*). Two smooth maps were cut into $L$ blocks, each of which changes the norm
   by a factor between $1 - \\delta$ and $1 + \\delta$. With the paper's cuts $\\delta$ stays below the theorem's explicit bound and falls at about its rate: for one of the maps
   like $(\\log(2L)/L)^{{{slopes[0].mean:.2f}}}$ in a fit, where the theorem has the exponent 1; the cuts use a part of the blocks only, which explains the difference. In equal steps the same map
   has a $\\delta$ in proportion to $1/L$ (fitted exponent −{-slopes[1].mean:.2f}), and no construction falls faster. The theorem is about blocks that exist, not about those that training finds.
3. **Before the first update a formula without a free parameter comes near the ratios of most blocks of constant width.** At depths 20 to 164, and without any measurement, the median error over these
   blocks of a network is at most {most("resnet")} in ResNets, {most("procresnet")} in ProcResNets and {most("plain")} in Plain networks. The book's own rule (S0: *{rows["S0"].verdict}*) is
   stricter and puts in the measured variance of each block's input: {rows["S0"].evidence[0].remark}. The formula fails for the first transition of
   ResNets and of Plain networks, and for a ProcResNet's first block of constant width. [Chapter 5](05_results.ipynb) derives it.
4. **Short trainings cannot decide what the paper says of trained networks.** What they show is a {{term}}`finding` at a small size and no {{term}}`verdict`.
   Of the paper's own trainings this book has three networks of depth 20, in bfloat16 in place of float32, for the 100 epochs at a constant rate that the paper's
   Figures 3 and 4 are taken to show. They decide one claim ({decided}). Of the 300 epochs of Tables II and III it has none.

The seeds, machine, commit and command behind each verdict are in the [scorecard](00_scorecard.ipynb). The other numbers are those of chapters
[1](01_norm_preservation.ipynb), [4](04_cifar.ipynb) and [5](05_results.ipynb).
"""
)

# %% [markdown]
# ## What holds
#
# The [scorecard](00_scorecard.ipynb) has a row for each claim, with its rule, its record and what would change the verdict.

# %% tags=["remove-input"]
Markdown(sentences(card)[0])

# %% [markdown]
# ## How to read it
#
# | part | chapter | what it shows |
# |---|---|---|
# | The answer | [Scorecard](00_scorecard.ipynb) | which of the paper's claims hold |
# | I. Theory | [1](01_norm_preservation.ipynb) | why skips keep the gradient's norm: Theorems 1 and 2 and Corollary 1 built, measured, and taken to where they break |
# | | [2](02_projection.ipynb) | the singular values of a convolution, and the projection that makes them equal |
# | II. Experiments | [3](03_channel_grid.ipynb) | one convolution with its ReLU, for many numbers of channels |
# | | [4](04_cifar.ipynb) | one training run on CIFAR, chosen by parameters, with every block's ratio |
# | | [5](05_results.ipynb) | Section 4 of the paper from records, and whether norm preservation explains the accuracy |
# | III. Practice | [6](06_your_network.ipynb) | the library in a network of your own |
# | Appendix | [A](02b_published.ipynb) | where the published code differs from the paper's equations |
#
# Each chapter opens with what it shows and what was found. The openings alone take a quarter of an hour, the theory an afternoon. You should
# know how to train a network in PyTorch. The [glossary](../book/notation.md) explains the book's words, and the library's pages describe
# [`build`](../book/api/models.md), [`project`](../book/api/projection.md), [`GradientNorms`](../book/api/probes.md) and all the rest.
#
# ## How to run it
#
# From a checkout of the repository, with Python 3.10 or newer:
#
# ```bash
# make run      # chapter 4, from first to last cell
# make test     # the library's tests, and every page
# ```
#
# Both make an environment, `.venv`, first. After `source .venv/bin/activate` each chapter is a command with parameters, and one more command
# checks them all:
#
# ```bash
# papermill notebooks/04_cifar.ipynb out.ipynb -p preset desk -p depth 164
# pytest --nbval
# ```
#
# The first trains a network of 164 layers on a part of CIFAR-10, in ten to forty minutes on two cores, and leaves an executed copy of the chapter.
# Asked for again, the finished run is read and not repeated. With `-p preset paper`, which is what a machine with a CUDA device takes where no
# preset is given, it makes the paper's 300 epochs, which take hours. The second
# runs every notebook and compares what it prints with what is stored. [Reproducibility](reproducibility.ipynb) says what each page takes, where
# every number comes from, and how it is made again.

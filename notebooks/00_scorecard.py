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
# # The scorecard: which of the paper's claims hold
#
# The paper makes its claims in theorems, equations, figures and tables. Each of them has one row here, with what the paper says, what
# was measured for this book, and a verdict.

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
from IPython.display import HTML, Markdown

from paperlib import scorecard
from paperlib.scorecard import page
from paperlib.store import results_root
from paperlib.studies import section4

card = scorecard.build(results_root())
HTML(page.quotable(card))

# %% [markdown]
# ## The claims
#
# Each row shows the numbers that its rule compares, and opens to the rule and the record. What the verdicts mean is explained below the table.

# %% tags=["hide-input"]
here = results_root().parent
HTML(
    page.table(
        card,
        {f"notebooks/{p.stem}" for p in here.glob("notebooks/*.ipynb")},
    )
)

# %% [markdown]
# ## How to read it
#
# A verdict is drawn by a rule, never by hand. The rule names what is measured and where its limits lie. It ought to be older than the data
# that it judges. Where it is not, the row says so. Where a rule was replaced, the earlier one stays in the row, with what it said and
# why it went.
#
# There are four verdicts, and a fifth outcome, **undecided**, where the rule asks for runs or cases that are not there:
#
# - **reproduced**: the rule is met as the paper states the claim.
# - **reproduced with a correction**: a weaker or an amended form of the claim is met, and the chapter says which.
# - **not reproduced**: the rule is not met. That may be because the numbers go the other way, or because they scatter too much; the row says which.
# - **not yet tested at the paper's scale**: there is no measurement that could decide. A smaller
#   training may have been measured; what it came out as then stands below the verdict, in grey, and decides nothing.
#
# Which way the numbers go is computed, too. Where a rule compares groups of seeds, each comparison is tested in both directions (Welch's one-sided
# t-test). Where it has a limit and no test, a number beyond the limit goes against the claim.
#
# A row shows the numbers that its rule compares, in the statistic that the rule takes: mostly the mean over n seeds with its standard deviation, for times
# the median over n rounds, and the worst case where the rule asks for all. In the numbers on Section 4, $r$ is a block's {term}`ratio`, and $|\ln r|$ its distance
# from 1, which the records call dev. Everything else that was measured is in the folded part under its name in the record, as a mean, with the device and the commit that
# made it. The sizes are `smoke` (seconds, to see that everything works), `desk` (what two CPU cores manage) and `paper` (the paper's protocol).

# %% tags=["remove-input"]
desk = section4.stored("desk")
Markdown(
    "At `desk` the trainings of Figures 3 and 4 and Table I are "
    f"{section4.trained_on(section4.main_grid(desk))}, those of Tables II "
    "and III "
    f"{section4.trained_on(r for r in desk if r.config.schedule == 'steps')}, "
    "the fewer the deeper the network. The paper's are taken to be 100 and "
    "300 epochs of 50,000 images. Where a rule names later epochs than a "
    "training has, it takes those that are there."
)

# %% [markdown]
# What needs no training has no `paper` size, and there `desk` decides. The claims about cost are the exception, because the paper's times
# are those of a GPU: there `desk` decides only if it was measured on a GPU.
#
# ## What the open claims would take

# %% tags=["remove-input"]
Markdown(card.cost)

# %% [markdown]
# These are the trainings of Section 4. What the claims about the projection need, in chapters 2 and 3, is not among them.
#
# ## Where this comes from
#
# The page reads what is stored and computes nothing new: findings, and for the hours the list of the paper's runs
# (`workflow/config/paper.yaml`) with the steps that were timed (`results/costs/`). The same table is data in
# <a href="../results/scorecard.json"><code>results/scorecard.json</code></a>. Three commands make it again:
#
# ```bash
# paperlib scorecard                 # this table, from the findings
# paperlib measure T2 --out results  # one finding
# make evidence                      # what needs no training, anew
# ```

"""Gradient-norm ratios in the training loops of other libraries.

:class:`paperlib.callbacks.lightning.GradientNormsCallback` is for Lightning's ``Trainer``,
:class:`paperlib.callbacks.transformers.GradientNormsCallback` for that of Hugging Face's transformers.  Each watches
the network with a :class:`paperlib.probes.GradientNorms` and logs to whatever the trainer logs to.
"""

from __future__ import annotations

import math

from paperlib import _checks
from paperlib.probes import GradientNorms


def scalars(probe: GradientNorms) -> dict[str, float]:
    """What is logged: the blocks' ratios, averaged over the steps since the last call.

    Averages are geometric, because ratios multiply over blocks.  A block without a ratio is left out.

    Parameters
    ----------
    probe : GradientNorms
        The probe.  Its averages begin anew.

    Returns
    -------
    dict of str to float
        ``grad_ratio/<block>`` for each block.

    Examples
    --------
    >>> import torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(2, 2))
    >>> with GradientNorms(model, model) as probe:
    ...     model(torch.ones(1, 2)).sum().backward()
    >>> list(scalars(probe)), scalars(probe)
    (['grad_ratio/0'], {})
    """
    rows = _checks.instance("probe", probe, GradientNorms, "a GradientNorms").averages()
    probe.reset()
    return {f"grad_ratio/{row['name']}": math.exp(row["log_ratio"]) for row in rows if row["steps"]}

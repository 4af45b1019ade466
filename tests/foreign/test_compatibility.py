"""The stored table of other people's networks: it is what the page shows, it is whole, and a part is measured again."""

import pytest
import torch
from foreign import table
from foreign.cases import CASES
from foreign.measure import COLUMNS, column, verdict
from torch import nn

from paperlib import orthogonal

STORED = {(row["package"], row["network"]): row for row in table.stored()["rows"]}
# Of every kind one or two that take seconds, and the columns that do.
AGAIN = {
    ("torchvision", "densenet121"): ("hold", "probe", "vjp", "autocast", "DDP", "spectrum", "orthogonal"),
    ("torchvision", "alexnet"): ("probe", "orthogonal"),
    ("torchvision", "shufflenet_v2_x0_5"): ("hold", "probe", "vjp", "spectrum"),
    ("torchvision", "vit"): tuple(COLUMNS),
    ("own", "u_net"): ("hold", "probe", "vjp", "spectrum"),
    ("own", "lstm"): tuple(COLUMNS),
    ("own", "tied_blocks"): tuple(COLUMNS),
    ("own", "keyword_blocks"): tuple(COLUMNS),
    ("timm", "convnext"): ("hold", "probe", "vjp", "orthogonal"),
    ("transformers", "t5"): ("hold", "probe", "vjp"),
}


def test_the_page_shows_what_is_stored():
    page = table.PAGE.read_text()
    assert table.on_page(page, table.stored()) == page


def test_every_network_and_column_is_stored_and_nothing_in_it_is_wrong():
    assert list(STORED) == [(case.package, case.name) for case in CASES]
    for row in STORED.values():
        for name, entry in table.entries(row).items():
            if torch_lacks(row["network"], name, entry):
                continue
            assert entry.outcome in ("agrees", "refused"), (row["network"], name, entry)
            assert entry.outcome == "agrees" or (len(entry.sentences) == 1 and "\n" not in [*entry.sentences][0])


@pytest.mark.parametrize(
    ("measured", "outcome"),
    [
        (lambda case: verdict(1e-7, 1e-6, {}), "agrees"),
        (lambda case: verdict(1e-5, 1e-6, {}), "wrong"),
        (lambda case: verdict(float("nan"), 1e-6, {}), "wrong"),
        (lambda case: orthogonal(nn.Conv1d(2, 2, 1)), "refused"),  # by the library
        (lambda case: torch.ones(2) @ torch.ones(3), "error"),  # by torch
    ],
)
def test_an_entry_tells_what_was_refused_from_what_went_wrong(measured, outcome):
    assert column(measured)(None).outcome == outcome


@pytest.mark.slow
@pytest.mark.parametrize("case", [case for case in CASES if (case.package, case.name) in AGAIN],
                         ids=lambda case: f"{case.package}-{case.name}")  # fmt: skip
def test_it_is_so_again(case):
    if not case.is_installed:
        pytest.skip(f"{case.package} is not installed")
    stored = table.entries(STORED[case.package, case.name])
    for name in AGAIN[case.package, case.name]:
        if (case.name, name) == ("lstm", "autocast"):  # it depends on the processor, see torch_lacks
            continue
        found = COLUMNS[name](case)
        assert found._replace(figure=None) == stored[name]._replace(figure=None), name
        assert name == "autocast" or alike(found.figure, stored[name].figure), (name, found.figure)


def torch_lacks(network, column, entry):
    """Whether the entry says that torch itself has no LSTM in bfloat16, as on a processor without AVX-512."""
    said = "".join(entry.sentences)
    return (network, column) == ("lstm", "autocast") and "could not create a primitive descriptor for the LSTM" in said


def alike(found: float | None, stored: float | None) -> bool:
    """Whether two figures are of one size, or both are rounding."""
    if found is None or stored is None:
        return found is stored
    return max(found, stored) <= 1e-5 or max(found, stored) <= 2 * min(found, stored)

"""Which modules are a network's blocks where nobody says so."""

import pytest
import torch
import torchvision
from torch import nn

from paperlib.probes.blocks import named_blocks, repeated_blocks, unwrap

MODELS = {
    "resnet50": (16, "layer1.0", "layer4.2"),
    "resnet18": (8, "layer1.0", "layer4.1"),
    "vit_b_16": (12, "encoder.layers.encoder_layer_0", "encoder.layers.encoder_layer_11"),
    "swin_t": (15, "features.1.0", "features.7.1"),
    "convnext_tiny": (18, "features.1.0", "features.7.2"),
    "mobilenet_v2": (17, "features.1", "features.17"),
    "efficientnet_b0": (16, "features.1.0", "features.7.0"),
    "densenet121": (4, "features.denseblock1", "features.denseblock4"),
}


@pytest.mark.parametrize("name", MODELS)
def test_torchvisions_models(name):
    with torch.device("meta"):
        model = getattr(torchvision.models, name)(weights=None)
    found = named_blocks(model, None)
    assert (len(found), found[0].name, found[-1].name) == MODELS[name]
    types = {type(block.module).__name__ for block in found}
    assert len(types) == 1 or types == {"SwinTransformerBlock", "PatchMerging"}  # which follow one another


def test_models_that_say_what_their_blocks_are():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.stages = nn.ModuleList(nn.Linear(2, 2) for _ in range(3))
            self.blocks = nn.ModuleList([nn.Linear(2, 2)])

    assert [block.name for block in named_blocks(Model(), None)] == ["blocks.0"]
    model = Model()
    del model.blocks
    model.blocks = 3  # a number of blocks is none of them
    with pytest.raises(ValueError, match="stages .3 entries"):
        named_blocks(model, None)


def test_an_encoder_and_a_decoder_of_one_layer_type_each():
    model = nn.Transformer(8, 2, 2, 3, 16, batch_first=True)
    types = [type(block).__name__ for block in repeated_blocks(model)]
    assert types == ["TransformerEncoderLayer"] * 2 + ["TransformerDecoderLayer"] * 3


def test_of_nested_ones_the_outermost():
    class Expert(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(2, 2)

    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.experts = nn.ModuleList(Expert() for _ in range(4))

    model = nn.Sequential(*(Layer() for _ in range(2)))
    assert repeated_blocks(model) == list(model)


def test_chains_of_chains():
    model = nn.Sequential(nn.Linear(2, 2), nn.ModuleList(nn.Sequential(nn.Linear(2, 2), nn.Tanh()) for _ in range(3)))
    assert repeated_blocks(model) == list(model[1])
    assert repeated_blocks(nn.ModuleList([model[1], nn.Linear(2, 2)])) == list(model[1])


def test_where_nothing_repeats_the_chains_are_named():
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    with pytest.raises(
        ValueError, match=r"no type of module with parts of its own repeats .* chains: the model itself \(3 entries\)"
    ):
        repeated_blocks(model)
    with pytest.raises(ValueError, match="pass blocks=.*forward order$"):
        repeated_blocks(nn.Linear(2, 2))


def test_containers_can_be_given():
    model = nn.Sequential(nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.ReLU()}))
    assert [block.name for block in named_blocks(model, model[0])] == ["0.a", "0.b"]


def test_a_model_that_is_its_own_block():
    model = nn.Linear(2, 2)
    assert [block.name for block in named_blocks(model, [model])] == ["Linear"]


def test_unwrap_takes_off_everything():
    model = nn.Linear(2, 2)
    assert unwrap(torch.compile(nn.DataParallel(torch.compile(model)))) is model

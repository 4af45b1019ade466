"""The networks of the compatibility table: real builders on small inputs, or small configurations of real classes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
import torchvision.models as tv
from foreign import models
from torch import nn
from torchvision.models import convnext, maxvit, regnet, resnet, segmentation, swin_transformer, vgg
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.detection.backbone_utils import BackboneWithFPN


class Case(NamedTuple):
    """One network: what makes it, with what it is called, and which blocks are watched if it does not say so itself."""

    name: str
    package: str
    make: Callable[[], nn.Module]
    example: Callable[[], Any]
    blocks: tuple[str, ...] | None = None

    @property
    def is_installed(self) -> bool:
        return self.package == "own" or find_spec(self.package) is not None


def images(side: int = 32, channels: int = 3) -> Callable[[], torch.Tensor]:
    return lambda: torch.randn(4, channels, side, side)


def tokens(*names: str) -> Callable[[], dict[str, torch.Tensor]]:
    return lambda: {name: torch.randint(0, 50, (2, 8)) for name in names}


# -- torchvision ---------------------------------------------------------------------------------------------------
def small_vgg(batch_norm: bool) -> nn.Module:
    """torchvision's VGG with an eighth of the channels, and a small classifier behind them."""
    plan: list[str | int] = [8, "M", 16, "M", 32, 32, "M", 64, 64, "M"]
    net = vgg.VGG(vgg.make_layers(plan, batch_norm), init_weights=False)
    net.classifier = nn.Sequential(nn.Linear(64 * 49, 32), nn.ReLU(True), nn.Linear(32, 10))
    return net


def small_alexnet() -> nn.Module:
    """torchvision's AlexNet with a quarter of the channels, and a small classifier behind them."""
    net = tv.alexnet(num_classes=10)
    for i, layer in enumerate(net.features):
        if isinstance(layer, nn.Conv2d):
            c, d = max(3, layer.in_channels // 4), layer.out_channels // 4
            net.features[i] = nn.Conv2d(c, d, layer.kernel_size, layer.stride, layer.padding)
    net.classifier = nn.Sequential(nn.Linear(64 * 36, 32), nn.ReLU(inplace=True), nn.Linear(32, 10))
    return net


def bottlenecks(width: int, **settings: Any) -> nn.Module:
    """A ResNet of five bottlenecks, so wide inside (the first ones of a ResNet-50: 64)."""
    return resnet.ResNet(resnet.Bottleneck, [2, 1, 1, 1], num_classes=10, width_per_group=width, **settings)


def backbone(last: str = "out") -> nn.Module:
    layers = tv.mobilenet_v3_small(dilated=True).features
    return IntermediateLayerGetter(layers, {"3": "low", "12": last})


def small_fpn() -> nn.Module:
    net = resnet.ResNet(resnet.BasicBlock, [1, 1, 1, 1])
    layers = {f"layer{i}": str(i) for i in range(1, 5)}
    return BackboneWithFPN(net, layers, [64, 128, 256, 512], out_channels=16)


def small_convnext() -> nn.Module:
    settings = [convnext.CNBlockConfig(16, 32, 2), convnext.CNBlockConfig(32, None, 2)]
    return convnext.ConvNeXt(settings, num_classes=10)


def small_regnet() -> nn.Module:
    params = regnet.BlockParams.from_init_params(depth=6, w_0=24, w_a=24.0, w_m=2.0, group_width=8, se_ratio=0.25)
    return regnet.RegNet(params, num_classes=10, stem_width=16)


def small_swin() -> nn.Module:
    return swin_transformer.SwinTransformer(
        patch_size=[4, 4], embed_dim=16, depths=[2, 2], num_heads=[2, 4], window_size=[4, 4], num_classes=10,
        dropout=0.0, attention_dropout=0.0, stochastic_depth_prob=0.0,
    )  # fmt: skip


def small_maxvit() -> nn.Module:
    return maxvit.MaxVit(
        input_size=(32, 32), stem_channels=8, partition_size=2, block_channels=[8, 16], block_layers=[2, 2],
        head_dim=8, stochastic_depth_prob=0.0, num_classes=10,
    )  # fmt: skip


TORCHVISION = {
    "resnet18": (tv.resnet18, 32),
    "resnet50": (functools.partial(bottlenecks, 16), 32),
    "resnext50": (functools.partial(bottlenecks, 2, groups=16), 32),
    "wide_resnet50": (functools.partial(bottlenecks, 32), 32),
    "vgg11": (functools.partial(small_vgg, False), 32),
    "vgg11_bn": (functools.partial(small_vgg, True), 32),
    "alexnet": (small_alexnet, 64),
    "squeezenet1_1": (functools.partial(tv.squeezenet1_1, num_classes=10), 32),
    "densenet121": (functools.partial(tv.DenseNet, growth_rate=16, block_config=(2, 2, 2, 2), num_classes=10), 32),
    "googlenet": (functools.partial(tv.googlenet, num_classes=10, aux_logits=False, init_weights=False), 32),
    "inception_v3": (functools.partial(tv.inception_v3, num_classes=10, aux_logits=False, init_weights=False), 75),
    "mobilenet_v2": (functools.partial(tv.mobilenet_v2, num_classes=10), 32),
    "mobilenet_v3_small": (functools.partial(tv.mobilenet_v3_small, num_classes=10), 32),
    "mnasnet0_5": (functools.partial(tv.mnasnet0_5, num_classes=10), 32),
    "shufflenet_v2_x0_5": (functools.partial(tv.shufflenet_v2_x0_5, num_classes=10), 32),
    "efficientnet_b0": (functools.partial(tv.efficientnet_b0, num_classes=10), 32),
    "regnet_y": (small_regnet, 32),
    "convnext": (small_convnext, 32),
    "vit": (functools.partial(tv.VisionTransformer, 32, 8, 2, 2, 32, 64, num_classes=10), 32),
    "swin": (small_swin, 32),
    "maxvit": (small_maxvit, 32),
    "resnet_fpn": (small_fpn, 32),
    "fcn": (lambda: segmentation.FCN(backbone(), segmentation.fcn.FCNHead(576, 5)), 32),
    "deeplabv3": (lambda: segmentation.DeepLabV3(backbone(), segmentation.deeplabv3.DeepLabHead(576, 5)), 32),
    "lraspp": (lambda: segmentation.LRASPP(backbone("high"), 24, 576, 5), 32),
}  # fmt: skip


def _each(name: str, ends: str) -> tuple[str, ...]:
    return tuple(name + end for end in ends.split())


# Blocks that are named, because they do not lie in a container where their type repeats.
NAMED = {
    "vgg11": _each("features.", "0 3 6 8 11 13"),
    "vgg11_bn": _each("features.", "0 4 8 11 15 18"),
    "alexnet": _each("features.", "0 3 6 8 10"),
    "googlenet": _each("inception", "3a 3b 4a 4b 4c 4d 4e 5a 5b"),
    "inception_v3": _each("Mixed_", "5b 5c 5d 6a 6b 6c 6d 6e 7a 7b 7c"),
}


def _torchvision() -> list[Case]:
    found = [
        Case(name, "torchvision", make, images(side), NAMED.get(name)) for name, (make, side) in TORCHVISION.items()
    ]
    video = functools.partial(tv.video.r3d_18, num_classes=5)
    return [*found, Case("r3d_18", "torchvision", video, lambda: torch.randn(2, 3, 4, 16, 16))]


# -- our own -------------------------------------------------------------------------------------------------------
OWN = [
    Case("u_net", "own", models.UNet, images(16), ("down.0", "down.1", "bottom", "join.0", "join.1")),
    Case("rep_vgg", "own", models.rep_vgg, images()),
    Case("transformer_encoder", "own", models.encoder, lambda: torch.randn(2, 6, 16)),
    Case("lstm", "own", models.LSTMClassifier, lambda: torch.randn(2, 6, 8), ("layers.0", "layers.1")),
    Case("conv1d", "own", models.conv1d, lambda: torch.randn(2, 4, 32), ("0", "2")),
    Case("depthwise", "own", models.depthwise, images()),
    Case("auxiliary_heads", "own", models.AuxiliaryHeads, images(), ("stages.0", "stages.1", "stages.2")),
    Case("tied_blocks", "own", models.Tied, images(16)),
    Case("keyword_blocks", "own", models.Keywords, images(16)),
]


# -- timm ----------------------------------------------------------------------------------------------------------
def _timm() -> list[Case]:
    def made(module: str, kind: str, **settings: Any) -> Callable[[], nn.Module]:
        return lambda: getattr(import_module(f"timm.models.{module}"), kind)(num_classes=10, **settings)

    def resnet() -> nn.Module:
        from timm.models.resnet import BasicBlock, ResNet

        return ResNet(BasicBlock, [1, 1, 1, 1], num_classes=10, channels=[8, 16, 32, 64], stem_width=8)

    patches = {"img_size": 32, "patch_size": 8}
    return [
        Case("resnet", "timm", resnet, images()),
        Case("convnext", "timm", made("convnext", "ConvNeXt", depths=(1, 1, 2, 1), dims=(8, 16, 32, 64)), images(64)),
        Case("vit", "timm", made("vision_transformer", "VisionTransformer", **patches, embed_dim=32, depth=2,
                                 num_heads=2), images()),
        Case("mixer", "timm", made("mlp_mixer", "MlpMixer", **patches, num_blocks=2, embed_dim=32), images()),
    ]  # fmt: skip


# -- transformers --------------------------------------------------------------------------------------------------
def _transformers() -> list[Case]:
    def made(kind: str, config: str, **settings: Any) -> Callable[[], nn.Module]:
        def make() -> nn.Module:
            package = import_module("transformers")
            return getattr(package, kind)(getattr(package, config)(**settings))

        return make

    text = {"vocab_size": 50, "use_cache": False}  # with a cache a block cannot be called again by itself
    bert = text | {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    gpt = text | {"n_embd": 16, "n_layer": 3, "n_head": 2, "n_positions": 16, "resid_pdrop": 0.0, "embd_pdrop": 0.0}
    t5 = text | {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2, "dropout_rate": 0.0}
    vit = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    stages = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 2], "layer_type": "basic"}
    numbers, pairs = tokens("input_ids"), tokens("input_ids", "decoder_input_ids")

    def pictures() -> dict[str, torch.Tensor]:
        return {"pixel_values": torch.randn(4, 3, 32, 32)}

    return [
        Case("gpt2", "transformers", made("GPT2LMHeadModel", "GPT2Config", attn_pdrop=0.0, **gpt), numbers),
        Case("bert", "transformers", made("BertModel", "BertConfig", **bert, **still), numbers),
        Case("llama", "transformers", made("LlamaForCausalLM", "LlamaConfig", num_key_value_heads=1, **bert), numbers),
        Case("t5", "transformers", made("T5ForConditionalGeneration", "T5Config", **t5), pairs),
        Case("resnet", "transformers", made("ResNetForImageClassification", "ResNetConfig", **stages), pictures),
        Case("vit", "transformers", made("ViTForImageClassification", "ViTConfig", image_size=32, patch_size=8, **vit,
                                         **still), pictures),
        Case("convnext", "transformers", made("ConvNextForImageClassification", "ConvNextConfig",
                                              hidden_sizes=[8, 16, 32, 64], depths=[1, 1, 2, 1]), pictures),
    ]  # fmt: skip


CASES = [*_torchvision(), *OWN, *_timm(), *_transformers()]

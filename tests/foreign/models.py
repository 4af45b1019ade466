"""Small networks of the usual kinds that torchvision, timm and transformers do not have, or not in this form."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def conv_bn(c: int, d: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(c, d, 3, stride, 1, bias=False), nn.BatchNorm2d(d), nn.ReLU())


class UNet(nn.Module):
    """Two levels down and two up, with transposed convolutions and concatenations."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList([conv_bn(3, 8), conv_bn(8, 16)])
        self.bottom = conv_bn(16, 32)
        self.up = nn.ModuleList([nn.ConvTranspose2d(32, 16, 2, 2), nn.ConvTranspose2d(16, 8, 2, 2)])
        self.join = nn.ModuleList([conv_bn(32, 16), conv_bn(16, 8)])
        self.head = nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for down in self.down:
            x = down(x)
            skips.append(x)
            x = F.max_pool2d(x, 2)
        x = self.bottom(x)
        for up, join in zip(self.up, self.join, strict=True):
            x = join(torch.cat([up(x), skips.pop()], dim=1))
        return self.head(x)


class RepVGGBlock(nn.Module):
    """A 3×3 convolution, a 1×1 convolution and the identity beside each other, each with its normalisation."""

    def __init__(self, c: int, d: int, stride: int = 1) -> None:
        super().__init__()
        self.wide = nn.Sequential(nn.Conv2d(c, d, 3, stride, 1, bias=False), nn.BatchNorm2d(d))
        self.narrow = nn.Sequential(nn.Conv2d(c, d, 1, stride, bias=False), nn.BatchNorm2d(d))
        self.same = nn.BatchNorm2d(c) if c == d and stride == 1 else None

    def forward(self, x: Tensor) -> Tensor:
        out = self.wide(x) + self.narrow(x)
        return F.relu(out if self.same is None else out + self.same(x))


def classifier(*body: nn.Module, channels: int) -> nn.Sequential:
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10))


def rep_vgg() -> nn.Module:
    return classifier(RepVGGBlock(3, 16, 2), RepVGGBlock(16, 16), RepVGGBlock(16, 32, 2), channels=32)


def depthwise() -> nn.Module:
    """Depthwise and pointwise convolutions in turns."""

    def block(c: int, d: int, stride: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(c, c, 3, stride, 1, groups=c), nn.ReLU(inplace=True), nn.Conv2d(c, d, 1), nn.ReLU(inplace=True)
        )

    return classifier(nn.Conv2d(3, 16, 3, 2, 1), block(16, 24, 1), block(24, 32, 2), channels=32)


def conv1d() -> nn.Module:
    """For series: one axis, with a stride and a dilation."""
    return nn.Sequential(
        nn.Conv1d(4, 16, 5, stride=2, padding=2), nn.ReLU(), nn.Conv1d(16, 16, 3, padding=2, dilation=2), nn.ReLU(),
        nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(16, 5),
    )  # fmt: skip


class LSTMClassifier(nn.Module):
    """Two layers over a series; the loss sees the last step."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.LSTM(8, 16, batch_first=True), nn.LSTM(16, 16, batch_first=True)])
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x, _ = layer(x)
        return self.head(x[:, -1])


def encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
    return nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)


class AuxiliaryHeads(nn.Module):
    """Each stage has a head of its own, and all of their outputs are returned in a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList([conv_bn(3, 8, 2), conv_bn(8, 16, 2), conv_bn(16, 32, 2)])
        self.heads = nn.ModuleList([nn.Conv2d(8, 5, 1), nn.Conv2d(16, 5, 1), nn.Conv2d(32, 5, 1)])

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        found = {}
        for i, (stage, head) in enumerate(zip(self.stages, self.heads, strict=True)):
            x = stage(x)
            found[f"head{i}"] = head(x).mean(dim=(2, 3))
        return found


class Tied(nn.Module):
    """Two blocks of which each is called twice, and two convolutions that have one kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.steps = nn.ModuleList([conv_bn(8, 8), conv_bn(8, 8)])
        self.one, self.two = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)
        self.two.weight = self.one.weight

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for step in (*self.steps, *self.steps):
            x = x + step(x)
        return self.two(self.one(x)).mean(dim=(2, 3))


class KeywordBlock(nn.Module):
    """Takes its input by keyword, and returns a dict with a tuple in it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, *, hidden: Tensor, scale: float = 1.0) -> dict[str, Any]:
        out = self.conv(hidden)
        return {"hidden": hidden + scale * torch.tanh(out), "other": (out.detach().argmax(dim=1), out)}


class Keywords(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 1)
        self.steps = nn.ModuleList([KeywordBlock(8) for _ in range(3)])

    def forward(self, image: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        state: dict[str, Any] = {"hidden": self.stem(image)}
        for step in self.steps:
            state = step(hidden=state["hidden"], scale=0.5)
        return state["hidden"].mean(dim=(2, 3)), {"map": state["other"][1]}

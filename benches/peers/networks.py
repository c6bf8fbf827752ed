"""The networks of this project in PyTorch, NCHW in and logits out, as a careful user would write them.

`build(name)` makes one by the name that it has in params.yaml. Layers, widths and what is trained are the same as in
crates/cifar-model; the random initial values are not.
"""

import torch
from torch import nn
from torch.nn import functional as F

ARCHITECTURES = ("airbench94", "airbench96", "resnet18", "simple_cnn")


def build(name: str, classes: int = 10, size: int = 32) -> nn.Module:
    """Returns a network for `size`×`size` images, in the memory format that is fastest on a CPU."""
    make = {
        "airbench94": lambda: Airbench((64, 256, 256), convolutions=2, classes=classes),
        "airbench96": lambda: Airbench((128, 512, 512), convolutions=3, classes=classes),
        "resnet18": lambda: ResNet18(classes),
        "simple_cnn": lambda: SimpleCnn(classes, size, dropout=0.3, conv_dropout=0.0),
    }
    return make[name]().to(memory_format=torch.channels_last)


class SimpleCnn(nn.Module):
    """Three blocks of two 3×3 convolutions and a pooling layer, a dense layer of 128 units, and a head."""

    def __init__(self, classes: int, size: int, dropout: float, conv_dropout: float):
        super().__init__()
        layers, channels = [], 3
        for width in (32, 64, 128):
            for _ in range(2):
                layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
                channels = width
            layers += [nn.MaxPool2d(2), nn.Dropout(conv_dropout)]
        features = channels * (size // 8) ** 2
        layers += [nn.Flatten(), nn.Linear(features, 128, bias=False), nn.BatchNorm1d(128), nn.ReLU(), nn.Dropout(dropout)]
        self.body, self.head = nn.Sequential(*layers), nn.Linear(128, classes)
        for module in self.body.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        nn.init.zeros_(self.head.bias)

    def forward(self, images):
        return self.head(self.body(images))


def shifting_norm(channels: int) -> nn.BatchNorm2d:
    """Batch norm with a learnt shift and no scale. The momentum of its running statistics is 0.4."""
    norm = nn.BatchNorm2d(channels, eps=1e-12, momentum=0.4)
    norm.weight.requires_grad_(False)
    return norm


class Group(nn.Module):
    """conv → 2×2 max pooling → norm → GELU, then one more convolution, or two with a residual connection."""

    def __init__(self, inputs: int, outputs: int, convolutions: int):
        super().__init__()
        widths = [inputs] + [outputs] * convolutions
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1, bias=False) for a, b in zip(widths, widths[1:]))
        self.norms = nn.ModuleList(shifting_norm(outputs) for _ in range(convolutions))

    def forward(self, x):
        first = x = F.gelu(self.norms[0](F.max_pool2d(self.convs[0](x), 2)))
        for conv, norm in list(zip(self.convs, self.norms))[1:-1]:
            x = F.gelu(norm(conv(x)))
        x = self.norms[-1](self.convs[-1](x))
        return F.gelu(x if len(self.convs) == 2 else x + first)


class Airbench(nn.Module):
    """Fixed 2×2 filters with a trained bias, three groups, 3×3 max pooling and a head with scaled-down logits."""

    def __init__(self, widths, convolutions: int, classes: int):
        super().__init__()
        self.whiten = nn.Conv2d(3, 24, 2)
        self.whiten.weight.requires_grad_(False)
        nn.init.zeros_(self.whiten.bias)
        channels = [24, *widths]
        self.groups = nn.Sequential(*(Group(a, b, convolutions) for a, b in zip(channels, widths)))
        self.head = nn.Linear(widths[-1], classes, bias=False)

    def forward(self, images):
        x = F.max_pool2d(self.groups(F.gelu(self.whiten(images))), 3)
        return self.head(x.flatten(1)) / self.head.in_features


class Block(nn.Module):
    """Two convolutions with a shortcut: a 1×1 convolution if the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm1, self.norm2 = nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)
        self.shortcut = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x):
        y = F.relu(self.norm1(self.conv1(x)), inplace=True)
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x), inplace=True)


class ResNet18(nn.Module):
    """ResNet-18 for small images: a 3×3 stem with stride 1, and no pooling before the four stages."""

    def __init__(self, classes: int):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True))
        blocks, inputs = [], 64
        for width, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
            blocks += [Block(inputs, width, stride), Block(width, width, 1)]
            inputs = width
        self.stages, self.head = nn.Sequential(*blocks), nn.Linear(512, classes)

    def forward(self, images):
        return self.head(self.stages(self.stem(images)).mean((2, 3)))

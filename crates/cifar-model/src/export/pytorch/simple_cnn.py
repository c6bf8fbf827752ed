"""A small convolutional network for images, exported by cifar-model.

`load()` returns it in evaluation mode. It takes RGB images as floats in 0..1, [N, 3, height, width],
and returns logits [N, classes]. Needs torch and safetensors.
"""

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

FOLDER = Path(__file__).parent
CONFIG = json.loads((FOLDER / "config.json").read_text(encoding="utf-8"))
CLASSES = CONFIG["classes"]


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        return F.max_pool2d(F.relu(self.bn2(self.conv2(x))), 2)


class SimpleCnn(nn.Module):
    def __init__(self, dense: int = 128):
        super().__init__()
        network = CONFIG["network"]
        widths = network["widths"]
        self.register_buffer("mean", torch.empty(3, 1, 1))
        self.register_buffer("std", torch.empty(3, 1, 1))
        self.blocks = nn.Sequential(*(Block(i, o) for i, o in zip([3, *widths], widths)))
        pixels = (CONFIG["height"] // 8) * (CONFIG["width"] // 8)
        self.dense = nn.Linear(widths[-1] * pixels, dense, bias=False)
        self.dense_bn = nn.BatchNorm1d(dense)
        self.dropout = nn.Dropout(network["dropout"])
        self.head = nn.Linear(dense, len(CLASSES))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.blocks((images - self.mean) / self.std)
        x = F.relu(self.dense_bn(self.dense(x.flatten(1))))
        return self.head(self.dropout(x))


def load() -> SimpleCnn:
    network = SimpleCnn()
    network.load_state_dict(load_file(FOLDER / "model.safetensors"))
    return network.eval()

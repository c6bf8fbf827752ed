"""An airbench network (Jordan 2024, arXiv 2404.00498), exported by cifar-model.

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
# airbench96 has a third convolution per group, with a residual connection around the last two.
RESIDUAL = CONFIG["architecture"] == "airbench96"


class Group(nn.Module):
    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        widths = [inputs] + [outputs] * (2 if RESIDUAL else 1)
        self.convs = nn.ModuleList(nn.Conv2d(w, outputs, 3, padding=1, bias=False) for w in widths)
        self.norms = nn.ModuleList(nn.BatchNorm2d(outputs, eps=1e-12, momentum=0.4) for _ in widths)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = first = F.gelu(self.norms[0](F.max_pool2d(self.convs[0](x), 2)))
        for conv, norm in zip(self.convs[1:-1], self.norms[1:-1]):
            x = F.gelu(norm(conv(x)))
        x = self.norms[-1](self.convs[-1](x))
        return F.gelu(x + first if RESIDUAL else x)


class Airbench(nn.Module):
    def __init__(self):
        super().__init__()
        widths = CONFIG["network"]["widths"]
        self.register_buffer("mean", torch.empty(3, 1, 1))
        self.register_buffer("std", torch.empty(3, 1, 1))
        self.whitening = nn.Conv2d(3, 24, 2)
        self.groups = nn.Sequential(*(Group(i, o) for i, o in zip([24, *widths], widths)))
        self.head = nn.Linear(widths[-1], len(CLASSES), bias=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = F.gelu(self.whitening((images - self.mean) / self.std))
        x = self.groups(x).amax((2, 3))
        return self.head(x) / x.shape[1]


def load() -> Airbench:
    network = Airbench()
    network.load_state_dict(load_file(FOLDER / "model.safetensors"))
    return network.eval()

"""Writes a resnet18 with the tensor names of timm and a stem for small images, as `train.init` of params.yaml reads it.

The modules have the names and shapes of `timm.create_model("resnet18")` after

    model.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)   # 3x3 with stride 1 instead of 7x7 with stride 2
    model.maxpool = nn.Identity()

so timm itself is not needed. Weights, scales and running statistics are random. The file also has the tensors `mean` and
`std` of the pixel normalisation, for values in 0..1, without which nobody could compute the same logits.

    python benches/peers/timm_resnet18.py resnet18.safetensors                       # for train.init
    python benches/peers/timm_resnet18.py tests/resnet18.safetensors --widths 2 3 4 5 --classes 3 --goldens tests/resnet18.json

`--goldens` also writes pixels of two images and PyTorch's logits of them, for the tests of crates/cifar-model.

Needs: torch, safetensors.
"""

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
# Height and width of the golden images: odd, so that strides round.
HEIGHT, WIDTH = 9, 12


class BasicBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet18(nn.Module):
    def __init__(self, widths: list[int], classes: int):
        super().__init__()
        self.conv1 = nn.Conv2d(3, widths[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        inputs = widths[0]
        for number, (width, stride) in enumerate(zip(widths, (1, 2, 2, 2)), start=1):
            setattr(self, f"layer{number}", nn.Sequential(BasicBlock(inputs, width, stride), BasicBlock(width, width, 1)))
            inputs = width
        self.fc = nn.Linear(inputs, classes)

    def forward(self, pixels):
        """Logits of [N, 3, height, width] bytes."""
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
        x = F.relu(self.bn1(self.conv1((pixels / 255 - mean) / std)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean((2, 3)))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--widths", type=int, nargs=4, default=[64, 128, 256, 512])
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--goldens", type=Path)
    given = parser.parse_args()
    torch.manual_seed(given.seed)
    model = ResNet18(given.widths, given.classes).eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-0.5, 0.5)
                module.running_mean.uniform_(-0.5, 0.5)
                module.running_var.uniform_(0.5, 2.0)
    tensors = {**model.state_dict(), "mean": torch.tensor(MEAN), "std": torch.tensor(STD)}
    save_file(tensors, given.file, metadata={"format": "pt"})
    if given.goldens:
        pixels = torch.randint(0, 256, (2, 3, HEIGHT, WIDTH), dtype=torch.uint8)
        pixels[1] //= 4  # a dark image, whose logits differ clearly from those of the first
        with torch.no_grad():
            logits = model.double()(pixels.double())
        rows = pixels.permute(0, 2, 3, 1)
        goldens = {"height": HEIGHT, "width": WIDTH, "pixels": rows.flatten().tolist(), "logits": logits.tolist()}
        given.goldens.write_text(json.dumps(goldens) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""airbench94 in PyTorch, on the same split and with the same recipe as `cifar-cli recipe airbench94` and `cifar-cli train`.

Reads data/prepared and data/raw/pool (images.safetensors) below the given project folder, trains on the CPU and prints one
JSON object: accuracy on the test images with and without test-time augmentation, and seconds of loading, training and
testing. Network, optimisers, schedule, augmentation and views are those of the recipe; the random draws are not the same.

    python benches/peers/airbench94.py --project . [--epochs 8] [--precision f32] [--threads 2] [--seed 42]

Needs: torch, numpy, safetensors.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file
from torch.nn import functional as F

from compare import TUNED_MALLOC
from networks import build

BATCH = 2000
SMOOTHING = 0.2
PADDING = 2
MOMENTUM, BIAS_RATE, HEAD_RATE, DECAY = 0.85, 0.053, 0.67, 2e-6 * BATCH
MUON_RATE, MUON_MOMENTUM = 0.24, 0.6
QUINTIC = (3.4445, -4.7750, 2.0315)
WHITENING_BIAS_EPOCHS = 3


def load(folder: Path):
    tensors = load_file(folder / "images.safetensors")
    return torch.from_numpy(tensors["images"]), torch.from_numpy(tensors["labels"].astype(np.int64))


def whiten(layer, images):
    """Returns the eigenvectors of the covariance of 2×2 patches, divided by the roots of their eigenvalues, and their negatives."""
    patches = images.unfold(2, 2, 1).unfold(3, 2, 1).permute(0, 2, 3, 1, 4, 5).reshape(-1, 12)
    values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
    filters = (vectors / (values + 5e-4).sqrt()).T.flip(0).reshape(12, 3, 2, 2)
    layer.weight.data.copy_(torch.cat([filters, -filters]))


def initialise(model, images):
    whiten(model.whiten, images[:5000])
    for group in model.groups:
        for conv in group.convs:
            torch.nn.init.dirac_(conv.weight.data[: conv.in_channels])
    model.head.weight.data /= model.head.weight.data.std()


class Muon:
    """Momentum with steps orthogonalised by Newton–Schulz iterations."""

    def __init__(self, filters):
        self.filters = filters
        self.velocities = [torch.zeros_like(p) for p in filters]

    @torch.no_grad()
    def step(self, rate):
        a, b, c = QUINTIC
        for p, v in zip(self.filters, self.velocities):
            v.mul_(MUON_MOMENTUM).add_(p.grad)
            x = p.grad.add(v, alpha=MUON_MOMENTUM).flatten(1)
            x = x / (x.norm() + 1e-7)
            tall = x.shape[0] > x.shape[1]
            x = x.T if tall else x
            for _ in range(3):
                gram = x @ x.T
                x = a * x + (b * gram + c * gram @ gram) @ x
            x = x.T if tall else x
            p.mul_(len(p) ** 0.5 / p.norm()).add_(x.reshape(p.shape), alpha=-rate)


def shifted(images, padding):
    """Returns a random crop of each image, with reflected borders."""
    n, _, h, w = images.shape
    padded = F.pad(images, (padding,) * 4, mode="reflect").permute(0, 2, 3, 1)
    down, right = torch.randint(0, 2 * padding + 1, (2, n))
    rows, columns = down[:, None] + torch.arange(h), right[:, None] + torch.arange(w)
    return padded[torch.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


@torch.inference_mode()
def predict(model, images, precision):
    """Returns the logits of the images, and their mean over six views: mirrored or not, unshifted or shifted by a pixel."""
    model.eval()
    plain, averaged = [], []
    for x in images.split(2000):
        padded = F.pad(x, (1,) * 4, mode="reflect")
        views = [(x, 0.5), (padded[:, :, :-2, :-2], 0.25), (padded[:, :, 2:, 2:], 0.25)]
        mean = 0
        for number, (view, weight) in enumerate(views):
            for mirrored in (False, True):
                view = view.flip(3) if mirrored else view
                with precision:
                    logits = model(view.contiguous(memory_format=torch.channels_last)).float()
                if number == 0 and not mirrored:
                    plain.append(logits)
                mean = mean + 0.5 * weight * logits
        averaged.append(mean)
    return torch.cat(plain), torch.cat(averaged)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--project", type=Path, default=Path("."))
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--precision", choices=("f32", "bf16"), default="f32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=42)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(given.seed)
    precision = torch.autocast("cpu", torch.bfloat16, enabled=given.precision == "bf16")

    started = time.perf_counter()
    report = json.loads((given.project / "data/prepared/report.json").read_text())
    mean = torch.tensor(report["normalisation"]["mean"]).view(1, 3, 1, 1)
    std = torch.tensor(report["normalisation"]["std"]).view(1, 3, 1, 1)

    def normalise(pixels):
        images = (pixels.permute(0, 3, 1, 2).float() / 255 - mean) / std
        return images.contiguous(memory_format=torch.channels_last)

    pixels, labels = load(given.project / "data/prepared/train")
    images = normalise(pixels)
    model = build("airbench94", len(report["classes"]), report["size"]["height"])
    initialise(model, images)
    loaded = time.perf_counter()

    filters = [p for p in model.parameters() if p.ndim == 4 and p.requires_grad]
    biases = [group_norm.bias for group in model.groups for group_norm in group.norms]
    decayed = lambda rate: {"lr": rate, "peak": rate, "weight_decay": DECAY / rate}
    optimiser = torch.optim.SGD(
        [
            {"params": [model.whiten.bias], **decayed(BIAS_RATE)},
            {"params": biases, **decayed(BIAS_RATE)},
            {"params": [model.head.weight], **decayed(HEAD_RATE)},
        ],
        momentum=MOMENTUM,
        nesterov=True,
    )
    muon = Muon(filters)
    mirrored = torch.rand(len(images)) < 0.5
    images[mirrored] = images[mirrored].flip(3)
    steps_per_epoch = -(-len(labels) // BATCH)
    steps, step, epoch_seconds = steps_per_epoch * given.epochs, 0, []
    for epoch in range(given.epochs):
        model.train()
        epoch_started = time.perf_counter()
        for chosen in torch.randperm(len(labels)).split(BATCH):
            x = images[chosen]
            x = shifted(x.flip(3) if epoch % 2 else x, PADDING).contiguous(memory_format=torch.channels_last)
            model.whiten.bias.requires_grad = epoch < WHITENING_BIAS_EPOCHS
            with precision:
                logits = model(x)
            loss = F.cross_entropy(logits.float(), labels[chosen], label_smoothing=SMOOTHING, reduction="sum")
            for p in model.parameters():
                p.grad = None
            loss.backward()
            left = 1 - step / steps
            whitening_left = max(0.0, 1 - step / (steps_per_epoch * min(WHITENING_BIAS_EPOCHS, given.epochs)))
            for group, share in zip(optimiser.param_groups, (whitening_left, left, left)):
                group["lr"] = group["peak"] * share
            optimiser.step()
            muon.step(MUON_RATE * left)
            step += 1
        epoch_seconds.append(time.perf_counter() - epoch_started)
        print(f"epoch {epoch + 1}: loss {loss.item() / len(chosen):.4f}, {epoch_seconds[-1]:.1f} s", flush=True)
    trained = time.perf_counter()
    test_pixels, test_labels = load(given.project / "data/prepared/test")
    plain, averaged = predict(model, normalise(test_pixels), precision)
    accuracy = lambda logits: (logits.argmax(1) == test_labels).float().mean().item()
    print(json.dumps({
        "torch": torch.__version__,
        "threads": given.threads,
        "precision": given.precision,
        "seed": given.seed,
        "train_images": len(labels),
        "test_images": len(test_labels),
        "test_accuracy": accuracy(plain),
        "test_accuracy_tta": accuracy(averaged),
        "seconds_loading": loaded - started,
        "seconds_training": trained - loaded,
        "seconds_testing": time.perf_counter() - trained,
        "seconds_per_epoch": sorted(epoch_seconds)[len(epoch_seconds) // 2],
    }))


if __name__ == "__main__":
    # malloc reads these variables when a process starts.
    if not TUNED_MALLOC.keys() <= os.environ.keys():
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **TUNED_MALLOC})
    main()

"""simple_cnn in PyTorch, on the same split and with the same settings as `cifar-cli train`.

Reads data/prepared (images.safetensors) and params.yaml below the given project folder, trains on CPU and prints one
JSON object: accuracy on the validation and test images, and seconds an epoch. What cannot be the same is the random
draws (initial values, order, augmentation, dropout); everything else follows params.yaml.

    python benches/peers/simple_cnn.py --project . [--threads 2] [--seed 42]

Needs: torch, numpy, safetensors, pyyaml.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
import yaml
from safetensors.numpy import load_file
from torch.nn import functional as F

from networks import SimpleCnn


def load(folder: Path):
    tensors = load_file(folder / "images.safetensors")
    return torch.from_numpy(tensors["images"]), torch.from_numpy(tensors["labels"].astype(np.int64))


def augment(images, padding: int, flip: bool):
    n, _, h, w = images.shape
    padded = F.pad(images, (padding,) * 4, mode="reflect") if padding else images
    ys, xs = torch.randint(0, 2 * padding + 1, (2, n))
    rows = ys[:, None] + torch.arange(h)
    columns = xs[:, None] + torch.arange(w)
    if flip:
        mirrored = torch.rand(n) < 0.5
        columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    return padded[torch.arange(n)[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


@torch.no_grad()
def accuracy(model, images, labels):
    model.eval()
    correct = sum((model(x).argmax(1) == y).sum().item() for x, y in zip(images.split(250), labels.split(250)))
    return correct / len(labels)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--project", type=Path, default=Path("."))
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--seed", type=int, default=None)
    given = arguments.parse_args()
    params = yaml.safe_load((given.project / "params.yaml").read_text())
    report = json.loads((given.project / "data/prepared/report.json").read_text())
    train, network = params["train"], params["model"]
    torch.set_num_threads(given.threads)
    torch.manual_seed(params["random_seed"] if given.seed is None else given.seed)

    mean = torch.tensor(report["normalisation"]["mean"]).view(1, 3, 1, 1)
    std = torch.tensor(report["normalisation"]["std"]).view(1, 3, 1, 1)
    normalise = lambda pixels: ((pixels.permute(0, 3, 1, 2).float() / 255 - mean) / std).contiguous(memory_format=torch.channels_last)
    pixels, labels = load(given.project / "data/prepared/train")
    val_pixels, val_labels = load(given.project / "data/prepared/val")
    images = normalise(pixels)

    model = SimpleCnn(len(report["classes"]), report["size"]["height"], network["dropout"], network["conv_dropout"])
    model = model.to(memory_format=torch.channels_last)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    optimiser = torch.optim.SGD(model.parameters(), lr=1.0, momentum=train["momentum"], nesterov=train["nesterov"])
    batch = train["batch_size"]
    per_epoch = -(-len(labels) // batch)
    steps, warmup = per_epoch * train["epochs"], per_epoch * train["warmup_epochs"]

    def rate(step):
        if step < warmup:
            return train["learning_rate"] * min(1.0, (step + 1) / warmup)
        if train["schedule"] == "constant":
            return train["learning_rate"]
        return train["learning_rate"] * (steps - step) / (steps - warmup)

    step, seconds, best = 0, [], (-1.0, None)
    for epoch in range(train["epochs"]):
        model.train()
        started = time.perf_counter()
        for chosen in torch.randperm(len(labels)).split(batch):
            x = augment(images[chosen], train["crop_padding"], train["flip"] == "random")
            x = x.contiguous(memory_format=torch.channels_last)
            loss = F.cross_entropy(model(x), labels[chosen], label_smoothing=train["label_smoothing"])
            optimiser.zero_grad()
            loss.backward()
            for group in optimiser.param_groups:
                group["lr"] = rate(step)
            with torch.no_grad():
                for p in decayed:
                    p.mul_(1 - rate(step) * train["weight_decay"])
            optimiser.step()
            step += 1
        seconds.append(time.perf_counter() - started)
        score = accuracy(model, normalise(val_pixels), val_labels)
        print(f"epoch {epoch + 1}: val {score:.4f}, {seconds[-1]:.1f} s", flush=True)
        if train["select"] == "last" or score > best[0]:
            best = (score, {k: v.clone() for k, v in model.state_dict().items()})
    model.load_state_dict(best[1])
    test_pixels, test_labels = load(given.project / "data/prepared/test")
    print(json.dumps({
        "torch": torch.__version__,
        "threads": given.threads,
        "val_accuracy": best[0],
        "test_accuracy": accuracy(model, normalise(test_pixels), test_labels),
        "seconds_per_epoch": sorted(seconds)[len(seconds) // 2],
    }))


if __name__ == "__main__":
    main()

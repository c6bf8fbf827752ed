"""Times a training step, or a forward pass, of PyTorch on the CPU; the counterpart of `cifar-cli bench`.

    python benches/peers/train_step.py --architecture airbench94 --batch 512 --steps 10 --threads 2 --precision bf16

The step is what `cifar-cli bench train-step` times: a fresh batch from bytes (flip, crop with reflected borders),
normalisation, forward, loss with smoothed labels, backward, SGD with Nesterov momentum. It is eager PyTorch at its best
as far as we know: channels_last, autocast for bf16, gradients set to none. With --mode inference: bytes, normalisation,
forward without gradients in evaluation mode. Prints one JSON object. Needs: torch.
"""

import argparse
import contextlib
import json
import statistics
import time

import torch
from torch.nn import functional as F

from networks import ARCHITECTURES, build

WARM_UP_STEPS = 3
# The number of images that `cifar-cli bench` generates.
MOST_IMAGES = 8192
SIZE = 32
PADDING = 4
CLASSES = 10
MEAN, STD = 0.5, 0.25


def reflected(at):
    """Reflects coordinates at the first and last pixel, without repeating them."""
    return (SIZE - 1) - ((SIZE - 1) - at.abs()).abs()


def augmented(images, chosen):
    """Returns the chosen images as bytes [N, H, W, 3], each randomly flipped and shifted by up to PADDING pixels."""
    count = len(chosen)
    along = torch.arange(SIZE)
    down, right = torch.randint(-PADDING, PADDING + 1, (2, count, 1))
    columns = torch.where(torch.rand(count, 1) < 0.5, along.flip(0), along)
    rows, columns = reflected(along + down), reflected(columns + right)
    pixels = (chosen[:, None, None] * SIZE + rows[:, :, None]) * SIZE + columns[:, None, :]
    # One gather of whole pixels. Indexing each dimension separately takes several times as long.
    return images.view(-1, 3)[pixels.flatten()].view(count, SIZE, SIZE, 3)


def normalised(pixels):
    """Converts bytes [N, H, W, 3] to values [N, 3, H, W] in channels_last memory format."""
    return pixels.float().mul_(1 / (255 * STD)).sub_(MEAN / STD).permute(0, 3, 1, 2)


def endless_batches(count, batch):
    """Yields the indices of full batches, reshuffled in every pass."""
    while True:
        yield from torch.randperm(count).split(batch)


def peak_rss_mb():
    """Returns the peak memory of this process in 10⁶ bytes, or None if the system does not report it."""
    with contextlib.suppress(OSError), open("/proc/self/status", encoding="ascii") as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1.024e-3
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architecture", choices=ARCHITECTURES, default="airbench94")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", choices=("f32", "bf16"), default="f32")
    parser.add_argument("--mode", choices=("train", "inference"), default="train")
    given = parser.parse_args()
    if min(given.batch, given.steps, given.threads) < 1:
        parser.error("--batch, --steps and --threads must be at least 1")

    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    batches = min(WARM_UP_STEPS + given.steps, max(MOST_IMAGES // given.batch, 2))
    count = batches * given.batch
    images = torch.randint(0, 256, (count, SIZE, SIZE, 3), dtype=torch.uint8)
    labels = torch.randint(0, CLASSES, (count,))
    model = build(given.architecture, CLASSES, SIZE).train(given.mode == "train")
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.SGD(trained, lr=0.005, momentum=0.9, nesterov=True, weight_decay=5e-4)
    precision = torch.autocast("cpu", torch.bfloat16, enabled=given.precision == "bf16")

    def train(chosen):
        x = normalised(augmented(images, chosen))
        with precision:
            loss = F.cross_entropy(model(x), labels[chosen], label_smoothing=0.2)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        return loss.item()

    @torch.inference_mode()
    def infer(chosen):
        with precision:
            model(normalised(images[chosen])).float().numpy()
        return None

    step = train if given.mode == "train" else infer
    seconds, loss = [], None
    for number, chosen in enumerate(endless_batches(count, given.batch), start=1):
        started = time.perf_counter()
        loss = step(chosen)
        seconds.append(time.perf_counter() - started)
        if number == WARM_UP_STEPS + given.steps:
            break
    timed = seconds[WARM_UP_STEPS:]
    median = statistics.median(timed)
    print(json.dumps({
        "architecture": given.architecture,
        "batch": given.batch,
        "threads": given.threads,
        "precision": given.precision,
        "mode": given.mode,
        "ms_per_step": median * 1e3,
        "ms_min": min(timed) * 1e3,
        "images_per_s": given.batch / median,
        "peak_rss_mb": peak_rss_mb(),
        "loss": loss,
        "warm_up_steps": WARM_UP_STEPS,
        "torch": torch.__version__,
        "instructions": torch.backends.cpu.get_cpu_capability(),
    }))


if __name__ == "__main__":
    main()

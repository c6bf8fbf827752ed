"""Compares an exported network in ONNX Runtime and PyTorch with `cifar-cli predict`: predictions and speed.

    python benches/peers/exported_model.py --project finished --images cifar10_dataset --count 10000

--project is a project with a trained network, --images a folder of image files of the network's size. Every program gets
the first --count files (in the order of their paths) and the same number of threads. Printed:

- how many of the most probable classes are those of `predict`, and the largest difference of a probability: first for
  copies of the files as PNG, which all programs decode to the same pixels, then for the files. Pillow decodes a JPEG
  file to slightly other pixels than this program does.
- seconds for all files: reading, decoding and classifying, in batches of 256. ours is the whole command with its start
  and its table, the others only the work, after their imports and loading the network;
- milliseconds for a single image in memory, the median of 300. ours is `cifar-cli bench inference`, a network of the
  same architecture.

The programs take turns, --rounds times; figures are medians. Needs: numpy, onnxruntime, pillow, torch, and the program built with
`cargo build --release -p cifar-cli`.
"""

import argparse
import csv
import importlib.util
import json
import os
import statistics
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from PIL import Image

HERE = Path(__file__).resolve().parent
BATCH = 256
SINGLE = 300
SUFFIXES = {".jpg", ".jpeg", ".png"}


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--project", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--program", type=Path, default=HERE.parents[1] / "target/release/cifar-cli")
    return parser.parse_args()


def cli(given, *words):
    """Runs the program in the project and returns what it prints."""
    command = [given.program.resolve(), "-C", given.project, "--threads", given.threads, "-q", *words]
    return subprocess.run([str(word) for word in command], check=True, capture_output=True, text=True).stdout


def decoded(pool, files):
    """Returns the pixels [N, H, W, 3] of some files."""
    return np.stack(list(pool.map(lambda file: np.asarray(Image.open(file).convert("RGB")), files)))


def softmax(logits):
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


class Onnx:
    name = "ONNX Runtime"

    def __init__(self, given, folder):
        path = folder / "model.onnx"
        cli(given, "export", "--format", "onnx", "--output", path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = given.threads
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def logits(self, pixels):
        return self.session.run(["logits"], {"images": pixels})[0]


class Torch:
    name = "PyTorch"

    def __init__(self, given, folder):
        path = folder / "pytorch"
        cli(given, "export", "--format", "pytorch", "--output", path)
        torch.set_num_threads(given.threads)
        spec = importlib.util.spec_from_file_location("exported", path / "load.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        self.network = module.load().to(memory_format=torch.channels_last)

    def logits(self, pixels):
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div_(255)
        with torch.inference_mode():
            return self.network(images).numpy()


def of_peer(peer, pool, files):
    """Returns the probabilities of all files, and the seconds that this takes."""
    start = time.perf_counter()
    parts = []
    for first in range(0, len(files), BATCH):
        parts.append(peer.logits(decoded(pool, files[first : first + BATCH])))
    return softmax(np.concatenate(parts)), time.perf_counter() - start


def of_ours(given, folder, listed, classes):
    """Returns the probabilities of all files as `predict` writes them, and the seconds that the command takes."""
    table = folder / "predictions.csv"
    start = time.perf_counter()
    cli(given, "predict", listed, "--csv", table, "--top", len(classes))
    seconds = time.perf_counter() - start
    column = {name: index for index, name in enumerate(classes)}
    probabilities = {}
    with table.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            values = np.zeros(len(classes))
            values[column[row["predicted"]]] = row["probability"]
            for rank in range(2, len(classes) + 1):
                values[column[row[f"class_{rank}"]]] = row[f"probability_{rank}"]
            probabilities[Path(row["file"]).name] = values
    return np.array([probabilities[name] for name in sorted(probabilities)]), seconds


def compare(name, found, ours):
    """Prints how far two tables of probabilities agree."""
    same = int((found.argmax(1) == ours.argmax(1)).sum())
    print(f"{name}: {same} of {len(ours)} classes as ours, probabilities differ by up to {abs(found - ours).max():.1e}")


def single(peer, image):
    """Returns the median milliseconds for one image."""
    times = []
    for _ in range(SINGLE):
        start = time.perf_counter()
        peer.logits(image)
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def main():
    given = parse()
    files = sorted(path for path in given.images.rglob("*") if path.suffix.lower() in SUFFIXES)[: given.count]
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(given.threads) as pool:
        folder = Path(folder)
        listed = folder / "images"
        listed.mkdir()
        # Names in the order of the files.
        for index, file in enumerate(files):
            (listed / f"{index:06}{file.suffix}").symlink_to(file.resolve())
        peers = [Onnx(given, folder), Torch(given, folder)]
        classes = json.loads(peers[0].session.get_modelmeta().custom_metadata_map["classes"])
        architecture = peers[0].session.get_modelmeta().custom_metadata_map["architecture"]
        seconds, alone = ({name: [] for name in ["ours", *(peer.name for peer in peers)]} for _ in range(2))
        image = decoded(pool, files[:1])
        copies = folder / "copies"
        copies.mkdir()
        for index, file in enumerate(files):
            Image.open(file).convert("RGB").save(copies / f"{index:06}.png")
        ours, _ = of_ours(given, folder, copies, classes)
        for peer in peers:
            found, _ = of_peer(peer, pool, sorted(copies.iterdir()))
            compare(f"{peer.name}, PNG", found, ours)
        for turn in range(given.rounds):
            ours, took = of_ours(given, folder, listed, classes)
            seconds["ours"].append(took)
            bench = cli(given, "bench", "inference", "--architecture", architecture, "--batch", 1, "--steps", SINGLE, "--json")
            alone["ours"].append(json.loads(bench)["ms_per_batch"])
            for peer in peers:
                found, took = of_peer(peer, pool, files)
                seconds[peer.name].append(took)
                alone[peer.name].append(single(peer, image))
                if turn == 0:
                    compare(f"{peer.name}, the files", found, ours)
    print("| program | s for all files | ms for one image |\n|---|--:|--:|")
    for name in seconds:
        print(f"| {name} | {statistics.median(seconds[name]):.2f} | {statistics.median(alone[name]):.2f} |")


main()

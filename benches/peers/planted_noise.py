"""Plants wrong labels in a project, and predicts each training image by a network that was not trained on it.

The result is input for cleanlab_labels.py: wrong labels in labels/overrides.csv, original labels in the manifest of
data/prepared/train, and the probabilities in out_of_fold.csv.

    python benches/peers/planted_noise.py --project noisy --images cifar10_dataset --noise any --rate 0.2

The project must be prepared, of image files in --images, with `split.val_fraction: 0`. Its labels/ is overwritten. Each fold
trains the recipe of params.yaml: labels/review.csv drops the images of the fold, and `predict` classifies their files.

--noise says what wrong labels are, as in `cifar-cli hard-images study --to`:

- any: another class, with equal probability.
- confused: the class that is most often predicted for images of the class.
- human-like: drawn from the calibrated probabilities, so hard images get a wrong label more often.

The last two follow from two networks trained on the original labels, each on half of the images, with another seed. Their
predictions of the other half are kept in original_labels.csv.

Needs: numpy, pandas.
"""

import argparse
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

SEED = 42  # of the folds, the noise and the networks
SEED_OF_ORIGINAL = 7  # of the networks that are trained on the original labels
FOLDS_OF_ORIGINAL = 2


def cli(given, *words, **options):
    subprocess.run([given.program, "-C", given.project, *map(str, words), "-q"], check=True, **options)


def write_labels(given, images, labels, dropped):
    """Writes labels/ with the labels that are not the original ones and the dropped images, and prepares the set."""
    identity = images[["id", "file"]].assign(content="b3:" + images.blake3.str[:16])
    wrong = (labels != images.original_label).to_numpy()
    overrides = identity[wrong].assign(label=labels[wrong])
    overrides[["id", "content", "file", "label"]].to_csv(given.project / "labels/overrides.csv", index=False)
    review = identity[dropped].assign(decision="drop", label="", note="")
    columns = ["id", "content", "file", "decision", "label", "note"]
    review[columns].to_csv(given.project / "labels/review.csv", index=False)
    cli(given, "prepare", stdout=subprocess.DEVNULL)


def assign_folds(given, images, folds):
    """Returns the fold of each image. Exact and near copies stay together."""
    leader = dict(zip(images.id, images.id))

    def find(image):
        while leader[image] != image:
            image = leader[image]
        return image

    pairs = pd.read_csv(given.project / "data/prepared/near_duplicates.csv")
    for first, second in pairs[pairs.kind != "similar"][["id_a", "id_b"]].to_numpy():
        if first in leader and second in leader:
            leader[find(second)] = find(first)
    groups, group_of = np.unique([find(image) for image in images.id], return_inverse=True)
    return np.random.default_rng(SEED).permutation(len(groups))[group_of] % folds


def out_of_fold(given, images, labels, folds, seed):
    """Returns a table with the columns id, file and one probability per class, in the order of the images."""
    fold_of = assign_folds(given, images, folds)
    rows = []
    for fold in range(folds):
        inside = fold_of == fold
        write_labels(given, images, labels, inside)
        cli(given, "train", "--fresh", "--set", f"random_seed={seed}", stdout=subprocess.DEVNULL)
        with tempfile.TemporaryDirectory() as folder:
            csv, model = Path(folder) / "fold.csv", given.project / "models/final/model.safetensors"
            top = ["--top", images.original_label.nunique(), "--csv", csv, "--model", model]
            cli(given, "predict", *top, *images.file[inside], cwd=given.images, stdout=subprocess.DEVNULL)
            found = pd.read_csv(csv).rename(
                columns={"predicted": "class_1", "probability": "probability_1"}
            )
        # From columns by rank to columns by class.
        long = pd.wide_to_long(found, ["class", "probability"], i="file", j="place", sep="_").reset_index()
        rows.append(long.pivot(index="file", columns="class", values="probability").reset_index())
        print(f"fold {fold + 1} of {folds}: {inside.sum()} images predicted", flush=True)
    write_labels(given, images, labels, np.zeros(len(images), bool))
    found = images[["id", "file"]].merge(pd.concat(rows), on="file", validate="one_to_one")
    assert len(found) == len(images)
    return found


def bisect(is_below):
    """Returns the power between 1/64 and 64 up to which `is_below` holds."""
    low, high = np.log(1 / 64), np.log(64)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if is_below(np.exp(middle)) else (low, middle)
    return np.exp((low + high) / 2)


def raised(probabilities, power):
    powers = np.clip(probabilities, 1e-37, None) ** power
    return powers / powers.sum(1, keepdims=True)


def wrong_labels(noise, rate, truth, predicted, rng):
    """Returns the labels (class numbers) with ⌊rate · N + ½⌋ wrong ones; crates/cifar-eval/src/study explains the kinds.

    truth: true class of each image. predicted: images × classes, of networks that were trained on true labels.
    """
    n, classes = len(truth), int(truth.max()) + 1
    if noise == "any":
        score, wrong = rng.random(n), (truth + rng.integers(1, classes, n)) % classes
    elif noise == "confused":
        counts = np.zeros((classes, classes))
        np.add.at(counts, (truth, predicted.argmax(1)), 1)
        np.fill_diagonal(counts, -1)
        score, wrong = rng.random(n), counts.argmax(1)[truth]
    else:
        # Temperature scaling: the power under which the true labels are most likely.
        logs = np.log(np.clip(predicted, 1e-37, None))
        slope = lambda power: (logs[np.arange(n), truth] - (raised(predicted, power) * logs).sum(1)).sum()
        calibrated = raised(predicted, bisect(lambda power: slope(power) > 0))
        own = np.arange(n), truth
        mean_wrong = lambda power: 1 - raised(calibrated, power)[own].mean()
        power = 1.0 if mean_wrong(1.0) >= rate else min(1.0, bisect(lambda power: mean_wrong(power) > rate))
        others = raised(calibrated, power)
        others[own] = 0
        # Sequential Poisson sampling (Ohlsson 1998): the expected frequency of an image is its probability of an error.
        score = rng.random(n) / np.maximum(others.sum(1), 1e-300)
        draw = rng.random(n) * others.sum(1)
        wrong = np.minimum((others.cumsum(1) <= draw[:, None]).sum(1), classes - 1)
    chosen = np.argsort(score, kind="stable")[: int(rate * n + 0.5)]
    labels = truth.copy()
    labels[chosen] = wrong[chosen]
    return labels


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--project", type=Path, default=Path("."))
    parser.add_argument("--images", type=Path, required=True, help="folder that the partitions were made of")
    parser.add_argument("--noise", choices=("any", "confused", "human-like"), required=True)
    parser.add_argument("--rate", type=float, required=True, help="fraction of wrong labels")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--program", default="cifar-cli")
    given = parser.parse_args()
    given.project, given.images = given.project.resolve(), given.images.resolve()
    given.program = Path(shutil.which(given.program) or given.program).resolve()

    for name, head in (("overrides", "id,content,file,label\n"), ("review", "id,content,file,decision,label,note\n")):
        (given.project / f"labels/{name}.csv").write_text(head)
    cli(given, "prepare", stdout=subprocess.DEVNULL)
    images = pd.read_csv(given.project / "data/prepared/train/manifest.csv")
    classes = sorted(images.original_label.unique())
    truth = images.original_label.map(classes.index).to_numpy()

    predicted = None
    if given.noise != "any":
        path = given.project / "original_labels.csv"
        if not path.exists():
            found = out_of_fold(given, images, images.original_label, FOLDS_OF_ORIGINAL, SEED_OF_ORIGINAL)
            found.to_csv(path, index=False)
        predicted = pd.read_csv(path)[classes].to_numpy()
    noisy = wrong_labels(given.noise, given.rate, truth, predicted, np.random.default_rng(SEED))
    labels = pd.Series(np.array(classes)[noisy], index=images.index)
    print(f"{(labels != images.original_label).sum()} of {len(images)} labels are wrong", flush=True)
    out_of_fold(given, images, labels, given.folds, SEED).to_csv(given.project / "out_of_fold.csv", index=False)


if __name__ == "__main__":
    main()

"""Compares `cifar-cli hard-images --predictions` with cleanlab on the same out-of-fold probabilities.

    python benches/peers/planted_noise.py --project noisy --images cifar10_dataset --noise any --rate 0.2
    python benches/peers/cleanlab_labels.py --project noisy [--name NAME --row "any, 20 %"]

The project must be prepared. A label is wrong if it is not the `original_label` in the manifest of data/prepared/train.
Prints one Markdown table of scores and one of flags. --name adds all figures to benches/record/NAME.json, under --row.

Seconds are the median of three runs. Ours are the wall time of the whole command: it reads and checks the stored images and
the CSV file, scores labels, hardness and image quality, and writes tables, contact sheets and the HTML page. Those of
cleanlab are of the call alone, with labels and probabilities in memory; reading the CSV file with pandas is listed apart.

Needs: cleanlab, numpy, pandas, scikit-learn; for Datalab also datasets (`pip install "cleanlab[datalab]"`).
"""

import argparse
import importlib.util
import json
import platform
import statistics
import subprocess
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores
from sklearn.metrics import average_precision_score, roc_auc_score

from compare import REPOSITORY, busy_share, machine, output_of

ROUNDS = 3
FLAGGED = "likely mislabelled"
# Method and adjust_pred_probs; cleanlab refuses to adjust the entropy.
SCORES = [
    ("self_confidence", False),
    ("self_confidence", True),
    ("normalized_margin", False),
    ("normalized_margin", True),
    ("confidence_weighted_entropy", False),
]
FILTERS = [
    "prune_by_noise_rate",  # cleanlab's default
    "prune_by_class",
    "both",
    "confident_learning",
    "predicted_neq_given",
    "low_normalized_margin",
    "low_self_confidence",
]


def timed(call):
    """Returns what the call returns, and the median of its seconds."""
    seconds = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        found = call()
        seconds.append(time.perf_counter() - started)
    return found, statistics.median(seconds)


def datalab(labels, probabilities):
    """Returns scores and flags of Datalab's issue type `label`."""
    from cleanlab import Datalab

    lab = Datalab({"label": labels.tolist()}, label_name="label", verbosity=0)
    lab.find_issues(pred_probs=probabilities, issue_types={"label": {}})
    issues = lab.get_issues("label")
    return issues.label_score.to_numpy(), issues.is_label_issue.to_numpy()


def ranking(suspicion, is_wrong):
    """Returns AUROC, average precision and recall at n, where n is the number of wrong labels."""
    n = is_wrong.sum()
    first = np.argsort(-suspicion, kind="stable")[:n]
    found = roc_auc_score(is_wrong, suspicion), average_precision_score(is_wrong, suspicion), is_wrong[first].mean()
    return dict(zip(("auroc", "average_precision", "recall_at_n"), map(float, found)))


def intervals(suspicions, is_wrong, resamples):
    """Returns, for each score, the 95 % intervals of our advantage in AUROC and AP: bootstrap over images."""
    rng, draws = np.random.default_rng(0), {name: [] for name in suspicions}
    for _ in range(resamples):
        chosen = rng.integers(0, len(is_wrong), len(is_wrong))
        of = lambda values: np.array([f(is_wrong[chosen], values[chosen]) for f in (roc_auc_score, average_precision_score)])
        ours = of(suspicions["ours"])
        for name, values in suspicions.items():
            draws[name].append(ours - of(values))
    return {
        name: dict(zip(("auroc", "average_precision"), np.quantile(rows, (0.025, 0.975), axis=0).T.tolist()))
        for name, rows in draws.items()
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--project", type=Path, default=Path("."))
    parser.add_argument("--predictions", type=Path, help="[default: out_of_fold.csv in the project]")
    parser.add_argument("--program", default="cifar-cli")
    parser.add_argument("--resamples", type=int, default=200)
    parser.add_argument("--name", help="of the record")
    parser.add_argument("--row", default="labels", help="name of these labels in the record")
    parser.add_argument("--date", help="to be written into the record")
    given = parser.parse_args()
    busy = busy_share()
    path = given.predictions or given.project / "out_of_fold.csv"

    # Labels and probabilities in the order of the manifest.
    images = pd.read_csv(given.project / "data/prepared/train/manifest.csv")
    table, read_seconds = timed(lambda: pd.read_csv(path))
    classes = sorted(images.original_label.unique())
    labels = images.label.map(classes.index).to_numpy()
    is_wrong = (images.label != images.original_label).to_numpy()
    probabilities = images[["id"]].merge(table, on="id", validate="one_to_one")[classes].to_numpy()

    scores, flags, suspicions = {}, {}, {}

    def add_score(name, suspicion, seconds):
        suspicions[name] = suspicion
        scores[name] = {**ranking(suspicion, is_wrong), "seconds": seconds}

    def add_flags(name, is_flagged, seconds):
        right = int((is_flagged & is_wrong).sum())
        flagged = int(is_flagged.sum())
        shares = {"precision": right / max(flagged, 1), "recall": right / int(is_wrong.sum())}
        flags[name] = {"flagged": flagged, "right": right, **shares, "seconds": seconds}

    command = [given.program, "-C", given.project, "hard-images", "--predictions", path.resolve(), "--out-of-fold", "-q"]
    _, seconds = timed(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL))
    ours = pd.read_csv(given.project / "evaluation/given_predictions/hard_images.csv", low_memory=False)
    ours = images[["id"]].merge(ours[ours.split == "train"], on="id", validate="one_to_one")
    # Both programs had the same probabilities of the same labels.
    own = probabilities[np.arange(len(labels)), labels]
    assert (ours.label == images.label).all() and np.abs(ours.oof_self_confidence - own).max() < 1e-5
    add_score("ours", ours.label_issue_score.to_numpy(), seconds)
    add_flags("ours", (ours.category == FLAGGED).to_numpy(), seconds)

    for method, adjust in SCORES:
        quality = lambda: get_label_quality_scores(labels, probabilities, method=method, adjust_pred_probs=adjust)
        found, seconds = timed(quality)
        add_score(method + (", adjusted" if adjust else ""), -found, seconds)
    for name in FILTERS:
        add_flags(name, *timed(lambda: find_label_issues(labels, probabilities, filter_by=name)))
    if importlib.util.find_spec("datasets"):
        (quality, is_flagged), seconds = timed(lambda: datalab(labels, probabilities))
        add_score("Datalab", -quality, seconds)
        add_flags("Datalab", is_flagged, seconds)

    for name, advantage in intervals(suspicions, is_wrong, given.resamples).items():
        scores[name]["our_advantage"] = advantage
    accuracy = float((probabilities.argmax(1) == images.original_label.map(classes.index)).mean())
    print(f"{len(labels)} images, {is_wrong.sum()} wrong labels; {accuracy:.2%} of the predictions are the original label")
    print(f"reading the CSV file with pandas: {read_seconds:.2f} s\n")
    print("| score | AUROC | ours minus this | AP | ours minus this | recall at n | seconds |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for name, row in scores.items():
        a, p = (row["our_advantage"][key] for key in ("auroc", "average_precision"))
        between = lambda pair: "" if name == "ours" else f"{pair[0]:+.4f} to {pair[1]:+.4f}"
        print(
            f"| {name} | {row['auroc']:.4f} | {between(a)} | {row['average_precision']:.4f} | {between(p)} "
            f"| {row['recall_at_n']:.4f} | {row['seconds']:.2f} |"
        )
    print("\n| flags | flagged | right | wrong labels found | seconds |\n|---|--:|--:|--:|--:|")
    for name, row in flags.items():
        print(f"| {name} | {row['flagged']:,} | {row['precision']:.1%} | {row['recall']:.1%} | {row['seconds']:.2f} |")

    if given.name:
        file = REPOSITORY / "benches/record" / f"{given.name}.json"
        record = json.loads(file.read_text()) if file.exists() else {"schema": 1, "rows": {}}
        record |= {
            "date": given.date,
            "commit": output_of("git", "rev-parse", "HEAD"),
            "program": output_of(given.program, "--version"),
            **{package: version(package) for package in ("cleanlab", "numpy", "scikit-learn")},
            "python": platform.python_version(),
            "machine": machine(),
        }
        record["rows"][given.row] = {
            "images": len(labels),
            "wrong_labels": int(is_wrong.sum()),
            "accuracy_of_predictions": accuracy,
            "busy_before": busy,
            "seconds_reading_csv": read_seconds,
            "scores": scores,
            "flags": flags,
        }
        file.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()

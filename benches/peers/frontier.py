"""Collects the runs of a grid into a record of accuracy over time, and draws it.

    python benches/peers/frontier.py --project . --program cifar-cli --name my-machine-frontier
    python benches/peers/frontier.py --draw my-machine-frontier --out frontier.png

The first command reads the finished runs of `cifar-cli experiments run` in the project, measures the images per second of
each network on this machine (run it with nothing else running), and adds runs and speeds to benches/record/NAME.json.
Minutes are those of the training steps and of validation, computed from the speed, since runs of a grid may share the
machine with others. The second command draws a record with matplotlib. Points of PyTorch are added to the record by hand,
under "peers", with the source of their accuracy and speed.
"""

import argparse
import json
import re
import statistics
import subprocess
from collections import defaultdict
from pathlib import Path

RECORDS = Path(__file__).resolve().parents[1] / "record"
# A forward pass takes about a third of a training step.
FORWARD = 1 / 3


def runs(project):
    """Yields the finished runs of the project's grid: parameters, validation and test accuracy in percent."""
    for folder in sorted((project / "experiments/runs").iterdir()):
        metrics, epochs = folder / "evaluation/test/metrics.json", folder / "epochs.jsonl"
        if not (metrics.is_file() and epochs.is_file()):
            continue
        params = json.loads((folder / "run.json").read_text())["params"]
        last = json.loads(epochs.read_text().splitlines()[-1])
        yield params, 100 * last["val_accuracy"], 100 * json.loads(metrics.read_text())["test"]["accuracy"]


def speed(program, project, params):
    """Returns the training images per second that `check` measures, the best of three times."""
    keys = ("architecture", "widths"), ("batch_size", "optimiser")
    values = [f"model.{key}={json.dumps(params['model'][key])}" for key in keys[0]]
    values += [f"train.{key}={json.dumps(params['train'][key])}" for key in keys[1]]
    command = [program, "-C", str(project), "check", *(part for value in values for part in ("--set", value))]
    found = []
    for _ in range(3):
        text = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        found.append(float(re.search(r"([\d.]+) training images/s", text).group(1)))
    return max(found)


def collect(given):
    report = json.loads((given.project / "data/prepared/report.json").read_text())
    images, val = report["images"]["train"], report["images"]["val"]
    path = RECORDS / f"{given.name}.json"
    record = json.loads(path.read_text()) if path.is_file() else {"schema": 1, "runs": [], "peers": []}
    speeds = {}
    for params, accuracy, test in runs(given.project):
        model, train = params["model"], params["train"]
        network = f"{model['architecture']} {model['widths']} {train['batch_size']}"
        if network not in speeds:
            speeds[network] = speed(given.program, given.project, params)
        minutes = train["epochs"] * (images + FORWARD * val) / speeds[network] / 60
        record["runs"].append({
            "architecture": model["architecture"], "widths": model["widths"], "epochs": train["epochs"],
            "batch_size": train["batch_size"], "precision": train.get("precision", "f32"), "seed": params["random_seed"],
            "training_images": images, "images_per_s": speeds[network], "minutes": round(minutes, 2),
            "validation": round(accuracy, 2), "test": round(test, 2),
        })
    path.write_text(json.dumps(record, indent=1) + "\n")
    print(f"{len(record['runs'])} runs in {path.relative_to(RECORDS.parents[1])}")


def draw(given):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    record = json.loads((RECORDS / f"{given.draw}.json").read_text())
    groups = defaultdict(list)
    for run in record["runs"]:
        groups[run["architecture"], tuple(run["widths"]), run["epochs"]].append(run)
    figure, axes = plt.subplots(figsize=(8, 5), dpi=120)
    for (architecture, widths, epochs), found in sorted(groups.items(), key=lambda group: group[1][0]["minutes"]):
        minutes, test = found[0]["minutes"], statistics.mean(run["test"] for run in found)
        name = f"{architecture} {'-'.join(map(str, widths))}, {epochs} epochs, n = {len(found)}"
        axes.plot(minutes, test, "o", label=name)
    for peer in record["peers"]:
        axes.plot(peer["minutes"], peer["test"], "s" if peer["name"].startswith("PyTorch") else "D", label=peer["name"])
    axes.legend(loc="lower right", fontsize=8)
    axes.set(xscale="log", xlabel="minutes of training on two cores", ylabel="accuracy on published test images, %")
    ticks = [1, 3, 10, 30, 90]
    axes.set_xticks(ticks, map(str, ticks))
    axes.set_title(given.title)
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(given.out)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--project", type=Path, default=Path("."), help="the project whose grid was run")
    parser.add_argument("--program", default="cifar-cli")
    parser.add_argument("--name", help="of the record to add to")
    parser.add_argument("--draw", metavar="NAME", help="draw this record instead")
    parser.add_argument("--out", type=Path, default=Path("frontier.png"))
    parser.add_argument("--title", default="Accuracy over time, CIFAR-10 as JPEG files")
    given = parser.parse_args()
    if given.draw:
        draw(given)
    elif given.name:
        collect(given)
    else:
        parser.error("--name or --draw is required")


if __name__ == "__main__":
    main()

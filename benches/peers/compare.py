"""Compares `cifar-cli bench` with PyTorch on this machine, turn by turn, and records all figures.

    python benches/peers/compare.py --name zen4-2cores --date 2026-11-23
    python benches/peers/compare.py --rows airbench94-512 resnet18-128 --rounds 3 --steps 5 --name try

Each row is a network, a batch size and a mode. In every round each contestant (this program and PyTorch, in f32 and bf16)
runs once, in a process of its own, and rounds alternate between forward and backward order, so that a machine that slows
down slows all of them. This program runs in bf16 only where the processor has AMX, or with --ours. A contestant's figure is
the median over the rounds of its median step. The ratio is ours divided by the peer's, below 1 where ours is faster, with
the least and the largest ratio of any one round beside it.

Prints a Markdown table; writes benches/record/NAME.json. benches/README.md says more. Needs: torch, and the program built
with `cargo build --release -p cifar-cli`.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
# By default PyTorch returns large tensors to the system and allocates them again in every step.
# Letting malloc keep them makes it a quarter faster; without this the comparison would be too easy.
TUNED_MALLOC = {"MALLOC_MMAP_THRESHOLD_": "4000000000", "MALLOC_TRIM_THRESHOLD_": "8000000000"}
AVX2 = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
# Figures are doubtful if other programs use more than this fraction of the processors just before a
# turn.
QUIET = 0.05


class Row:
    """A network, a batch size and a mode."""

    def __init__(self, architecture, batch, mode="train", avx2=False):
        self.architecture, self.batch, self.mode, self.avx2 = architecture, batch, mode, avx2
        self.name = "-".join(
            [*(["inference"] if mode == "inference" else []), architecture, str(batch), *(["avx2"] if avx2 else [])]
        )

    def precisions(self, wanted):
        """The precisions of the row. AVX2 has no bf16 instructions."""
        return [p for p in wanted if p == "f32" or not self.avx2]

    def ours(self, given, precision):
        """Our command and its additional environment variables."""
        subject = "train-step" if self.mode == "train" else "inference"
        command = [str(given.program), "bench", subject, *self.size(given), "--precision", precision, "--json"]
        return command + (["--isa", "avx2"] if self.avx2 else []), {}

    def peer(self, given, precision):
        """PyTorch's command and its additional environment variables."""
        command = [given.python, str(HERE / "train_step.py"), *self.size(given), "--precision", precision]
        return [*command, "--mode", self.mode], {**TUNED_MALLOC, **(AVX2 if self.avx2 else {})}

    def size(self, given):
        """Flags common to both programs."""
        flags = {"architecture": self.architecture, "batch": self.batch, "steps": given.steps, "threads": given.threads}
        return [text for flag, value in flags.items() for text in (f"--{flag}", str(value))]


ROWS = {
    row.name: row
    for row in (
        Row("airbench94", 512),
        Row("airbench94", 2000),
        Row("airbench96", 512),
        Row("resnet18", 128),
        Row("simple_cnn", 128),
        Row("airbench94", 512, mode="inference"),
        Row("airbench94", 512, avx2=True),
    )
}


def busy_share(seconds=0.5):
    """Returns the current fraction of processor time used by other programs, or None if the system does not report it."""

    def times():
        fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
        return sum(fields), fields[3] + fields[4]

    try:
        total, idle = times()
        time.sleep(seconds)
        later, later_idle = times()
    except OSError:
        return None
    return round(1 - (later_idle - idle) / max(later - total, 1), 3)


def turn(command, environment):
    """Runs a contestant once. Returns its figures and the load of the machine before it."""
    busy = busy_share()
    answer = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, cwd=REPOSITORY, check=False
    )
    if answer.returncode != 0:
        reason = (answer.stderr.strip().splitlines() or ["no message"])
        # clap prints its reason first, Python last.
        line = next((line for line in reason if line.startswith("error: ")), reason[-1])
        raise RuntimeError(f"{' '.join(command)}: exit {answer.returncode}: {line}")
    figures = json.loads(answer.stdout.splitlines()[-1])
    figures["busy_before"] = busy
    return figures


def milliseconds(figures):
    """Returns a run's median time of a step or batch."""
    return figures.get("ms_per_step", figures.get("ms_per_batch"))


def measure(row, given):
    """Runs all rounds of a row. Returns each contestant's command, environment and runs."""
    contestants = {f"ours {p}": row.ours(given, p) for p in row.precisions(given.ours)}
    contestants |= {f"torch {p}": row.peer(given, p) for p in row.precisions(given.precisions)}
    runs = {name: [] for name in contestants}
    for number in range(given.rounds):
        for name in list(contestants)[:: -1 if number % 2 else 1]:
            print(f"{row.name}: round {number + 1} of {given.rounds}, {name}", file=sys.stderr, flush=True)
            runs[name].append(turn(*contestants[name]))
    return {
        name: {
            "command": [given.shown(part) for part in command],
            "environment": environment,
            "ms": statistics.median(map(milliseconds, runs[name])),
            "images_per_s": row.batch / statistics.median(map(milliseconds, runs[name])) * 1e3,
            "peak_rss_mb": max((run["peak_rss_mb"] or 0 for run in runs[name]), default=None),
            "runs": runs[name],
        }
        for name, (command, environment) in contestants.items()
    }


def ratios(contestants):
    """Returns our time divided by each peer's, by (ours, peer): the ratio of the medians, and the smallest and largest ratio
    of a single round. Our bf16 is compared with bf16 alone."""
    found = {}
    for our_name, ours in contestants.items():
        for name, peer in contestants.items():
            if our_name.startswith("ours") and name.startswith("torch") and (our_name, name) != ("ours bf16", "torch f32"):
                single = [milliseconds(a) / milliseconds(b) for a, b in zip(ours["runs"], peer["runs"])]
                found[our_name, name] = {"ratio": ours["ms"] / peer["ms"], "least": min(single), "largest": max(single)}
    return found


def table(rows):
    """Returns the Markdown table, with one line per row and peer."""
    lines = [
        "| network, batch | ours | peer | ours ms | peer ms | ours / peer (rounds) | ours images/s | peer images/s | ours MB | peer MB |",
        "|---|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, row in rows.items():
        for (our_name, peer_name), ratio in row["ratios"].items():
            ours, peer = row["contestants"][our_name], row["contestants"][peer_name]
            cells = [
                name,
                our_name.removeprefix("ours "),
                peer_name,
                f"{ours['ms']:.1f}",
                f"{peer['ms']:.1f}",
                f"{ratio['ratio']:.2f} ({ratio['least']:.2f}–{ratio['largest']:.2f})",
                f"{ours['images_per_s']:.0f}",
                f"{peer['images_per_s']:.0f}",
                f"{ours['peak_rss_mb']:.0f}",
                f"{peer['peak_rss_mb']:.0f}",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def output_of(*command):
    """Returns a program's one-line output, or None if it cannot be run."""
    try:
        answer = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return answer.stdout.strip()


def machine():
    """Returns processor, memory and system. The host name is left out: it means nothing to others."""
    facts = {"cpu": platform.processor() or platform.machine(), "cores": os.cpu_count(), "system": platform.platform()}
    try:
        cpu = dict(
            (part.strip() for part in line.split(":", 1))
            for line in Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
        )
        facts["cpu"] = f"{cpu['model name']} (family {cpu['cpu family']}, model {cpu['model']})"
        facts["instructions"] = sorted(f for f in cpu["flags"].split() if f.startswith(("avx", "fma", "amx")))
        facts["memory_gb"] = round(int(Path("/proc/meminfo").read_text().split()[1]) * 1.024e-6, 1)
    except (OSError, KeyError, ValueError):
        pass
    return facts


def arguments():
    """Parses and checks the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW", help=f"of {', '.join(ROWS)}")
    parser.add_argument("--precisions", nargs="+", choices=("f32", "bf16"), default=["f32", "bf16"], help="of PyTorch")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10, help="timed steps of each run")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--ours", nargs="+", choices=("f32", "bf16"), help="our precisions [default: f32, and bf16 with AMX]")
    target = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))
    parser.add_argument("--program", type=Path, default=target / "release/cifar-cli", help="ours")
    parser.add_argument("--python", default=sys.executable, help="one that has torch")
    parser.add_argument("--name", required=True, help="of the record")
    parser.add_argument("--date", help="to be written into the record")
    given = parser.parse_args()
    if min(given.rounds, given.steps, given.threads) < 1:
        parser.error("--rounds, --steps and --threads must be at least 1")
    if not given.program.is_file():
        parser.error(f"{given.program} is missing; cargo build --release -p cifar-cli")
    if Path(given.name).name != given.name:
        parser.error(f"--name {given.name}: must be the name of a file")
    given.program = given.program.resolve()
    has_amx = "amx_bf16" in machine().get("instructions", [])
    given.ours = given.ours or (["f32", "bf16"] if has_amx else ["f32"])
    # Records contain no paths of the user's machine.
    names = {str(given.program): "cifar-cli", given.python: "python", str(HERE / "train_step.py"): "train_step.py"}
    given.shown = lambda part: names.get(part, part)
    return given


def main():
    given = arguments()
    rows, failed = {}, {}
    for name in given.rows:
        try:
            contestants = measure(ROWS[name], given)
        except RuntimeError as error:
            failed[name] = str(error)
            print(f"error: {name}: {error}", file=sys.stderr)
            continue
        rows[name] = {"ratios": ratios(contestants), "contestants": contestants}
    if rows:
        record = {
            "schema": 2,
            "date": given.date,
            "command": ["python", "benches/peers/compare.py", *map(given.shown, sys.argv[1:])],
            "commit": output_of("git", "rev-parse", "HEAD"),
            "changed_since_commit": bool(output_of("git", "status", "--porcelain", "--untracked-files=no")),
            "program": output_of(str(given.program), "--version"),
            "torch": output_of(given.python, "-c", "import torch; print(torch.__version__)"),
            "python": platform.python_version(),
            "machine": machine(),
            "rounds": given.rounds,
            "steps": given.steps,
            "threads": given.threads,
            "rows": {
                name: {**row, "ratios": {f"{ours} / {peer}": ratio for (ours, peer), ratio in row["ratios"].items()}}
                for name, row in rows.items()
            },
            "failed": sorted(failed),
        }
        path = REPOSITORY / "benches/record" / f"{given.name}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
        print(table(rows))
        runs = [run for row in rows.values() for c in row["contestants"].values() for run in c["runs"]]
        busiest = max((run["busy_before"] or 0 for run in runs), default=0)
        if busiest > QUIET:
            print(f"warning: other programs took up to {busiest:.0%} of the processors: do not trust these", file=sys.stderr)
        print(f"recorded in {path.relative_to(REPOSITORY)}", file=sys.stderr)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()

"""Whether a search is worth it: TPE with pruning beside random search without, with the training steps of so many full trials.

    python tests/bench/search.py DATA [--out DIR] [--trials 24] [--seeds 0 1 2] [--weights FILE] [KEY=VALUE ...]

DATA has images/ and masks/. Each arm is a search of ``python run.py``; the one that prunes goes on by ``resume=`` until it
has had as many steps. Writes curves.json, and search.png where matplotlib is installed. Run again, it goes on.
"""

import argparse
import json
import math
import shutil
import statistics
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[2]
ARMS = {
    "random": ["hydra/sweeper/sampler=random", "hydra/sweeper/pruner=none"],
    "tpe, pruned": ["hydra/sweeper/sampler=tpe", "hydra/sweeper/pruner=median"],
}
EPOCHS, STEPS = 6, 6  # of a full trial
SMALL = [
    *("experiment=portrait", "data.image_size=64", "data.batch_size=8", "data.limit=320", "data.val_split=64"),
    "+model.decoder_channels=[64,32,16,16,8]",  # a third of the time
    *(f"trainer.epochs={EPOCHS}", f"trainer.steps_per_epoch={STEPS}", "trainer.precision=fp32", "callbacks=none"),
    *("data.num_workers=0", "trainer.threads=1", "trainer.save_minutes=null"),
]
SPACE = [
    "optimizer.lr=tag(log,interval(1e-4,1e-1))",
    "optimizer.weight_decay=tag(log,interval(1e-5,1e-1))",
    "loss=choice(dice,bce_dice,lovasz)",
    "scheduler=choice(onecycle,cosine)",
]


def run(*arguments: str) -> None:
    subprocess.run([sys.executable, str(ROOT / "run.py"), *arguments], check=True, cwd=ROOT)


def trials(sweep: Path) -> list[dict]:
    """A search's trials in their order: steps, the best value and how it ended."""
    found = {}
    for file in sweep.glob("*/summary.json"):
        told = json.loads(file.read_text())
        steps = STEPS * told.get("epochs", 0)
        found[int(file.parent.name.split("_")[0])] = {
            "steps": steps,
            "iou": told.get("monitored"),
            "status": told["status"],
        }
    return [found[number] for number in sorted(found)]


def search(sweep: Path, arguments: list[str], arm: list[str], count: int) -> list[dict]:
    full, budget = EPOCHS * STEPS, count * EPOCHS * STEPS
    if not (sweep / "sweep.json").exists():
        run(
            "-m",
            *arguments,
            *SPACE,
            "hydra/sweeper=optuna",
            *arm,
            f"hydra.sweeper.n_trials={count}",
            f"hydra.sweep.dir={sweep}",
        )
    elif json.loads((sweep / "sweep.json").read_text())["status"] != "completed":
        run(f"resume={sweep}")
    while (left := budget - sum(one["steps"] for one in trials(sweep))) > 0:
        run(f"resume={sweep}", f"hydra.sweeper.n_trials={len(trials(sweep)) + math.ceil(left / full)}")
    for checkpoints in sweep.glob("*/checkpoints"):  # 200 MB a trial
        shutil.rmtree(checkpoints)
    return trials(sweep)


def curve(found: list[dict], budget: int) -> list[tuple[int, float]]:
    """The best value of a completed trial after so many steps."""
    points, steps, best = [], 0, 0.0
    for one in found:
        steps += one["steps"]
        if steps > budget:
            break
        if one["status"] == "completed":
            best = max(best, one["iou"])
        points.append((steps, best))
    return points


def draw(curves: dict[str, dict[str, list]], file: Path) -> None:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.2))
    for (arm, seeds), colour in zip(curves.items(), ("tab:gray", "tab:blue"), strict=True):
        for points in seeds.values():
            steps, best = zip(*points, strict=True)
            axes.step(steps, best, where="post", color=colour, alpha=0.35, linewidth=1)
        ends = [points[-1][1] for points in seeds.values()]
        grid = sorted({step for points in seeds.values() for step, _ in points})
        mean = [
            statistics.fmean(max([y for x, y in points if x <= step], default=0) for points in seeds.values())
            for step in grid
        ]
        axes.step(
            grid,
            mean,
            where="post",
            color=colour,
            linewidth=2.4,
            label=f"{arm}: {statistics.fmean(ends):.4f} at the end",
        )
    axes.set(xlabel="training steps, all trials together", ylabel="best val/iou so far")
    low = min(y for seeds in curves.values() for points in seeds.values() for _, y in points[len(points) // 4 :])
    axes.set_ylim(bottom=low - 0.02)
    axes.legend()
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(file, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("outputs/search"))
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--weights")
    parser.add_argument("overrides", nargs="*")
    given = parser.parse_intermixed_args()
    budget, curves = given.trials * EPOCHS * STEPS, {arm: {} for arm in ARMS}
    for seed in given.seeds:
        for arm, chosen in ARMS.items():
            weights = [f"model.encoder_weights={given.weights}"] if given.weights else []
            arguments = [
                *SMALL,
                f"data.root={given.data}",
                f"out={given.out}",
                f"seed={seed}",
                *weights,
                *given.overrides,
            ]
            sweep = given.out.resolve() / f"{arm.replace(', ', '_')}_{seed}"
            found = search(sweep, arguments, chosen, given.trials)
            pruned = [one for one in found if one["status"] == "pruned"]
            saved = sum(EPOCHS * STEPS - one["steps"] for one in pruned)
            curves[arm][str(seed)] = curve(found, budget)
            end = curves[arm][str(seed)][-1]
            print(f"{arm}, seed {seed}: {len(curves[arm][str(seed)])} trials in {end[0]} steps, best {end[1]:.4f}; "
                  f"{len(pruned)} pruned, which saved {saved} steps", flush=True)  # fmt: skip
            (given.out / "curves.json").write_text(json.dumps(curves))
    if find_spec("matplotlib"):
        draw(curves, given.out / "search.png")


if __name__ == "__main__":
    main()

"""``mode=export``: a checkpoint as a file for others, checked: ONNX or OpenVINO with an example, or a small checkpoint."""

import logging
import shlex
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

from humanseg import __version__, build, checkpoint
from humanseg.config_rules import refuse_wrong_values
from humanseg.data.synthetic import Synthetic
from humanseg.export import example, writing
from humanseg.export.slim import slim
from humanseg.inference import engines
from humanseg.inference.packages import require
from humanseg.predictor import class_names
from humanseg.runs import find, recorded
from humanseg.runs.atomic import write_text
from humanseg.runs.conf import PROGRAM
from humanseg.runs.job import Job
from humanseg.value_rules import SWITCH, WORD, one_of, or_null, whole

log = logging.getLogger(__name__)

SHARED, RANKED = False, False
RULES = {
    "format": one_of(*writing.SUFFIXES),
    "precision": one_of("fp32", "fp16"),
    "end_to_end": SWITCH,
    "output": or_null(WORD),
    "check_on": whole(1),
}
DRAWN = 24  # people that it is checked on where there are no photographs


def run(config: dict, job: Job) -> float:
    """Export `ckpt`; returns the exported model's IoU on what it was checked on."""
    _refuse_wrong_options(config)
    path = find.checkpoint(config["ckpt"], config["out"])
    if find.is_exported(path):
        raise ValueError(f"ckpt={path} is exported already: give {find.NAMED}")
    payload = checkpoint.load(path)
    cfg = recorded.checkpoint_config(payload, config, job.typed, ("model", "data"))
    refuse_wrong_values(cfg, complete=False)
    require(*engines.NEEDS[writing.RUNTIMES[config["format"]]])

    begun = job.begin(ckpt=str(path), epoch=payload["epoch"])
    log.info("run        %s", job.folder)
    log.info("checkpoint %s (epoch %d)", path, payload["epoch"])
    build.compute(cfg["trainer"] | {"device": "cpu"}, cfg["data"])  # sets the number of threads
    network = build.model_of(payload, cfg["model"], path).eval()
    geometry = {key: cfg["data"][key] for key in ("image_size", "pad_value", "mean", "std")}
    recipe = writing.Recipe(network, config["format"], config["precision"], config["end_to_end"], **geometry)
    file = Path(config["output"] or job.folder / f"model{writing.SUFFIXES[recipe.format]}")
    photographs, what = _photographs(cfg, config["check_on"])
    if recipe.format == "torch":
        used = payload["config"] | {group: cfg[group] for group in ("model", "data")}
        found = writing.export_checkpoint(recipe, slim(payload, used, recipe.precision), file, photographs)
    else:
        found = writing.export(recipe, _facts(payload, cfg, path), file, photographs)
    written = [str(file), *[str(file.with_suffix(".bin"))] * (recipe.format == "openvino")]
    shown = _example(recipe, file, cfg["model"]["classes"], beside_own=bool(config["output"]))
    facts = {"format": recipe.format, "precision": recipe.precision, "end_to_end": recipe.end_to_end}
    begun.update(
        status="completed", **facts, files=[*written, *map(str, shown)], checked_on=what, check=found,
        monitor="iou_exported", monitor_mode="max", monitored=found["iou_exported"],
    )  # fmt: skip
    _close(recipe, found, what, written, shown)
    return found["iou_exported"]


def _example(recipe: writing.Recipe, file: Path, classes: int, beside_own: bool) -> list[Path]:
    """Write the program that uses a file without this project; a checkpoint has none.

    Args:
        beside_own: whether the file lies in a folder of the user's, where there may be others.
    """
    if recipe.format == "torch":
        return []
    shown = file.with_name(f"{file.stem}_example.py" if beside_own else "example.py")
    write_text(shown, example.program(file.name, shown.name, classes, recipe))
    return [shown]


def _refuse_wrong_options(options: dict) -> None:
    refuse_wrong_values(options, rules=RULES)
    if not options["ckpt"]:
        raise ValueError(f"mode=export needs ckpt=PATH: {find.NAMED}")
    suffix, output = writing.SUFFIXES[options["format"]], options["output"]
    if output and Path(output).suffix != suffix:
        raise ValueError(f"output={output}: format={options['format']} is written to a file that ends in {suffix}")
    if options["format"] == "torch" and options["end_to_end"]:
        raise ValueError(
            "end_to_end=true: format=torch is a checkpoint, which has the network alone; onnx and openvino can"
        )


def _photographs(cfg: dict, most: int) -> tuple[Iterable, str]:
    """Pairs of photograph and mask to check the file on, and in words what they are."""
    try:
        data = build.data(cfg["data"], None, cfg["model"]["classes"], cfg["seed"])
        samples = data.splits.get("val", ())
        if len(samples):
            count = min(len(samples), most)
            return (samples[index] for index in range(count)), f"{count} photographs of the validation split"
        reason = "the run has no validation split"
    except (ValueError, OSError) as error:
        reason = str(error).splitlines()[:2][-1].strip()  # of several problems, a line each, the first
    log.warning("%s: it is checked on drawn people", reason)
    drawn = Synthetic(min(DRAWN, most), cfg["data"]["image_size"], cfg["seed"])
    return islice(drawn, len(drawn)), f"{len(drawn)} drawn people"


def _facts(payload: dict, cfg: dict, path: Path) -> dict:
    """What the file says of itself beside how it is used."""
    averaged = payload.get("averaged", 0)
    last = next((log for log in reversed(payload["history"]) if log.get("averaged", 0) == averaged), {})
    return {
        "classes": class_names(cfg["model"]["classes"]),
        "architecture": payload["architecture"].rpartition(".")[2],
        "encoder": cfg["model"].get("encoder_name"),
        "epoch": payload["epoch"],
        "metrics": {name: value for name, value in last.items() if name.startswith(("val/", "test/"))},
        "source_run": "/".join(path.resolve().parts[-5:-2]) if path.parent.name == "checkpoints" else None,
        "source_checkpoint": path.name,
        "humanseg": __version__,
    }


def _close(recipe: writing.Recipe, found: dict, what: str, written: list[str], shown: list[Path]) -> None:
    size = recipe.image_size
    if recipe.format == "torch":
        log.info("holds      the network and its config, which torch.load(PATH, weights_only=True) opens")
    elif recipe.end_to_end:
        log.info("input      image, uint8 NxHxWx3 of any size; output probability, float32 NxHxW")
    elif found["free_size"]:
        log.info("input      image, normalised float32 Nx3xHxW of any size in multiples of 32; output logits")
    else:
        log.info(
            "input      image, normalised float32 Nx3x%dx%d: this network's size is fixed; output logits", size, size
        )
    log.info("checked    on %s: IoU %.4f, the checkpoint's %.4f; probability differs by up to %.2g",
             what, found["iou_exported"], found["iou_checkpoint"], found["largest_difference"])  # fmt: skip
    megabytes = sum(Path(file).stat().st_size for file in written) / 1e6
    log.info("file       %s (%.1f MB)", " and ".join(written), megabytes)
    nexts = [f"python {file} photo.jpg mask.png" for file in shown]
    nexts.append(f"{PROGRAM} mode=predict ckpt={shlex.quote(written[0])} input=photo.jpg")
    for place, command in enumerate(nexts):
        log.info("%-10s %s", "" if place else "next", command)

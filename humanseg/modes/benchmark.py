"""``mode=benchmark``: how fast this machine trains, what the limit is, and where the time goes."""

import logging

from humanseg import build, checkpoint
from humanseg.benchmark import network, people, training
from humanseg.benchmark.bench import PARTS, Bench, composed
from humanseg.benchmark.figures import Figure, as_json, table
from humanseg.config_rules import refuse_wrong_values
from humanseg.data.synthetic import synthetic
from humanseg.runs import find, recorded, trust
from humanseg.runs.atomic import write_json
from humanseg.runs.job import Job
from humanseg.runs.overrides import literal
from humanseg.value_rules import Rule

log = logging.getLogger(__name__)

SHARED, RANKED = False, False
ABOVE_0 = Rule(lambda value: isinstance(value, int | float) and value > 0, "a number above 0")
RULES = {
    "parts": Rule(lambda value: bool(value) and set(value) <= {*PARTS}, f"a list of {', '.join(PARTS)}"),
    "seconds": ABOVE_0,
    "people": ABOVE_0,
}
SYNTHETIC = f"{synthetic.__module__}.{synthetic.__name__}"


def run(config: dict, job: Job) -> None:
    """Measure the chosen parts; prints a table and leaves benchmark.json."""
    refuse_wrong_values(config, rules=RULES)
    path = find.checkpoint(config["ckpt"], config["out"]) if config["ckpt"] else None
    saved = checkpoint.load(path) if path else None
    cfg, overrides = on_files(config, job, saved)
    refuse_wrong_values(cfg, complete=not saved)
    begun = job.begin()
    network_of_checkpoint = build.model_of(saved, cfg["model"], path) if saved else None
    bench = Bench(cfg, overrides, config["seconds"], job.folder, network_of_checkpoint)
    if config["trace"] or {*config["parts"]} - {"model", "start"}:
        bench.data.batches_per_pass()  # less than one batch is refused

    log.info("run        %s", job.folder)
    measured = bench.measured() | {"ckpt": str(path) if path else None}
    log.info("measures   %s", ", ".join(f"{name} {value}" for name, value in measured.items()))
    found: list[Figure] = []
    for part in config["parts"]:
        log.info("measuring  %s", part)
        found += PARTS[part](bench)
    if saved:
        found.append(bench.miou())
    if not found:
        raise ValueError(f"parts={config['parts']}: several processes are measured beside one: give trainer.devices=N")
    row = network.row(bench.name(), found) if "model" in config["parts"] else None
    write_json(job.folder / "benchmark.json", as_json(found, measured, row))
    if config["trace"]:
        training.trace(bench.trainee(), job.folder / "trace.json")
        log.info("trace      %s (https://ui.perfetto.dev opens it)", job.folder / "trace.json")
    log.info("%s", table(found))
    if row:
        log.info("%s", network.markdown(row))
    begun.update(status="completed")
    log.info("result     %s", job.folder / "benchmark.json")


def on_files(config: dict, job: Job, saved: dict | None) -> tuple[dict, list[str]]:
    """The config to measure and its overrides; drawn people are written into files, so that there is decoding to do."""
    overrides = job.overrides
    cfg = recorded.checkpoint_config(saved, config, overrides, trust.GROUPS) if saved else config
    if cfg["data"]["_target_"] == SYNTHETIC:
        root = people.draw(job.folder / "people", config["people"], config["seed"])
        overrides = [item for item in overrides if not item.startswith(("data=", "data.samples="))]
        overrides += ["data=folder", f"data.root={literal(str(root))}"]
        if not any(item.startswith(("augment", "experiment=")) for item in overrides):
            overrides.append("augment=portrait")
        config = composed(overrides)
        cfg = recorded.checkpoint_config(saved, config, overrides, trust.GROUPS) if saved else config
    return cfg, overrides

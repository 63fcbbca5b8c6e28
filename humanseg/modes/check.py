"""``mode=check``: what a data set is, what is wrong with it, and where a network believes that a label is wrong."""

import logging
import shlex
from pathlib import Path

import numpy as np

from humanseg import build, terminal
from humanseg.check import copies, disagree, page, record, rules, sheets, table
from humanseg.check.findings import Finding, in_order
from humanseg.check.judges import judges, networks
from humanseg.check.scan import Scanned, scan
from humanseg.config_rules import refuse_wrong_values
from humanseg.data import mix
from humanseg.data.composing.composed import Crowds
from humanseg.data.splits.groups import Samples
from humanseg.logs.lines import of_data
from humanseg.runs.conf import PROGRAM, command
from humanseg.runs.job import Job
from humanseg.value_rules import whole

log = logging.getLogger(__name__)

SHARED, RANKED = False, False

EXCLUDE = "exclude.txt"  # what people tick on the page is saved so
NOTHING = "there are no photographs: set data.root (data=folder), data.pairs (data=pairs), or add a source (data=mix)"
RULES = {"worst": whole(1, 1000)}


def run(config: dict, job: Job) -> None:
    """Look at all files of `data`, and write what was found into the run's folder."""
    refuse_wrong_values(config, rules=RULES)
    chosen = networks(config["ckpt"], config, job.typed) if config["ckpt"] else []
    cfg = chosen[0].config if chosen else config
    refuse_wrong_values(cfg, complete=not chosen)
    begun = job.begin(ckpt=config["ckpt"])
    log.info("run        %s", job.folder)
    data, problems = cfg["data"], []
    folder = Path(data["cache_dir"]) if data["cache"] else job.folder
    nodes, opened = build.sources(data, cfg["model"]["classes"], config["seed"], "note", problems)
    sides = {name: {id(one): one for one in own.values() if _is_looked_at(one)} for name, own in opened.items()}
    if not any(sides.values()) and not problems:
        raise ValueError(NOTHING)
    scanned = scan({name: list(own.values()) for name, own in sides.items()}, folder)
    if data.get("on_error") == "skip":
        for one in scanned:
            one.tell_broken()
    problems += _divide(data, nodes, opened, scanned)
    judged = disagree.judge(judges(chosen, opened, scanned), folder) if chosen else {}

    found = [Finding("refused", (), problem) for problem in dict.fromkeys(problems)]
    for one in scanned:
        found += rules.findings(one, data["image_size"])
        if id(one) in judged:
            found += disagree.findings(one, judged[id(one)])
    for name in nodes:
        found += copies.groups([(one, _samples(one, nodes[name])) for one in scanned if one.name == name])
    found = in_order([*found, *copies.findings(scanned)])
    facts = {"command": shlex.join([*PROGRAM.split(), *job.typed]), "image_size": data["image_size"]}
    told = record.of(scanned, found, facts | {"checkpoint": config["ckpt"]})
    record.write(job.folder, told)
    shown = sheets.sheets(scanned, judged, found, config["worst"])
    file = page.write(job.folder, told, shown, sheets.photos(judged, shown))
    log.info("%s", terminal.lines(table.rows(told)))
    log.info("page       %s", file)
    log.info("next       %s", _next(job.typed, data.get("exclude"), bool(chosen)))
    begun.update(status="completed", findings={name: kind["count"] for name, kind in told["kinds"].items()})


def _next(typed: list[str], before: str | list[str] | None, with_network: bool) -> str:
    """How a training leaves out what is ticked, beside what the lists `before` name already."""
    lists = [*(before if isinstance(before, list) else [before] if before else []), EXCLUDE]
    exclude = "data.exclude=" + (f"[{','.join(lists)}]" if before else EXCLUDE)
    own = [one for one in of_data(typed) if not one.startswith("data.exclude=")]
    if with_network and not own:  # the data is the checkpoint's
        return f"{shlex.quote(exclude)} leaves out of training what is ticked and saved on the page"
    return f"{command()} {shlex.join([*own, exclude])} trains without what is ticked and saved on the page"


def _is_looked_at(source: object) -> bool:
    """Whether a source has photographs of its own; composed ones are made of others'."""
    return source is not None and not isinstance(source, Crowds)


def _samples(one: Scanned, node: dict) -> Samples:
    """The samples of a source with their groups, as its config has them."""
    return Samples(one.source, mix.places(node), node.get("split_seed", 0), group_by=node.get("group_by"))


def _divide(data: dict, nodes: dict, opened: dict, scanned: list[Scanned]) -> list[str]:
    """Note which samples train, validate and test, and forget those that are excluded; returns what is refused."""
    problems, parts, left_out = [], {}, []
    by_source = {id(one.source): one for one in scanned}
    try:
        parts = mix.of_each(nodes, lambda name: mix.divided(name, nodes, opened), problems, by_key=True)
        parts, left_out = mix.leave_out(parts, data, nodes)
        parts = mix.without_held_back(parts, data.get("duplicates", "together"))
    except ValueError as error:  # of one source alone, or of the list of those that are excluded
        problems += terminal.message(error).split("\n")
    whole = {name: own for name, own in opened.items() if name not in parts}  # refused: sides of their own are known
    sides = [(side, source, slice(None)) for own in whole.values() for side, source in own.items()]
    sides += [(side, part.source, np.asarray(part.indices)) for own in parts.values() for side, part in own.items()]
    for side, source, indices in sides:
        if id(source) in by_source:
            by_source[id(source)].split[indices] = side
    excluded = {one.path for one in left_out if one.why == "excluded"}
    for one in scanned if excluded else ():
        one.forget({index for index, path in enumerate(one.source.names) if path in excluded})
    return problems

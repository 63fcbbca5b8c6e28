"""``mode=report``: rank runs, and draw them where the extra `report` is installed."""

import logging
from pathlib import Path

from humanseg import report
from humanseg.config_rules import refuse_wrong_values
from humanseg.report.paper import SUFFIXES
from humanseg.runs.job import Job
from humanseg.runs.summary import is_sweep
from humanseg.value_rules import WORDS, Rule, one_of, or_null

log = logging.getLogger(__name__)

SHARED, RANKED = False, False
KEYS = Rule(lambda value: isinstance(value, str) or WORDS.holds(value), "a key or several, as [seed,data.fold]")
PICKED = Rule(
    lambda value: KEYS.holds(value) and all(":" in one for one in ([value] if isinstance(value, str) else value)),
    "KEY:VALUE of an experiment, as loss:dice, or several as [loss:dice,optimizer.lr:0.1]",
)
RULES = {
    "metrics": WORDS,
    "over": KEYS,
    "baseline": or_null(PICKED),
    "format": or_null(one_of(*SUFFIXES)),
}


def run(config: dict, job: Job) -> None:
    """Write the report of `runs` into the sweep's folder, or of anything else into this run's own."""
    refuse_wrong_values(config, rules=RULES)
    begun = job.begin()
    paper = _paper(config)
    sources = find_sources(config["runs"], config["out"])
    into = sources[0] if len(sources) == 1 and is_sweep(sources[0]) else job.folder
    try:
        log.info("%s", report.write(sources, into, paper))
    except OSError as error:
        if into == job.folder:
            raise
        log.warning("%s can't be written to (%s): the report goes into this run's own folder", into, error.strerror)
        into = job.folder
        log.info("%s", report.write(sources, into, paper))
    begun.update(status="completed", sources=[str(source) for source in sources], report=str(into))


def _paper(config: dict) -> dict | None:
    """What the table of a paper is made of; None where none of its options is typed."""
    if not (config["metrics"] or config["baseline"] or config["format"]):
        return None
    lists = {name: config[name] if isinstance(config[name], list) else [config[name]] for name in ("over", "baseline")}
    return {
        "metrics": config["metrics"],
        "over": lists["over"],
        "baseline": lists["baseline"] if config["baseline"] else [],
        "form": config["format"] or "markdown",
    }


def find_sources(wanted: str | list[str] | None, out: str) -> list[Path]:
    """The folders that `runs=` means: one, several, or `latest`, the newest sweep.

    Raises:
        ValueError: nothing wanted, or nothing there.
    """
    if not wanted:
        raise ValueError("mode=report needs runs=PATH: a sweep's folder, any folder of runs, a list, or `latest`")
    if wanted == "latest":
        sweeps = [file for file in Path(out).glob("**/sweep.json") if file.is_file()]
        sweeps.sort(key=lambda file: file.stat().st_mtime)
        if not sweeps:
            raise ValueError(f"runs=latest: there is no sweep under {out}")
        return [sweeps[-1].parent]
    sources = [Path(path) for path in ([wanted] if isinstance(wanted, str) else wanted)]
    if missing := [str(path) for path in sources if not path.is_dir()]:
        raise ValueError(f"runs={','.join(missing)}: there is no such folder")
    return sources

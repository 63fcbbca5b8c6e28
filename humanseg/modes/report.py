"""``mode=report``: rank runs, and draw them where the extra `report` is installed."""

import logging
from pathlib import Path

from humanseg import report
from humanseg.runs.job import Job
from humanseg.runs.summary import is_sweep

log = logging.getLogger(__name__)

SHARED, RANKED = False, False


def run(config: dict, job: Job) -> None:
    """Write the report of `runs` into the sweep's folder, or of anything else into this run's own."""
    begun = job.begin()
    sources = find_sources(config["runs"], config["out"])
    into = sources[0] if len(sources) == 1 and is_sweep(sources[0]) else job.folder
    try:
        log.info("%s", report.write(sources, into))
    except OSError as error:
        if into == job.folder:
            raise
        log.warning("%s can't be written to (%s): the report goes into this run's own folder", into, error.strerror)
        into = job.folder
        log.info("%s", report.write(sources, into))
    begun.update(status="completed", sources=[str(source) for source in sources], report=str(into))


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

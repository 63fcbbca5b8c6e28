"""``mode=report``: rank runs, and draw them where the extra `report` is installed."""

import logging
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from humanseg import report, runs
from humanseg.modes import overrides, run_folder

log = logging.getLogger(__name__)


def run(config: DictConfig) -> None:
    """Write the report of `runs` into the sweep's folder, or of anything else into this run's own."""
    composed = OmegaConf.to_container(config, resolve=True)
    folder = runs.Run(run_folder(), mode="report", overrides=overrides())
    sources = find_sources(composed["runs"], composed["out"])
    into = sources[0] if len(sources) == 1 and runs.is_sweep(sources[0]) else folder.folder
    try:
        log.info("%s", report.write(sources, into))
    except OSError as error:
        if into == folder.folder:
            raise
        log.warning("%s can't be written to (%s): the report goes into this run's own folder", into, error.strerror)
        into = folder.folder
        log.info("%s", report.write(sources, into))
    folder.update(status="completed", sources=[str(source) for source in sources], report=str(into))


def find_sources(typed: str | list[str] | None, out: str) -> list[Path]:
    """The folders that `runs=` means: one, several, or `latest`, the newest sweep.

    Raises:
        ValueError: nothing typed, or nothing there.
    """
    if not typed:
        raise ValueError("mode=report needs runs=PATH: a sweep's folder, any folder of runs, a list, or `latest`")
    if typed == "latest":
        sweeps = sorted(Path(out).glob("**/sweep.json"), key=lambda file: file.stat().st_mtime)
        if not sweeps:
            raise ValueError(f"runs=latest: there is no sweep under {out}")
        return [sweeps[-1].parent]
    sources = [Path(path) for path in ([typed] if isinstance(typed, str) else typed)]
    if missing := [str(path) for path in sources if not path.is_dir()]:
        raise ValueError(f"runs={','.join(missing)}: there is no such folder")
    return sources

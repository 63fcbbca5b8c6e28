"""Where drawings go. This is planned before anything is computed, and refused where a file would be lost."""

import logging
from pathlib import Path

from humanseg.compositing.drawings import NAMES
from humanseg.compositing.studio import Picture
from humanseg.media import images

log = logging.getLogger(__name__)

IN_PICTURES = dict.fromkeys(NAMES, ".png")
IN_VIDEOS = dict.fromkeys(NAMES, ".mp4") | {"cutout": ".webm"}  # webm can be transparent


def of_photographs(typed: str | list, output: Path, names: list[str], overwrite: bool) -> list[Picture]:
    """The photographs that wait to be drawn, each with a file for each drawing; what is finished is left out.

    Args:
        typed: as `images.find_photographs` takes it. output: a file or a folder. names: of the drawings.

    Raises:
        ValueError: there is no photograph, several would go to one file, or one would be overwritten.
    """
    found = [one for one in images.find_photographs(typed) if not _drawn_before(one.path, output, typed)]
    pictures = [Picture(source=one, targets=_targets(one.place, output, names, IN_PICTURES)) for one in found]
    if output.suffix.lower() in images.WRITTEN and len(found) > 1:
        raise ValueError(f"output={output} is one file, and input= names {len(found)} photographs: give a folder")
    _refuse_overwriting([one.path for one in found], [path for one in pictures for path in one.targets.values()])
    waiting = [one for one in pictures if overwrite or not all(path.exists() for path in one.targets.values())]
    if len(waiting) < len(pictures):
        log.info("skips      %d that are finished; overwrite=true draws them anew", len(pictures) - len(waiting))
    return waiting


def of_video(typed: str, output: Path, names: list[str], overwrite: bool) -> dict[str, Path]:
    """A video's file for each drawing.

    Raises:
        ValueError: a file exists already, or would overwrite the input.
    """
    into = _targets(Path(Path(typed).stem), output, names, IN_VIDEOS)
    _refuse_overwriting([Path(typed)], list(into.values()))
    if not overwrite and (there := [str(path) for path in into.values() if path.exists()]):
        raise ValueError(f"{', '.join(there)} exists: give another output, or overwrite=true")
    return into


def _targets(place: Path, output: Path, names: list[str], suffixes: dict[str, str]) -> dict[str, Path]:
    """`output` itself where it is a file, else <output>/<place><suffix>; several drawings get their names added."""
    is_file = output.suffix.lower() in images.WRITTEN | images.VIDEOS
    whole = output.with_suffix("") if is_file else output / place
    suffixes = dict.fromkeys(names, output.suffix) if is_file else suffixes
    return {name: Path(f"{whole}{f'_{name}' * (len(names) > 1)}{suffixes[name]}") for name in names}


def _drawn_before(path: Path, output: Path, typed: str | list) -> bool:
    """Whether a photograph is an earlier call's result: it lies in the output, which lies within the input's folder."""
    roots = [Path(str(one)).resolve() for one in (typed if isinstance(typed, list) else [typed])]
    within = any(root in output.resolve().parents for root in roots)
    return within and output.resolve() in path.resolve().parents


def _refuse_overwriting(sources: list[Path], results: list[Path]) -> None:
    inputs = {path.resolve() for path in sources}
    if lost := [str(path) for path in results if path.resolve() in inputs]:
        raise ValueError(f"output= would overwrite its input {lost[0]}: give another file or folder")

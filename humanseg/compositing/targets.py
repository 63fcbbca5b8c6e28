"""Where drawings go. This is planned before anything is computed, and refused where a file would be lost."""

import logging
import os
import re
from collections.abc import Callable
from pathlib import Path

from humanseg.compositing.drawings import NAMES
from humanseg.compositing.results import Results
from humanseg.compositing.studio import Picture
from humanseg.data.opening import SUFFIXES
from humanseg.media import images

log = logging.getLogger(__name__)

IN_PICTURES = dict.fromkeys(NAMES, ".png")


def of_photographs(typed: str | list, output: Path, names: list[str], overwrite: bool) -> list[Picture]:
    """The photographs that wait to be drawn, each with a file for each drawing; what is finished is left out.

    Args:
        typed: as `images.find_photographs` takes it. output: a file or a folder. names: of the drawings.

    Raises:
        ValueError: there is no photograph, several would go to one file, or one would be overwritten; or the output's
            name has a suffix that can't be written.
    """
    alone = is_file(output, images.WRITTEN, is_one_file(typed))
    results = Results(output.parent if alone else output)
    found = images.find_photographs(typed, result_of_before(results, output, typed))
    if alone and len(found) > 1:
        raise ValueError(f"output={output} is one file, and input= names {len(found)} photographs: give a folder")
    if alone and "cutout" in names and output.suffix.lower() not in images.WITH_ALPHA:
        log.info("note       %s can't be transparent: the cutout is put on white", output)
    pictures = [
        Picture(source=one, targets=named(one.place, output, names, None if alone else IN_PICTURES), results=results)
        for one in found
    ]
    refuse_overwriting([one.path for one in found], [path for one in pictures for path in one.targets.values()])
    if not overwrite:
        pairs = [(path, one.source.path) for one in pictures for path in one.targets.values()]
        refuse_strange(results, pairs, "photographs")
    waiting = [one for one in pictures if overwrite or not results.finished(one.targets, one.source.path)]
    if len(waiting) < len(pictures):
        log.info("skips      %d that are finished; overwrite=true draws them anew", len(pictures) - len(waiting))
    if anew := sum(path.exists() for one in waiting for path in one.targets.values()):
        log.info("anew       %d results are replaced", anew)
    return waiting


def named(place: Path, output: Path, names: list[str], suffixes: dict[str, str] | None) -> dict[str, Path]:
    """<output>/<place><suffix>, or `output` itself without `suffixes`; several drawings get their names added."""
    whole = output / place if suffixes else output.with_suffix("")
    suffixes = suffixes or dict.fromkeys(names, output.suffix)
    return {name: Path(f"{whole}{f'_{name}' * (len(names) > 1)}{suffixes[name]}") for name in names}


def is_file(output: Path, written: set[str], one: bool) -> bool:
    """Whether the output is a file and no folder. Where `one` thing is drawn, an unknown suffix is a mistake.

    Args:
        written: the suffixes that can be written.

    Raises:
        ValueError: the output's name has a suffix that can't be written.
    """
    suffix = output.suffix.lower()
    if output.is_dir() or not re.match(r"\.[a-z]", suffix):  # 2024.11 is a folder
        return False
    if suffix not in written and (one or suffix in SUFFIXES | images.VIDEOS):
        accepted = ", ".join(sorted(written))
        raise ValueError(f"output={output} can't be written: give a name in {accepted}, or a folder that is there")
    return suffix in written


def is_one_file(typed: str | list) -> bool:
    """Whether the input is one photograph or video, and no folder, list or pattern."""
    path = Path(os.path.expanduser(str(typed)))
    return not isinstance(typed, list) and path.is_file() and path.suffix.lower() != ".txt"


def result_of_before(results: Results, output: Path, typed: str | list) -> Callable[[Path], bool]:
    """Whether a file in the input's folder is an earlier call's result.

    The output's record names it, or it lies in the output, which lies within the input's folder. A file that was typed
    itself is a photograph.
    """
    roots = [Path(os.path.expanduser(str(one))).resolve() for one in (typed if isinstance(typed, list) else [typed])]
    folder = output.resolve()
    within = any(root in folder.parents for root in roots)

    def is_result(path: Path) -> bool:
        whole = Path(os.path.realpath(path))  # resolve() raises for a link that leads to itself
        return whole not in roots and (results.hold(path) or (within and folder in whole.parents))

    return is_result


def refuse_strange(results: Results, pairs: list[tuple[Path, Path]], what: str) -> None:
    """Refuse files that are no results of these sources: they are older, and the record doesn't know them.

    Args:
        pairs: a result's place and its source. what: the sources, in the sentence.

    Raises:
        ValueError: there are some.
    """
    strange = [path for path, source in pairs if results.too_old(path, source)]
    if strange:
        raise ValueError(
            f"{len(strange)} files in the places of results are older than their {what}, as {strange[0]}: "
            "give another output, or overwrite=true"
        )


def refuse_overwriting(sources: list[Path], results: list[Path]) -> None:
    """Refuse results that would take the place of what they are drawn of.

    Raises:
        ValueError: there is one.
    """
    inputs = {os.path.realpath(path) for path in sources}
    if lost := [str(path) for path in results if os.path.realpath(path) in inputs]:
        raise ValueError(f"output= would overwrite its input {lost[0]}: give another file or folder")

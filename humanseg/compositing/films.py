"""Videos: which files become of them, and how their frames go through the studio."""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from humanseg import terminal
from humanseg.compositing import targets
from humanseg.compositing.drawings import NAMES, backdrops
from humanseg.compositing.flow import ahead, in_order
from humanseg.compositing.results import Results, fingerprint
from humanseg.compositing.studio import Picture, Studio, refuse_failed
from humanseg.inference.temporal import Smoother
from humanseg.media import images
from humanseg.media.frame_writers import WRITTEN, first_file, frame_writer, refuse_name
from humanseg.media.video_reader import Video
from humanseg.processes.hardware import cores
from humanseg.runs.atomic import is_of_the_disk

log = logging.getLogger(__name__)

FORMATS = ("mp4", "mov", "mkv", "webm", "gif", "webp", "png")  # png: a folder of numbered pictures


class Film(NamedTuple):
    """A video that waits to be drawn, with a file for each drawing, and where these are noted once they are there."""

    path: Path
    targets: dict[str, Path]
    results: Results

    @property
    def files(self) -> dict[str, Path]:
        """By drawing, the file that is there once all of it is."""
        return {name: first_file(path) for name, path in self.targets.items()}


def of_videos(typed: str | list, output: Path, names: list[str], options: dict) -> list[Film]:
    """The videos that wait to be drawn; what is finished is left out.

    Args:
        typed: as `images.find_videos` takes it. output: a file or a folder. names: of the drawings.
        options: `format`, `bits` and `overwrite` of conf/mode/predict.yaml.

    Raises:
        ValueError: there is no video; several would go to one file, or one would be overwritten; a file's name has a
            suffix that can't be written, or can't hold the bits.
    """
    alone = targets.is_file(output, WRITTEN, targets.is_one_file(typed))
    results = Results(output.parent if alone else output)
    found = images.find_videos(typed, targets.result_of_before(results, output, typed))
    if alone and len(found) > 1:
        raise ValueError(f"output={output} is one file, and input= names {len(found)} videos: give a folder")
    suffixes = None if alone else _suffixes(options)
    films = [Film(one.path, targets.named(one.place, output, names, suffixes), results) for one in found]
    for name, path in (pair for film in films for pair in film.targets.items()):
        refuse_name(path, sixteen_bits=name == "probability" and options["bits"] == 16)
    pairs = [(path, film.path) for film in films for path in film.files.values()]
    targets.refuse_overwriting([film.path for film in films], [path for path, _ in pairs])
    if options["overwrite"]:
        return films
    if alone and (there := [str(path) for path, _ in pairs if path.exists() and not results.hold(path)]):
        raise ValueError(f"{', '.join(there)} exists: give another output, or overwrite=true")
    targets.refuse_strange(results, pairs, "videos")
    waiting = [film for film in films if not results.finished(film.files, film.path)]
    if len(waiting) < len(films):
        log.info("skips      %d that are finished; overwrite=true draws them anew", len(films) - len(waiting))
    return waiting


def _suffixes(options: dict) -> dict[str, str]:
    """What is added to a video's place, by drawing."""
    if options["format"] is None:
        deep = {"probability": ".mkv"} if options["bits"] == 16 else {}
        return dict.fromkeys(NAMES, ".mp4") | {"cutout": ".webm"} | deep  # webm can be transparent
    return dict.fromkeys(NAMES, "/%05d.png" if options["format"] == "png" else f".{options['format']}")


def draw_videos(studio: Studio, options: dict, films: list[Film]) -> dict:
    """Draw the frames of each video into a video for each drawing, with its sound.

    Raises:
        ValueError: some failed; all are listed.
    """
    frames, flickers, troubles = 0, [], []
    for film in films:
        try:
            count, flicker = _draw(studio, options, film)
        except ValueError as error:
            if len(films) == 1 or is_of_the_disk(error):
                raise
            troubles.append(str(error))
            continue
        frames += count
        flickers.append(flicker)
        log.info("result     %s", ", ".join(map(str, film.targets.values())))
    studio.say_speed(frames, "frame")
    refuse_failed(troubles, len(films), "video")
    done = {"videos": len(films), "frames": frames, "seconds": round(studio.clock.elapsed(), 2)}
    if flickers:
        before, after = done["flicker"] = np.mean(flickers, axis=0).tolist()
        steadied = f", {after:.5f} with temporal=ema" if options["temporal"] == "ema" else ""
        log.info("flicker    %.5f%s", before, steadied)
    return done


def _draw(studio: Studio, options: dict, film: Film) -> tuple[int, tuple[float, float]]:
    """(frames, flicker before and after smoothing)"""
    smoother, clock, behind = Smoother(options["temporal"]), studio.clock, backdrops(options["background"])
    drawn_of = fingerprint(film.path)  # before it is read, so never of a newer one
    with Video(film.path, options["start"], options["end"], options["every"]) as video, studio.pool() as pool:

        def read() -> Iterator[Picture]:
            for image, one in zip(clock.each("decode", video), behind, strict=False):
                yield studio.prepare(Picture(image, behind=one))

        def steady(pictures: Iterator[Picture]) -> Iterator[Picture]:
            for picture in pictures:
                with clock("smooth"):
                    picture.logits = smoother(picture.square, picture.logits)
                yield picture

        seen = ahead(steady(studio.infer(ahead(read(), 4 + studio.batch), pool)), 4)
        made_of, count = (video.width, video.height, video.rate, video, options["keep_metadata"]), 0
        with contextlib.ExitStack() as opened:
            writers = {name: opened.enter_context(frame_writer(path, *made_of)) for name, path in film.targets.items()}
            drawn = in_order(pool, studio.draw, seen, 2 * cores())
            for pictures in tqdm(drawn, terminal.visible(film.path.name), video.frames, leave=False, disable=None):
                with clock("encode"):
                    for name, writer in writers.items():
                        writer.write(pictures[name])
                count += 1
    film.results.add(drawn_of, film.files)
    if video.trouble:
        log.warning("%s", video.trouble)
    return count, smoother.flicker()

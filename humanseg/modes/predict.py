"""``mode=predict``: cut people out of photographs, videos and a camera's picture."""

import itertools
import logging
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import cv2
from tqdm import tqdm

from humanseg import checkpoint, zoo
from humanseg.compositing import films, targets
from humanseg.compositing.drawings import NAMES, Drawings, backdrops, color
from humanseg.compositing.flow import Clock, ahead, in_order, in_parts
from humanseg.compositing.results import Results, fingerprint
from humanseg.compositing.studio import Picture, Studio, refuse_failed
from humanseg.config_rules import refuse_wrong_values
from humanseg.data.deep import LARGE
from humanseg.data.opening import IN_FLIGHT, pixels_of
from humanseg.data.pictures import read_photograph
from humanseg.inference.temporal import Smoother
from humanseg.media import images
from humanseg.media.camera import Camera
from humanseg.media.preview import Preview
from humanseg.predictor import Predictor
from humanseg.processes import distributed
from humanseg.processes.hardware import cores
from humanseg.runs import find, recorded
from humanseg.runs.atomic import is_of_the_disk
from humanseg.runs.job import Job
from humanseg.value_rules import SWITCH, WORD, Rule, number, one_of, or_null, whole

log = logging.getLogger(__name__)

SHARED, RANKED = True, False

VIEW = Rule(
    lambda view: view == "flip" or (isinstance(view, int | float) and 0.25 <= view <= 4),
    "flip, or scales from 0.25 to 4",
)
RULES = {
    "ckpt": Rule(bool, "a checkpoint, a run's or sweep's folder, an exported file, or `latest`"),
    "input": Rule(
        lambda value: value not in (None, "", []),
        "photographs or videos (a file, folder, glob, list file or a list of them), a camera's number or a stream",
    ),
    "output": or_null(WORD),
    "background": or_null(Rule(lambda value: isinstance(value, str), "photo.jpg, video.mp4, color:00b140 or blur:25")),
    "backend": one_of("auto", "torch", "onnxruntime", "openvino"),
    "draw": Rule(
        lambda value: value == "auto" or set() < set(_listed(value)) <= {*NAMES},
        f"{', '.join(NAMES)}, or a list of them",
    ),
    "tta": Rule(lambda value: value == "auto" or all(map(VIEW.holds, _listed(value))), f"auto, {VIEW.words}"),
    "threshold": number(0.01, 0.99),
    "opacity": number(0, 1),
    "colors": Rule(lambda value: isinstance(value, list) and len(value) == 2, "two colours, as [2ecc71,20242c]"),
    "bits": one_of(8, 16),
    "foreground": one_of("estimate", "keep"),
    "temporal": one_of("none", "ema"),
    "start": or_null(number(0)),
    "end": or_null(number(0)),
    "every": whole(1),
    "format": or_null(one_of(*films.FORMATS)),
    "port": whole(0, 65535),
    "batch": or_null(whole(1)),
    **dict.fromkeys(("refine", "keep_largest", "fill_holes", "live", "overwrite", "keep_metadata"), SWITCH),
}
AUTO = {"photographs": "mask", "videos": "matting", "camera": "matting"}
IDLE = {  # options that would change nothing
    "photographs": (("start", "end", "format"), "photographs are no video"),
    "videos": ((), ""),
    "camera": (("output", "start", "end", "format"), "the live page stores nothing and shows all"),
}
FEW = 1000  # photographs that torch has drawn by when another backend, which takes the network once a size, catches up
RATE_HELD = 0.9  # of the live page's frame rate, from one frame to the next


def run(config: dict, job: Job) -> None:
    """Draw what was asked for; photographs that fail don't stop the others, and are listed at the end."""
    config = config | {"ckpt": config["ckpt"] or zoo.file_of(zoo.DEFAULT)}
    _refuse_wrong_options(config)
    # One process looks what is there: another may be drawing already.
    typed, output = config["input"], Path(config["output"] or job.folder)
    results = Results(output if output.is_dir() else output.parent)
    find_kind = partial(images.kind, typed, targets.result_of_before(results, output, typed))
    kind = "camera" if config["live"] else distributed.made_by_main(find_kind)
    _refuse_idle(config, *IDLE[kind])
    names = [AUTO[kind]] if config["draw"] == "auto" else _listed(config["draw"])
    plan = {
        "photographs": lambda: targets.of_photographs(typed, output, names, config["overwrite"]),
        "videos": lambda: films.of_videos(typed, output, names, config),
        "camera": lambda: _the_live_page(names),
    }[kind]
    planned = distributed.made_by_main(plan)
    if kind != "photographs" and not distributed.is_main():
        return
    backdrops(config["background"])  # refuses what it can't read

    closer = config["tta"] == "auto"
    views = [] if closer else _listed(config["tta"])
    scales = [1.0, *(float(view) for view in views if view != "flip")]
    ckpt = find.checkpoint(config["ckpt"], config["out"])
    if len(scales) > 1 and find.is_exported(ckpt):
        raise ValueError(f"{ckpt} takes squares of one size: scales in tta= need a checkpoint")
    of_photographs = kind == "photographs"
    few = of_photographs and len(planned) < FEW
    how = {
        "closer": closer and of_photographs,
        "one_core_each": kind == "videos" or (of_photographs and len(planned) > 1),
    }
    predictor = _predictor(config, job.typed, ckpt, in_torch=few, **how)
    begun = job.begin(ckpt=str(ckpt)) if distributed.is_main() else None
    tints = [color(one) for one in config["colors"]]
    keys = ("threshold", "opacity", "bits", "keep_largest", "fill_holes", "foreground")
    drawings = Drawings(names, colors=tints, **{key: config[key] for key in keys})
    batch = config["batch"] or (16 if predictor.engine.device.type == "cuda" else 1)
    studio = Studio(predictor, drawings, scales, "flip" in views, batch, Clock())
    log.info("checkpoint %s", ckpt)
    log.info("network    %d px, %s, %s", predictor.size, predictor.engine.backend, predictor.engine.precision)
    work = {"photographs": draw_photographs, "videos": films.draw_videos, "camera": show_camera}[kind]
    facts = work(studio, config, planned)
    if of_photographs:
        log.info("result     %s", output)
    if begun:
        begun.update(status="completed", **facts)


def _predictor(options: dict, typed: list[str], ckpt: Path, in_torch: bool, **how: bool) -> Predictor:
    """The checkpoint's network, or an exported file, where this machine runs it fastest; `in_torch` decides for auto.

    Args:
        how: `closer` and `one_core_each` of `Predictor.of_checkpoint`.
    """
    trainer, backend = options["trainer"], options["backend"]
    if find.is_exported(ckpt):
        return Predictor(ckpt, trainer["device"], trainer["precision"], backend, options["refine"])
    if backend == "auto" and in_torch:
        backend = "torch"
    payload = checkpoint.load(ckpt)
    cfg = recorded.checkpoint_config(payload, options, typed)
    return Predictor.of_checkpoint(ckpt, payload, cfg | {"trainer": trainer}, backend, options["refine"], **how)


def draw_photographs(studio: Studio, options: dict, waiting: list[Picture]) -> dict:
    """Draw each photograph; reading, network, drawing and writing overlap. Several processes take turns.

    Raises:
        ValueError: some failed; all are listed. Or the disk is full, so that no other could be written either.
    """

    def backed() -> Iterator[Picture]:
        for picture, one in zip(own, itertools.islice(behind, *turns), strict=False):
            picture.behind = one
            yield picture

    behind, turns = backdrops(options["background"]), (distributed.rank(), None, distributed.world_size())
    own, troubles = waiting[slice(*turns)], []
    # So many are between reading and writing at most.
    window = 4 * cores() + (1 + studio.predictor.engine.streams) * studio.batch + 4
    with (
        studio.pool() as pool,
        tqdm(desc="predict", total=len(own), leave=False, disable=distributed.hides_bar()) as bar,
    ):
        for part in in_parts(backed(), _weight, IN_FLIGHT, window):
            loaded = in_order(pool, partial(_load, studio), part, 2 * cores() + studio.batch)
            seen = ahead(studio.infer(loaded, pool), 2)
            for picture in in_order(pool, partial(_finish, studio), seen, 2 * cores()):
                troubles += [picture.trouble] * bool(picture.trouble)
                bar.update()
    studio.say_speed(len(own) - len(troubles), "photograph")
    troubles = [trouble for some in distributed.all_gather(troubles) for trouble in some]
    refuse_failed(troubles, len(waiting), "photograph")
    return {"photographs": len(waiting), "seconds": round(studio.clock.elapsed(), 2)}


def _weight(picture: Picture) -> int:
    """Its pixels; a large one is drawn alone."""
    pixels = pixels_of(picture.source.path)
    return pixels if pixels <= LARGE else IN_FLIGHT


def _load(studio: Studio, picture: Picture) -> Picture:
    try:
        with studio.clock("decode"):
            picture.fingerprint = fingerprint(picture.source.path)  # before it is read, so never of a newer one
            picture.image, picture.alpha, note = read_photograph(picture.source.path)
            for path in picture.targets.values():
                images.refuse_size(path, *picture.image.shape[:2])
            studio.prepare(picture)
        if note:
            log.info("note       %s", note)
    except ValueError as error:
        picture.trouble = str(error)
    return picture


def _finish(studio: Studio, picture: Picture) -> Picture:
    try:
        if not picture.trouble:
            for name, drawn in studio.drawn(picture):
                with studio.clock("encode"):
                    images.write_image(picture.targets[name], drawn, keep=False)
            picture.results.add(picture.fingerprint, picture.targets)
    except ValueError as error:
        if is_of_the_disk(error):
            raise
        picture.trouble = str(error)
    picture.image = picture.alpha = picture.square = picture.logits = picture.behind = None
    return picture


def show_camera(studio: Studio, options: dict, name: str) -> dict:
    """Draw a camera's newest picture again and again on a local page, until its button or Ctrl-C ends it."""
    smoother, count, rate, shown = Smoother(options["temporal"]), 0, 0.0, time.perf_counter()
    behind = backdrops(options["background"])
    with Camera(options["input"]) as camera, Preview(options["port"]) as page:
        print(f"live       {page.url} (Ctrl-C, or the button there, ends it)", flush=True)  # not into run.log
        for image, one in zip(camera, behind, strict=False):
            (picture,) = studio.see([studio.prepare(Picture(image, behind=one))])
            picture.logits = smoother(picture.square, picture.logits)
            drawn = studio.draw(picture)[name]
            count, now = count + 1, time.perf_counter()
            rate = RATE_HELD * rate + (1 - RATE_HELD) / (now - shown) if rate else 1 / (now - shown)
            shown = now
            page.show(cv2.cvtColor(drawn, cv2.COLOR_GRAY2RGB) if drawn.ndim == 2 else drawn, rate, camera.age)
            if page.wants_to_stop:
                break
    if camera.trouble:
        log.warning("%s", camera.trouble)
    studio.say_speed(count, "frame")
    return {"frames": count, "seconds": round(studio.clock.elapsed(), 2)}


def _the_live_page(names: list[str]) -> str:
    """The one drawing that it shows."""
    if len(names) > 1 or names[0] in ("cutout", "probability"):
        raise ValueError(f"draw={names}: the live page shows one of mask, matting, overlay, background")
    return names[0]


def _refuse_wrong_options(options: dict) -> None:
    """Refuse all that is wrong with the options, at once."""
    refuse_wrong_values(options, rules=RULES)
    drawn = _listed(options["draw"])
    if "background" in drawn and not options["background"]:
        raise ValueError("draw=background needs background=: a photograph, a video, color:00b140 or blur:25")
    deep = options["bits"] == 16 and "probability" in drawn
    if deep and Path(options["output"] or "").suffix.lower() in images.WRITTEN - images.WITH_16_BITS:
        raise ValueError(
            f"output={options['output']} can't hold bits=16: {' or '.join(sorted(images.WITH_16_BITS))} can"
        )
    if options["background"] and "background" not in drawn:
        raise ValueError("background= is drawn by draw=background: type both")


def _refuse_idle(options: dict, keys: tuple[str, ...], why: str) -> None:
    if typed := [f"{key}={options[key]}" for key in keys if options[key] is not None]:
        raise ValueError(f"{', '.join(typed)}: leave this out, for {why}")


def _listed(value: object) -> list:
    return value if isinstance(value, list) else [value]

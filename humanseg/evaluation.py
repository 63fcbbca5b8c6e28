"""Scoring at the photographs' own size, and what it writes: per_image.csv and contact_sheet.png."""

import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from humanseg import tally, terminal
from humanseg.compare import scores
from humanseg.data.loading import Data
from humanseg.data.splits.parts import Split
from humanseg.data.transforms import unletterbox
from humanseg.metrics import OF_BOUNDARIES, Counts, predictions
from humanseg.pictures import contact_sheet, extremes, png, titled_row
from humanseg.predictor import Predictor
from humanseg.processes import distributed
from humanseg.runs.atomic import write_bytes, write_table
from humanseg.runs.find import TABLE

log = logging.getLogger(__name__)

SHEET_ROWS = 6  # best and worst photographs each on the contact sheet
AT_ONCE, MOST_AT_ONCE = 8, 100_000_000  # photographs, and their pixels
TILE = 240  # pixels of a photograph's side there


def choose_split(data: Data, wanted: str) -> str:
    """The samples to score: `auto` takes the test data, else the validation samples.

    Raises:
        ValueError: an unknown split, or one without samples.
    """
    names = dict.fromkeys(("test", "val", "train", *data.splits))  # a data function may add others
    filled = [name for name in names if len(data.splits.get(name, ()))]
    if wanted == "auto" and filled:
        return filled[0]
    if wanted not in filled:
        raise ValueError(f"split={wanted}: there are samples in {', '.join(filled) or 'no split'}")
    return wanted


def score(
    predictor: Predictor,
    data: Data,
    split: str,
    metrics: dict[str, Callable[[Counts], float]],
    folder: Path,
    worst: int,
    called: str = "test",
) -> dict[str, float]:
    """Score a split, source by source; the main process writes its files into `folder` and logs the `worst` photographs.

    Returns:
        The metrics over all photographs as ``test/NAME``, or under another name than `test`; of several sources each has
        its own, see `tally.evaluate`.
    """
    values, rows = measure(predictor, data, split, metrics)
    _write_scores(predictor, data.splits[split], rows, folder, worst, next(iter(metrics)))
    return {f"{called}/{name}": value for name, value in values.items()}


def measure(
    predictor: Predictor, data: Data, split: str, metrics: dict[str, Callable[[Counts], float]]
) -> tuple[dict[str, float], list[dict | None]]:
    """The metrics over all photographs of a split, and a row for each in the order of the split; None where it counts nowhere."""
    parts = {part.name: part for part in data.splits[split].parts}
    rows = {source: [] for source in parts}
    of_boundaries = any(name in metrics for name in OF_BOUNDARIES)

    def each(source: str, counts: Counts, target: Tensor) -> None:
        name = parts[source].name_of(data.share.rank + data.share.world_size * len(rows[source]))
        told = {"image": name} | ({"source": source} if data.splits[split].sources else {})
        told |= {key: metric(counts) for key, metric in metrics.items()}
        told |= scores.facts(counts, target, of_boundaries)
        rows[source].append(told if counts.images else None)  # all of it is ignored, or it could not be read

    outputs = {
        source: photograph_outputs(predictor, data.photographs(split, part), source) for source, part in parts.items()
    }
    values, *_ = tally.evaluate(outputs, metrics, each=each)
    for one in data.tolerance.skipped({split: data.splits[split]}):
        log.warning("skipped    %s can't be read and is not scored", one.path)
    return values, [row for own in rows.values() for row in distributed.all_gather_in_turns(own)]


@distributed.rank_zero_only
def _write_scores(
    predictor: Predictor, split: Split, gathered: list[dict | None], folder: Path, worst: int, first: str
) -> None:
    """Write the rows, and draw and log the best and the worst by the metric `first`.

    Args:
        gathered: for each sample of the split its row; None where it counts nowhere.

    Raises:
        ValueError: none counts.
    """
    folder.mkdir(exist_ok=True)
    rows = {index: row for index, row in enumerate(gathered) if row}
    if not rows:
        raise ValueError(
            f"none of the {len(gathered)} photographs can be scored: they can't be read, or all of them is ignored"
        )
    order = sorted(rows, key=lambda index: rows[index][first])
    write_table(folder / TABLE, list(rows[order[0]]), [*rows.values()])
    sources = {index: f"{row['source']}  " if "source" in row else "" for index, row in rows.items()}
    width = max(map(len, sources.values()))
    shown = [f"  {rows[index][first]:.4f}  {sources[index]:{width}}{rows[index]['image']}" for index in order[:worst]]
    log.info("worst      by %s\n%s", first, terminal.lines(shown))
    titles = {index: f"{sources[index]}{first} {row[first]:.3f}" for index, row in rows.items()}
    chosen = [[*rows][place] for place in extremes([row[first] for row in rows.values()], SHEET_ROWS)]
    tiles = [_tile(predictor, *split[index], titles[index]) for index in chosen]
    write_bytes(folder / "contact_sheet.png", png(contact_sheet(tiles, 2)))


def photograph_outputs(predictor: Predictor, photographs: Iterable, source: str) -> Iterator[tuple[Tensor, Tensor]]:
    """Logits 1xCxHxW and target 1xHxW of each of a source's photographs at its own size."""
    bar = tqdm(photographs, f"test {source}".rstrip(), leave=False, disable=distributed.hides_bar())
    for group in _grouped(bar):
        found = predictor.logits_of([image for image, _ in group])
        for logits, (image, mask) in zip(found, group, strict=True):
            logits = _at_own_size(predictor, logits, image)[None]
            yield logits, torch.from_numpy(mask)[None].to(logits.device)


def _at_own_size(predictor: Predictor, logits: Tensor, image: np.ndarray) -> Tensor:
    """Logits CxSxS of a photograph's square -> CxHxW; where its edges are refined 1xHxW, the person's."""
    if predictor.refine:
        return torch.from_numpy(predictor.probability(logits, image)).logit(1e-6)[None]
    return unletterbox(logits, *image.shape[:2])


def _grouped(photographs: Iterable) -> Iterator[list]:
    """What the network sees at once: up to AT_ONCE photographs, fewer large ones."""
    group, pixels = [], 0
    for image, mask in photographs:
        if group and (len(group) == AT_ONCE or pixels + mask.size > MOST_AT_ONCE):
            yield group
            group, pixels = [], 0
        group.append((image, mask))
        pixels += mask.size
    if group:
        yield group


def _tile(predictor: Predictor, image: np.ndarray, mask: np.ndarray, title: str) -> np.ndarray:
    """Photograph, truth, prediction and errors in a row, with a title."""
    return titled_row(image, mask, found_in(predictor, image), TILE, title)


def found_in(predictor: Predictor, image: np.ndarray) -> np.ndarray:
    """The class ids uint8 HxW that are scored in a photograph, uint8 HxWx3."""
    logits = _at_own_size(predictor, predictor.logits_of([image])[0], image)
    return predictions(logits[None])[0].cpu().numpy().astype(np.uint8)

"""The names of measured values.

``val/iou`` is over all samples of a split. Where several sources are in it, ``val/coco/iou`` is one source's, and
``val/mean_iou`` the mean over the sources that show people.
"""

from collections.abc import Collection, Iterable, Sequence

MEAN = "mean_"


def measured(metrics: Iterable[str], sources: Sequence[str]) -> list[str]:
    """What an evaluation of these sources gives for these metrics: names without their split.

    Raises:
        ValueError: a metric has the name of another one's mean.
    """
    metrics = list(metrics)
    if len(sources) < 2:
        return metrics
    means = [MEAN + name for name in metrics]
    if taken := [name for name in means if name in metrics]:
        raise ValueError(f"metrics: {taken[0]} is the mean over the sources of the data: give yours another name")
    return [*metrics, *means, *(f"{source}/{name}" for source in sources for name in metrics)]


def source_of(name: str) -> str:
    """The source whose value it is; empty where it is over all of them."""
    return name.partition("/")[2].rpartition("/")[0]


def metric_of(name: str) -> str:
    """What is measured: `iou` for all three."""
    return name.rpartition("/")[2].removeprefix(MEAN)


def over_all(names: Collection[str]) -> list[str]:
    """Those of some names that are over all samples, and no mean over the sources."""
    sources = any(map(source_of, names))
    return [name for name in names if not source_of(name) and not (sources and _is_mean(name, names))]


def _is_mean(name: str, names: Collection[str]) -> bool:
    split, _, last = name.rpartition("/")
    return last.startswith(MEAN) and f"{split}/{metric_of(name)}" in names

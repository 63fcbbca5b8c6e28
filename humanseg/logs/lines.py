"""The lines of a run on the terminal: what it was given, its epochs, and its results by source."""

from humanseg import terminal
from humanseg.data import contents
from humanseg.data.loading import Data
from humanseg.runs import trust
from humanseg.runs.value_names import MEAN, metric_of, source_of

BESIDE = ("iou", "boundary_iou", "boundary_iou_per_image")  # metrics in the table by source, beside the deciding one


def given(data: Data) -> list[str]:
    """The samples by split, then people's area; of several sources each has a line."""
    areas, sources = contents.areas(data), contents.sources(data.splits)
    head = f"samples    {contents.samples(data.splits)}"
    if len(sources) == 1:
        return [head, *(f"people     {area}" for area in areas.values())]
    width = max(8, *map(len, sources))
    people = {name: f"; people {area}" for name, area in areas.items()}
    return [head, *(f"  {name:{width}} {told}{people.get(name, '')}" for name, told in sources.items())]


def of_data(overrides: list[str]) -> list[str]:
    """The overrides that say which data a run has."""
    return [one for one in overrides if one.lstrip("+~").startswith(("data", "experiment"))]


def own_code(overrides: list[str], metrics: list[str]) -> list[str]:
    """The overrides that name code which no YAML of conf/ names: they are typed again where the checkpoint is used.

    Args:
        metrics: those of the run's config.
    """
    keys = ("_target_", "metrics") if trust.strange_metrics(metrics) else ("_target_",)
    return [one for one in overrides if one.partition("=")[0].endswith(keys)]


def epoch_line(values: dict[str, float], epochs: int, best: bool) -> str:
    """An epoch in one line."""
    parts = [f"epoch {values['epoch']:>{len(str(epochs))}}/{epochs}", f"loss {values['train/loss']:.4f}"]
    if "val/loss" in values:
        first = [name for name in values if name.startswith("val/")][:2]
        shown = dict.fromkeys([*first, "val/iou", "val/mean_iou", "val/boundary_iou"])
        parts += [f"{name} {values[name]:.4f}" for name in shown if name in values and "loss_" not in name]
    parts.append(
        f"{values['time/images_per_second']:.1f} images/s, {values['time/data_wait_share']:.0%} waiting for data"
    )
    return "  ".join(parts) + ("  *" if best else "")


def averaged_line(values: dict[str, float], monitor: str | None, best: bool) -> str:
    """The averaged weights in one line."""
    shown = dict.fromkeys(filter(None, [monitor, "val/loss", "val/iou", "val/mean_iou", "val/boundary_iou"]))
    told = "".join(f"  {name} {values[name]:.4f}" for name in shown if name in values)
    several = "s" * (values["averaged"] > 1)
    return f"average    of {values['averaged']} epoch{several}{told}{'  *' * best}"


def by_source(values: dict[str, float], decides: str) -> list[str]:
    """A table of the main metrics with a row a source, their mean and all samples; empty where there is one source.

    Args:
        decides: the name of the value that the run is judged by.
    """
    wanted = dict.fromkeys((metric_of(decides), *BESIDE))
    splits = dict.fromkeys(name.partition("/")[0] for name in values if source_of(name))
    columns = [(split, metric) for split in splits for metric in wanted if f"{split}/{MEAN}{metric}" in values]
    measured = [name for name in values if (name.partition("/")[0], metric_of(name)) in columns]
    sources = dict.fromkeys(filter(None, map(source_of, measured)))
    rows = [*((source, f"{source}/") for source in sources), ("mean", MEAN), ("all", "")]
    table = [["by source ", *map("/".join, columns), ""]]
    for row, prefix in rows:
        found = [values.get(f"{split}/{prefix}{metric}") for split, metric in columns]
        table.append([f"  {row}", *("" if value is None else f"{value:.4f}" for value in found), ""])
    return terminal.aligned(table) if columns else []

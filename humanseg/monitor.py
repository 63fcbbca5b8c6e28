"""What a run may monitor, and whether more of it is better."""

from humanseg import metrics
from humanseg.data.loading import Data
from humanseg.runs.value_names import measured, metric_of


def mode_of(monitor: str | None, mode: str) -> str:
    """``max`` or ``min``; with ``auto`` as the name of what is monitored says.

    Raises:
        ValueError: the name doesn't say which.
    """
    name = metric_of(monitor or "")
    if mode != "auto":
        return mode
    if name == "loss" or name.startswith("loss_"):
        return "min"
    if monitor and name not in metrics.BUILT_IN:
        raise ValueError(
            f"trainer.monitor={monitor}: give trainer.monitor_mode=max or min, for the suite can't know it"
        )
    return "max"


def known_values(cfg: dict, data: Data) -> set[str]:
    """What can be monitored; empty where a callback or loss of the user's may add to it.

    Raises:
        ValueError: a metric has the name of another one's mean over the sources.
    """
    terms = [f"loss_{term}" for term in cfg["loss"].get("terms", {})]
    callbacks = [node for name, node in cfg["callbacks"].items() if node and name != "strict"]
    names = ["loss", *terms, *(name.rpartition(".")[2] for name in cfg["metrics"])]
    validated = measured(names, (data.splits["val"] or data.splits["train"]).sources)
    own = [node for node in callbacks if not node.get("_target_", "").startswith("humanseg.")]
    if own or not cfg["loss"]["_target_"].startswith(("humanseg.", "segmentation_models_pytorch.", "torch.")):
        return set()
    train = {f"train/{name}" for name in names if name not in metrics.EVALUATION_ONLY}
    return train | {f"val/{name}" for name in validated}

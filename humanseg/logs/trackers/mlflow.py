"""``callbacks=mlflow``: a run on an MLflow server, which the environment names."""

import logging
import math
import os
import re
import time
from collections.abc import Iterator, Sequence
from typing import Any

from humanseg.inference.packages import require
from humanseg.logs.trackers import contents
from humanseg.runs.run_info import RunInfo

log = logging.getLogger(__name__)

STATUS = {"completed": "FINISHED", "pruned": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}
SENT = "humanseg.sent"  # the tag that comes with values and says how far they go: the server knows what it has
AT_ONCE = 100  # parameters or tags in a request, at most
LONGEST_NAME, LONGEST = 250, 6000  # characters of a name, and of a parameter


class MLflow:
    """Tracks a run on the server of MLFLOW_TRACKING_URI.

    Args:
        experiment: MLflow's experiment by its name; it is created. artifacts: files of the run's folder, or patterns; they
            are uploaded when the run is completed. wait: seconds that the end of the run waits for what is left to send.

    Raises:
        ValueError: mlflow is not installed, no server is named, or an artifact lies elsewhere.
    """

    def __init__(self, experiment: str = "humanseg", artifacts: Sequence[str] = (), wait: float = 10):
        require("mlflow")
        if not os.environ.get("MLFLOW_TRACKING_URI"):
            raise ValueError("the environment names no server: set MLFLOW_TRACKING_URI=http://HOST:5000")
        contents.refuse_outside(artifacts)
        self.experiment, self.artifacts, self.wait = experiment, artifacts, wait
        self.id: str | None = None  # of the tracked run, once it was created
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # otherwise it calls home
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # `start` says where the run is
        logging.getLogger("urllib3").setLevel(logging.ERROR)  # that the server is away is said once, by who calls this
        import mlflow  # noqa: F401  here: a worker that is forked while a thread imports could wait for it for ever

    def start(self, run: RunInfo) -> str:
        """Create a tracked run, or go on with it. Parameters that have changed since become tags."""
        from mlflow import MlflowClient
        from mlflow.entities import Param, RunTag

        self.client = MlflowClient()
        tracked = run.tracked or self.id  # a start that is tried again may have created it
        known = self._find(tracked) if tracked else None
        self.id = known.info.run_id if known else self._create(run)
        before, tags = (known.data.params, known.data.tags) if known else ({}, {})
        self.sent = tuple(map(int, tags[SENT].split("/"))) if SENT in tags else (-1, -1)
        values = {_name(name): str(value)[:LONGEST] for name, value in contents.parameters(run).items()}
        new = [Param(name, value) for name, value in values.items() if name not in before]
        now = before | {name: value for name, value in tags.items() if name in before}
        changed = [RunTag(name, value) for name, value in values.items() if now.get(name, value) != value]
        for some in _parts(new):
            self.client.log_batch(self.id, params=some)
        for some in _parts(changed):
            self.client.log_batch(self.id, tags=some)
        if known:
            self.client.update_run(self.id, "RUNNING")
        log.info("mlflow     %s, run %s", self.client.tracking_uri, self.id)
        return self.id

    def log(self, values: dict[str, float], step: int, epoch: int) -> None:
        """Send values that the server has not: a kill may have come between it and the receipt."""
        from mlflow.entities import RunTag

        if (step, epoch) > self.sent:
            self.client.log_batch(self.id, _metrics(values, step), tags=[RunTag(SENT, f"{step}/{epoch}")])
            self.sent = (step, epoch)

    def end(self, run: RunInfo) -> None:
        """Send the scores and the chosen files, and say how the run ended."""
        self.client.log_batch(self.id, _metrics(contents.scores(run), max(self.sent[0], 0)))
        for file in contents.files(run, self.artifacts):
            place = file.parent.relative_to(run.folder).as_posix()
            self.client.log_artifact(self.id, str(file), None if place == "." else place)
        self.client.set_terminated(self.id, STATUS[run.status])

    def _find(self, tracked: str) -> Any:
        """The tracked run; None where this server has none of this id, or it was deleted."""
        from mlflow.exceptions import MlflowException

        try:
            found = self.client.get_run(tracked)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None
        return found if found.info.lifecycle_stage == "active" else None

    def _create(self, run: RunInfo) -> str:
        tags = {"sweep": run.sweep} if run.sweep else {}
        tags |= {"folder": str(run.folder), "overrides": " ".join(run.overrides)}
        cleaned = {name: contents.clean(text)[:LONGEST] for name, text in tags.items()}
        return self.client.create_run(self._experiment(), tags=cleaned, run_name=run.name).info.run_id

    def _experiment(self) -> str:
        from mlflow.exceptions import MlflowException

        if not self.client.get_experiment_by_name(self.experiment):
            try:
                return self.client.create_experiment(self.experiment)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":  # by another job of the sweep
                    raise
        return self.client.get_experiment_by_name(self.experiment).experiment_id


def _metrics(values: dict[str, float], step: int) -> list:
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    return [Metric(_name(name), value, now, step) for name, value in values.items() if math.isfinite(value)]


def _name(name: str) -> str:
    """A name with the characters that MLflow takes."""
    return re.sub(r"[^\w./ -]", "_", name)[:LONGEST_NAME]


def _parts(items: list) -> Iterator[list]:
    for at in range(0, len(items), AT_ONCE):
        yield items[at : at + AT_ONCE]

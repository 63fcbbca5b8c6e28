"""``callbacks=wandb``: a run on Weights & Biases, on the server and account that this machine is logged in to, or offline."""

import logging
import math
import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from humanseg.inference.packages import require
from humanseg.logs.trackers import contents
from humanseg.runs.run_info import RunInfo

log = logging.getLogger(__name__)

LONGEST_TAG = 64  # characters


class Wandb:
    """Tracks a run. Its files lie in the run's folder, where `wandb sync` finds those of an offline one.

    Args:
        project: by its name; it is created. mode: ``online`` or ``offline``; None: as WANDB_MODE says, else online.
        artifacts: files of the run's folder, or patterns; they are uploaded when the run is completed.
        wait: seconds that the end of the run waits for what is left to send.

    Raises:
        ValueError: wandb is not installed, there is no such mode, or an artifact lies elsewhere.
    """

    settles = 20  # seconds: its process writes its file every 15, and dies with this one

    def __init__(
        self, project: str = "humanseg", mode: str | None = None, artifacts: Sequence[str] = (), wait: float = 10
    ):
        require("wandb")
        if mode not in ("online", "offline", None):
            raise ValueError(f"mode={mode}: give online, offline or null")
        contents.refuse_outside(artifacts)
        self.project, self.mode, self.artifacts, self.wait = project, mode, artifacts, wait
        self.id = secrets.token_hex(8)  # of a new tracked run: one that is tried again is the same
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # otherwise it calls home
        os.environ.setdefault("WANDB_SILENT", "true")  # what has to be said is said by `start` and by who calls it
        import wandb  # noqa: F401  here: a worker that is forked while a thread imports could wait for it for ever

    def start(self, run: RunInfo) -> str:
        """Begin a tracked run, or go on with it under its id. Parameters that have changed become tags, too."""
        import wandb

        online = (self.mode or os.environ.get("WANDB_MODE", "online")) == "online"
        if online and not wandb.login(prompt=False, verify=False):
            raise ValueError("there is no API key: run `wandb login`, or give callbacks.wandb.mode=offline")
        parameters = contents.parameters(run)
        tags = [*map(str, run.config["tags"] or []), *(f"{name}={parameters.get(name)}" for name in run.changed)]
        patience = max(0.8 * self.wait, 1)  # W&B's process outlives this one by as much
        settings = wandb.Settings(
            console="off", symlink=False, init_timeout=patience, finish_timeout=patience, reinit="create_new"
        )
        self.run = wandb.init(
            id=run.tracked or self.id, resume="allow", project=self.project, mode=self.mode,
            dir=run.folder, name=run.name, group=run.sweep, tags=[tag[:LONGEST_TAG] for tag in tags], config=parameters,
            settings=settings,
        )  # fmt: skip
        log.info("wandb      %s", self.run.url or Path(self.run.dir).parent)  # `wandb sync` takes the latter
        return self.run.id

    def log(self, values: dict[str, float], step: int, epoch: int) -> None:
        """Send values, which have steps that never fall."""
        self.run.log({name: value for name, value in values.items() if math.isfinite(value)}, step=step)

    def end(self, run: RunInfo) -> None:
        """Send the scores and the chosen files, and say how the run ended.

        The files are sent from where they lie. `Run.save` would leave copies, which `latest` takes for those of a run.
        """
        import wandb

        self.run.summary.update(contents.scores(run))
        if files := contents.files(run, self.artifacts):
            artifact = wandb.Artifact(f"run-{self.run.id}", type="run")
            for file in files:
                name = file.relative_to(run.folder).as_posix()
                artifact.add_file(str(file), name=name, policy="immutable", skip_cache=True)
            self.run.log_artifact(artifact)
        self.run.finish(exit_code=0 if run.status in ("completed", "pruned") else 1)

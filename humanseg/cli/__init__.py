"""All that knows Hydra: the command line, launching, resuming, jobs and sweeps."""

from humanseg.cli import resolvers  # noqa: F401  whoever composes a config, or unpickles one, needs them

"""The command line: ``humanseg``, ``python -m humanseg``, and ``python run.py`` in a checkout."""

import sys


def main() -> None:
    """Compose the config and run the chosen mode with it; a system that the suite does not run on is told so."""
    try:
        from humanseg.cli import entry
    except ImportError as error:
        if error.name != "fcntl":
            raise
        sys.exit(f"error: {error}")
    entry.run()


if __name__ == "__main__":
    main()

"""Compose the config and run the chosen mode with it: ``python run.py --help``."""

from humanseg.__main__ import main

if __name__ == "__main__":
    main()

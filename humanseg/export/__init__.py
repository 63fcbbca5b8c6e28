"""A network as a file that others use without this project: converted, checked, with an example."""

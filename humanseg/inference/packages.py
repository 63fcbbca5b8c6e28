"""Packages that only some need: whether one is installed, and the extra that brings it."""

import importlib.util
import sys
from types import ModuleType

EXTRAS = {
    **dict.fromkeys(("onnxruntime", "onnxscript", "onnx"), "export"),
    **{name: name for name in ("openvino", "mlflow", "wandb")},
}


def installed(package: str) -> bool:
    """Whether a package can be imported. It is not imported here."""
    return importlib.util.find_spec(package) is not None


def import_openvino() -> ModuleType:
    """The package `openvino`, without its telemetry: that would call home, from a fork of this process, at each conversion too."""
    sys.modules.setdefault("openvino_telemetry", None)  # it can't be imported then, and openvino goes on without
    import openvino

    return openvino


def require(*packages: str) -> None:
    """Refuse packages that aren't installed.

    Raises:
        ValueError: one isn't installed; the sentence names the extra to install.
    """
    for package in packages:
        if not installed(package):
            raise ValueError(f'{package} is not installed: pip install -e ".[{EXTRAS[package]}]"')

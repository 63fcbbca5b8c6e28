"""An exported file that this user did not write runs in a process of its own, with bounded memory and time.

    python -m humanseg.inference.stranger FILE_DESCRIPTOR JSON

The process stays as long as the file is used, because a model may behave on the first picture and not on the second.
It is a new interpreter: a script that uses `Predictor` need not be written for multiprocessing.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

import numpy as np

import humanseg
from humanseg.inference import exported
from humanseg.inference.exported import How, Opened
from humanseg.inference.packages import require
from humanseg.processes.limits import bound_process, memory

SECONDS = 60  # for opening a file with its first run, and then for each picture
MEMORY = 8 * 2**30  # bytes; less where this machine has less than twice as much
LONGEST = 100_000  # bytes of a message that is no picture


def open_apart(path: Path, how: How) -> Opened:
    """Open a file in a process of its own, which ends with the function that runs it.

    Raises:
        ValueError: as for `exported.opened`; it refers to files outside of it; it takes too long or too much memory.
    """
    apart = _Process(path, how)
    return Opened(apart.run, apart.precision, apart.facts)


class _Process:
    """The process that has a file open."""

    def __init__(self, path: Path, how: How):
        self.path, self._lock = path, threading.Lock()
        self._memory = min(MEMORY, memory() // 2)
        request = {"path": str(path), "how": how, "seconds": SECONDS, "memory": self._memory}
        self._pipe, theirs = Pipe()
        root = str(Path(humanseg.__file__).parents[1])
        with theirs:
            self._process = subprocess.Popen(
                # -P: the working directory, which may hold a stranger's files, brings no modules
                [sys.executable, "-P", "-m", __name__, str(theirs.fileno()), json.dumps(request)],
                env=os.environ | {"PYTHONPATH": os.pathsep.join([*filter(None, sys.path), root])},
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C is this process' to handle
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        self._end = weakref.finalize(self, _end, self._pipe, self._process)
        told = self._answer()
        self.precision, self.facts = told["precision"], told["facts"]

    def run(self, batch: np.ndarray) -> list[np.ndarray]:
        """Run the file; shapes and types as for `Opened.run`, errors as for `open_apart`."""
        with self._lock:
            with suppress(OSError):  # it has ended; the answer says why
                _send(self._pipe, shape=batch.shape, seconds=SECONDS * len(batch))
                _send_array(self._pipe, batch)
            found = np.empty(self._answer()["shape"], np.float32)
            self._hear(self._pipe.recv_bytes_into, memoryview(found).cast("B"))
        return [found]

    def _answer(self) -> dict[str, Any]:
        told = json.loads(self._hear(self._pipe.recv_bytes, LONGEST))
        if "error" in told:
            raise ValueError(told["error"])
        return told

    def _hear(self, receive: Callable, *arguments: Any) -> Any:
        try:
            return receive(*arguments)
        except (EOFError, OSError):
            raise ValueError(f"{self.path} {self._death()}") from None

    def _death(self) -> str:
        self._end()
        if self._process.returncode == -signal.SIGALRM:
            return f"took more than {SECONDS} s and was stopped"
        return (
            f"has ended the process that ran it ({_named(self._process.returncode)}); "
            f"it may need more than the {self._memory / 2**30:.1f} GiB of memory that it may have"
        )


def _end(pipe: Connection, process: subprocess.Popen) -> None:
    pipe.close()
    try:
        process.wait(timeout=1)  # it ends by itself where it waits for a picture
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _named(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def serve(pipe: Connection, path: Path, how: How) -> None:
    """The process: open the file, try it, then run it on what comes through the pipe, until the pipe is closed.

    A timer of the system ends the process, whatever the runtime does.
    """
    try:
        content = exported.read(path)
        if len(content) == 1:
            refuse_external_data(content[0], path)
        run, precision, facts = exported.opened(path, content, how)
        given = exported.promised_input(facts)
        run(np.zeros([1, *given.shape[1:]], given.dtype))
    except ValueError as error:
        _send(pipe, error=str(error))
        return
    _send(pipe, facts=facts, precision=precision)
    while True:
        signal.alarm(0)
        try:
            asked = json.loads(pipe.recv_bytes())
        except EOFError:
            return
        batch = np.empty(asked["shape"], given.dtype)
        pipe.recv_bytes_into(memoryview(batch).cast("B"))
        signal.alarm(asked["seconds"])
        try:
            (found,) = run(batch)
        except ValueError as error:
            _send(pipe, error=str(error))
            continue
        _send(pipe, shape=found.shape)
        _send_array(pipe, found)


def _send(pipe: Connection, **told: Any) -> None:
    pipe.send_bytes(json.dumps(told).encode())


def _send_array(pipe: Connection, array: np.ndarray) -> None:
    pipe.send_bytes(memoryview(np.ascontiguousarray(array)).cast("B"))


def refuse_external_data(content: bytes, path: Path) -> None:
    """Refuse an ONNX file with weights in other files, which may lie anywhere; mode=export writes none.

    Raises:
        ValueError: it has some, or it is no ONNX file, or `onnx` isn't installed.
    """
    require("onnx")
    import onnx
    from google.protobuf.message import DecodeError, Message

    try:
        left = [onnx.load_model_from_string(content)]
    except DecodeError as error:
        raise ValueError(f"{path} can't be read: it is damaged, or no ONNX file") from error
    while left:
        message = left.pop()
        if isinstance(message, onnx.TensorProto) and message.data_location == onnx.TensorProto.EXTERNAL:
            raise ValueError(f"{path} has weights in other files, which are not read: mode=export writes one file")
        for field, value in message.ListFields():
            if field.message_type:
                left += [value] if isinstance(value, Message) else value


def main(descriptor: str, request: str) -> None:
    """Bound this process, then serve."""
    asked = json.loads(request)
    bound_process(asked["seconds"], asked["memory"])
    with Connection(int(descriptor)) as pipe:
        serve(pipe, Path(asked["path"]), How(*asked["how"]))


if __name__ == "__main__":
    main(*sys.argv[1:])

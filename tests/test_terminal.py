"""What a file's name or content holds is shown on the terminal and in run.log, and does nothing there."""

import io
import logging

import pytest

from humanseg import terminal

CLEAR = "\x1b[2J\x9b31m\r\u202e\u2028\ud800\x00\x7f"


def logged(template: str, *arguments: object, name: str = "humanseg", **options) -> str:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(terminal.Formatter("%(levelname)s %(message)s"))
    log = logging.Logger(name)
    log.addHandler(handler)
    log.warning(template, *arguments, **options)
    return stream.getvalue()


def test_what_acts_is_shown_as_python_writes_it():
    assert terminal.visible(CLEAR) == r"\x1b[2J\x9b31m\r\u202e\u2028\ud800\x00\x7f"
    kept = "é 東京\u3000\u00a0می\u200cخواهم 👩\u200d🚀 a\\b"
    assert terminal.visible(kept) == kept


def test_a_value_begins_no_line_of_a_log():
    assert (
        logged("a %s b %.1f", f"x\nerror: fake{CLEAR}", 2)
        == f"WARNING a x\\nerror: fake{terminal.visible(CLEAR)} b 2.0\n"
    )
    assert logged("%(a)s", {"a": "x\ny"}) == "WARNING x\\ny\n"
    assert logged("%s", ValueError("x\ny")) == "WARNING x y\n"
    assert logged("%s", ["x\ny"]) == "WARNING ['x\\ny']\n"
    assert logged("\t#0 : x\ny", name="hydra.core.utils") == "WARNING         #0 : x\\ny\n"


def test_our_own_lines_stay_lines():
    assert logged("table\n%s", terminal.lines(["a\nb", f"c{CLEAR[0]}"])) == "WARNING table\na\\nb\nc\\x1b\n"


def test_a_traceback_is_indented_and_acts_on_nothing():
    try:
        raise RuntimeError("x\nERROR fake\x1b")
    except RuntimeError:
        text = logged("failed", exc_info=True)
    first, *rest = text.splitlines()
    assert first == "WARNING failed" and all(line[:2] == "  " for line in rest) and "\x1b" not in text
    assert "RuntimeError: x" in text and r"ERROR fake\x1b" in text


def test_another_handlers_formatter_changes_nothing():
    record = logging.LogRecord("humanseg", logging.INFO, "", 0, "%s", ("x\x1b",), None)
    plain = logging.Formatter("%(message)s")
    assert plain.format(record) == "x\x1b"
    assert terminal.Formatter("%(message)s").format(record) == r"x\x1b"
    assert plain.format(record) == "x\x1b"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError("a\nb\x1b"), r"a b\x1b"),
        (
            ValueError(terminal.listed("2 problems", ["a\nb", "c", "d"], 2)),
            "2 problems\n  a\\nb\n  c\n  ... and 1 more",
        ),
        (OSError(2, "No such file", "a\x1bb"), r"[Errno 2] No such file: 'a\x1bb'"),
        (KeyboardInterrupt(), ""),
    ],
    ids=["a text", "a list", "of the system", "nothing"],
)
def test_an_errors_message_has_the_lines_that_are_ours(error, told):
    assert terminal.message(error) == told


def test_an_errors_reason_is_one_line_and_never_empty():
    error = RuntimeError("\n  no such layer\nat graph.cpp:12\n")
    assert terminal.reason(error) == "no such layer" and terminal.reason(error, last=True) == "at graph.cpp:12"
    assert terminal.reason(AssertionError()) == terminal.reason(AssertionError(" ")) == "AssertionError"


def test_a_defects_traceback_acts_on_nothing(capsys):
    error = RuntimeError("\x1b[2J")
    terminal.say_traceback(RuntimeError, error, None)
    assert capsys.readouterr().err == "RuntimeError: \\x1b[2J\n"

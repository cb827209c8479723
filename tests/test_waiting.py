"""What a person sees while nothing else is shown."""

import io
import re
import time

import pytest

from jaxcifar.host import output, progress, waiting


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture(autouse=True)
def quickly(monkeypatch):
    monkeypatch.setattr(waiting, "_EVERY_SECONDS", 0.01)
    monkeypatch.setattr(waiting, "_TOLD_AFTER_SECONDS", 0.05)
    yield
    waiting.show("")


def test_without_a_terminal_what_takes_long_is_told_once(capsys):
    waiting.show("compiling")
    waiting.show("reading")
    time.sleep(0.5)
    waiting.show("")
    time.sleep(0.1)
    assert capsys.readouterr().out == "reading …\n"


def test_on_a_terminal_a_line_counts_the_seconds_and_is_gone_when_something_else_is_shown(
    monkeypatch,
):
    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    assert not output.on_terminal()  # for it has no width
    monkeypatch.setattr(output, "on_terminal", screen.isatty)
    waiting.show("compiling")
    time.sleep(1.3)
    with progress.bar(10, "decoding") as advance:
        before = len(screen.getvalue())
        advance(10)
        time.sleep(0.1)
        assert "compiling" not in screen.getvalue()[before:]
    waiting.show("")
    ended = screen.getvalue()
    assert {"compiling … 0 s", "compiling … 1 s"} <= set(re.findall(r"compiling … \d s", ended))
    time.sleep(0.1)
    assert screen.getvalue() == ended
    assert re.search(r"\r +\r$", ended)

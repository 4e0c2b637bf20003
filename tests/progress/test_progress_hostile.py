"""Whoever reaches a scheduler may send it anything: what becomes of that where it is shown."""

from __future__ import annotations

import io
import math
import re
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from cloudposterior.events import (
    _KINDS,
    ChainReport,
    Diagnosis,
    Event,
    Phase,
    RunStarted,
    StopAsked,
    TaskBegun,
    WorkerLost,
    from_message,
    literal,
    to_message,
)
from cloudposterior.progress import page
from cloudposterior.progress.board import Board, digest_of
from cloudposterior.progress.html import table_html
from cloudposterior.progress.notebook import _as_plain
from cloudposterior.progress.table import RunTable, Table
from cloudposterior.progress.terminal import line_of, print_line, rendered

pytestmark = pytest.mark.once

ESCAPE, BELL, TURNED, ISOLATED, HALF = "\x1b", "\x07", "\u202e", "\u2066", "\ud800"
OBEYED = (
    f"{ESCAPE}[31mred{BELL}{ESCAPE}]8;;http://x{ESCAPE}\\\x9b2J\r\n\x00{TURNED}{ISOLATED}\u2028"
)
MARKUP = "[red]a[/red][link=http://x]b[/link] <script>1</script><img src=x onerror=1> $$x$$ &amp;"

DIGEST = digest_of("secret")

ONE = (1.0,)
SOUND: tuple[Event, ...] = (
    RunStarted("radon", 2, "me on here", DIGEST, "client-1"),
    ChainReport(0, "tcp://10.0.0.1:1", 150, 100, 200, 0, 0.5, 7.0, 1.0),
    Phase("sampling", 0, "tcp://10.0.0.1:1", "detail"),
    Diagnosis((0, 1), 9, 1, ("a",), ONE, ONE, ONE, ONE, ONE, 1, 3, np.zeros(6, "<f4").tobytes()),
    StopAsked(DIGEST),
    TaskBegun("key", "tcp://10.0.0.1:1"),
    WorkerLost("tcp://10.0.0.1:1", ("one",), ("other",), expected=True),
)

VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    10**9,
    2**63,
    10**400,
    1.5,
    math.nan,
    math.inf,
    -math.inf,
    5e-324,
    "",
    "10",
    OBEYED,
    MARKUP,
    HALF,
    "é" * 10**6,
    b"",
    b"\x80\x04.",
    b"0" * (2**21 + 4),
    [],
    (),
    ("a",),
    (1,),
    (math.nan,),
    [MARKUP] * 3,
    ("x" * 10**4,) * 10**4,
    (-1,),
    {},
    {"__class__": "x"},
    {"__Serialized__": 1},
    {1: 2},
    {1, 2},
    object(),
)


FIELDS = [(type(event).__name__, field.name) for event in SOUND for field in fields(event)]


def show_everywhere(event: Event) -> tuple[str, str]:
    """Show what has come of an event wherever it is shown; give what is HTML, and what is text."""
    board = Board(clock=lambda: 1000.0)
    board.take("run", RunStarted("radon", 2, "me", DIGEST, "client-1"))
    board.take("other", event if isinstance(event, RunStarted) else RunStarted("b", 1))
    for who in (DIGEST, ""):
        board.take("run", event, who=who)
    board.lose("client-1")
    written, texts = [], []
    for run in board:
        table, found = run.table.snapshot(), run.table.diagnosis
        assert run.stop_digest("guess") is None
        written += [page._summary(run), table_html(table)]
        texts += [page._label(run), on_terminal(table), line_of(table)]
        texts += [text for row in _as_plain(table)["rows"] for text in row["texts"]]
        texts += page._chain_data(table.rows)["worker"] + page._parameter_data(found)["name"]
        for place in range(found.traced if found is not None else 0):
            page._lines(found, place)
    return "".join(written), "".join(texts)


def on_terminal(table: Table) -> str:
    """Give what a terminal gets, but for what rich writes of its own: links, and ends of lines."""
    console = Console(file=io.StringIO(), width=200, color_system=None)
    with console.capture() as capture:
        console.print(rendered(table, "http://10.0.0.1:8787/posterior"))
    return re.sub("\x1b]8;.*?\x1b\\\\", "", capture.get()).replace("\n", "")


def test_every_kind_of_event_arrives_as_it_was_sent() -> None:
    assert {type(event) for event in SOUND} == set(_KINDS.values())
    for event in SOUND:
        assert from_message(to_message("run", event)) == ("run", event)
        assert from_message({**to_message("run", event), "new": [1]}) == ("run", event)


@pytest.mark.parametrize(("kind", "name"), FIELDS)
def test_no_value_of_a_field_breaks_what_shows_it(kind: str, name: str) -> None:
    (event,) = (of for of in SOUND if type(of).__name__ == kind)
    for value in VALUES:
        read = from_message({**to_message("run", event), name: value})
        if read is not None:
            assert len(repr(read)) < 5 * 2**20
            written, text = show_everywhere(read[1])
            assert not re.search("<script|<img", written)
            assert literal(written + text) == written + text


@pytest.mark.parametrize(
    "message",
    [
        None,
        7,
        "text",
        b"bytes",
        [1, 2],
        {},
        {"kind": "Phase"},
        {"run": "run"},
        {"run": "run", "kind": "Phase"},
        {"run": 7, "kind": "Phase", "name": "sampling"},
        {"run": b"run", "kind": "Phase", "name": "sampling"},
        {"run": OBEYED, "kind": "Phase", "name": "sampling"},
        {"run": "r" * 10**6, "kind": "Phase", "name": "sampling"},
        {"run": "run", "kind": b"Phase", "name": "sampling"},
        {"run": "run", "kind": ["Phase"], "name": "sampling"},
        {"run": "run", "kind": {}, "name": "sampling"},
        {"run": "run", "kind": "object"},
        {"run": "run", "kind": "__class__"},
        {"run": "run", "kind": "KindOfTomorrow", "name": "sampling"},
        {b"run": "run", 1: "Phase"},
    ],
)
def test_what_is_no_event_is_nothing(message: Any) -> None:
    assert from_message(message) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"names": ("a", "b")},
        {"r_hat": ()},
        {"traced": 2},
        {"points": 4},
        {"points": 0, "trace": b""},
        {"chains": ()},
        {"chains": (), "points": 10**12, "trace": b""},
        {"trace": b"\x00" * 23},
        {"draws": "<img src=x onerror=1>"},
        {"chains": tuple(range(10_001)), "traced": 0, "trace": b""},
    ],
)
def test_diagnosis_whose_parts_do_not_fit_is_nothing(changes: dict[str, Any]) -> None:
    assert from_message({**to_message("run", SOUND[3]), **changes}) is None


@pytest.mark.parametrize("digest", ["secret", "é" * 64, DIGEST.upper(), DIGEST[:-1], f"{DIGEST}\n"])
def test_what_is_no_digest_stops_nothing(digest: str) -> None:
    assert from_message(to_message("run", StopAsked(digest))) is None
    assert from_message(to_message("run", RunStarted("radon", 2, stop_digest=digest))) is None


def test_long_texts_are_cut_and_others_stand_as_they_are() -> None:
    def title(text: str) -> str:
        read = from_message(to_message("run", RunStarted(text, 2)))
        assert read is not None
        assert isinstance(read[1], RunStarted)
        return read[1].title

    plain = "Ünïcode 模型 \N{WOMAN}\N{ZERO WIDTH JOINER} a\u200cb [a] <b> 'c' \"d\" \\e"
    assert title(plain) == plain
    assert title("n" * 1000) == "n" * 1000
    assert title("n" * 10**6) == f"{'n' * 1000}…"
    assert title(f"{ESCAPE}[31mred{TURNED}\n") == r"\x1b[31mred\u202e\n"


def test_terminal_gets_nothing_that_it_obeys(capsys: pytest.CaptureFixture[str]) -> None:
    run = RunTable("run", f"{MARKUP}{OBEYED}", 2)
    run.update(Phase("sampling", detail=f"{MARKUP}{OBEYED}"))
    run.update(Phase("compiling", 1, f"{MARKUP}{OBEYED}"))
    shown = on_terminal(run.snapshot())
    assert r"[red]a[/red][link=http://x]b[/link] <script>" in shown
    assert r"\x1b[31mred\x07" in shown
    assert shown.isprintable()
    print_line(line_of(run.snapshot()))
    print_line(f"cached result: {OBEYED}{MARKUP}")
    assert capsys.readouterr().out.replace("\n", "").isprintable()


def test_link_of_a_terminal_is_text() -> None:
    console = Console(file=io.StringIO(), width=500, force_terminal=True, legacy_windows=False)
    table = RunTable("run", "radon", 2).snapshot()
    with console.capture() as capture:
        console.print(rendered(table, f"http://10.0.0.1:8787/a b{ESCAPE}]8;;http://evil{ESCAPE}\\"))
    assert r"http://10.0.0.1:8787/a b\x1b]8;;http://evil\x1b" in capture.get()
    assert f"{ESCAPE}]8;;http://evil" not in capture.get()


def test_announcing_runs_without_end_fills_no_board() -> None:
    board = Board()
    for number in range(1500):
        board.take(str(number), RunStarted("radon", 1))
    assert [run.key for run in board] == [str(number) for number in range(1499, 499, -1)]
    for number in range(1500):
        board.take("1499", RunStarted("radon", 1, "", digest_of(str(number)), "client"))
    run = board.get("1499")
    assert run is not None
    assert len(run.waiting) == 100
    # who came first may stop it yet
    assert run.stop_digest("0") == digest_of("0")


def test_run_that_was_not_submitted_is_found_under_no_name() -> None:
    board = Board()
    board.take("run", RunStarted("radon", 1))
    board.take("other", RunStarted("radon", 1, submitted="radon-1"))
    assert board.find("") is None
    found = board.find("radon-1")
    assert found is not None
    assert found.key == "other"


@pytest.mark.parametrize("chains", [10**9, 10_001, -1, 2.0, "2", None, True])
def test_run_of_more_chains_than_anybody_has_is_not_held(chains: Any) -> None:
    assert from_message({**to_message("run", RunStarted("radon", 2)), "chains": chains}) is None

"""`farandole dead-letters` as an operator types it, over what a service's processor has written, without Kafka."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from typer.testing import CliRunner

from farandole.cli import dead_letters
from farandole.redrive.asking import WITHOUT_BYTES, Asking
from tests.farandole.bench_of_letters import Bench, Incoming
from tests.farandole.test_operations import park
from tests.farandole.test_redriving import Desk, Wire, bench, mended, states, wire

__all__ = ["bench", "mended", "wire"]

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(bench: Bench, wire: type[Wire], monkeypatch: pytest.MonkeyPatch) -> Run:
    """A command's exit code, and all that it said."""

    @contextmanager
    def desk(choice: Any, progress: Any, kept: Any = lambda letter: False) -> Iterator[Any]:
        yield Desk(bench, kept)

    def asking(desk: Any, task: Any, progress: Any) -> Asking:
        return Asking({}, "", desk, task, progress)

    def invoke(*arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(dead_letters.app, list(arguments))
        said = "" if done.exception is None else str(done.exception)
        return getattr(done.exception, "exit_code", done.exit_code), done.output + said

    monkeypatch.setattr(dead_letters, "_desk", desk)
    monkeypatch.setattr(dead_letters, "_asking", asking)
    return invoke


EDIT = ("edit", "--set", "quantity=100", "--why", "a test")
DISCARD = ("discard", "--why", "a test")


@pytest.mark.parametrize("command", [EDIT, DISCARD])
def test_a_saga_of_several_letters_does_not_say_which_one_is_meant(
    bench: Bench, mended: list[bool], run: Run, command: tuple[str, ...]
) -> None:
    park(bench, 1, 2)
    code, said = run(*command, "--saga", "d-1")
    assert code == 2
    flags = " --set quantity=100" if command is EDIT else ""
    mend = f"farandole dead-letters {command[0]} --service inventory --letter stock/0/0 --why 'a test'{flags}"
    assert mend in said
    assert states(bench) == ["parked", "parked"]


@pytest.mark.parametrize("command", [EDIT, DISCARD])
def test_a_letter_that_is_named_is_dealt_with_once_and_no_other_is(
    bench: Bench, mended: list[bool], run: Run, command: tuple[str, ...]
) -> None:
    park(bench, 1, 2, 3)
    mended.append(True)
    assert run(*command, "--letter", "stock/0/0")[0] == 0
    after = states(bench)
    assert after[1:] == ["parked", "parked"] != after[:2]
    code, said = run(*command, "--letter", "stock/0/0")
    assert (code, f"stock/0/0: done before, it was {after[0]}" in said) == (0, True)
    assert states(bench) == after
    assert (Wire.written, bench.level("sku-2")) == (1, 0)


@pytest.mark.parametrize("command", [EDIT, DISCARD])
@pytest.mark.parametrize("parked", ["behind", "anew", "not"])
def test_a_saga_of_one_letter_says_which_one_and_its_repetition_hits_no_other(
    bench: Bench, mended: list[bool], run: Run, command: tuple[str, ...], parked: str
) -> None:
    park(bench, 1)
    take, another = bench.take, bench.received(2, "d-1", "sku-2")

    def and_another(*messages: Incoming) -> None:
        bench.take = take  # type: ignore[method-assign]
        take(another, *messages)

    if parked == "behind":
        bench.take = and_another  # type: ignore[method-assign]
    mended.append(True)
    assert run(*command, "--saga", "d-1")[0] == 0
    if parked == "anew":
        mended.clear()
        bench.take(another)
        mended.append(True)
    code, said = run(*command, "--saga", "d-1")
    assert (code, "done before" in said) == ((0, True) if parked == "not" else (2, False))
    assert states(bench)[1:] == ([] if parked == "not" else ["parked"])
    assert Wire.written == 1


def test_all_that_waits_of_a_saga_may_be_discarded_by_its_name(bench: Bench, mended: list[bool], run: Run) -> None:
    park(bench, 1, 2)
    assert run(*DISCARD, "--saga", "d-1", "--rest")[0] == 0
    assert states(bench) == ["discarded", "discarded"]
    assert run(*DISCARD, "--saga", "d-1", "--rest")[0] == 0


@pytest.mark.parametrize("command", [EDIT, DISCARD, ("redrive",)])
def test_what_is_named_and_not_there_to_be_dealt_with_is_said_to_be_so(
    bench: Bench, mended: list[bool], run: Run, command: tuple[str, ...]
) -> None:
    park(bench, 1, 2)
    park(bench, 3, saga="d-3")
    mended.append(True)
    for unknown in (("--saga", "d-2"), ("--letter", "stock/0/77"), ("--service", "order", "--letter", "stock/0/0")):
        code, said = run(*command, *unknown)
        assert (code, f"no dead letter is of {unknown[-1]}" in said) == (2, True)
    code, said = run(*command, "--letter", "stock/0/1")
    assert (code, "stock/0/0 is due first" in said) == (2, True)
    assert (Wire.written, states(bench)) == (0, ["parked"] * 3)
    assert run("redrive", "--saga", "d-3")[0] == 0
    for done in (("--saga", "d-3"), ("--letter", "stock/0/2")):
        code, said = run(*command, *done)
        assert (code, "inventory stock/0/2: done before, it was redriven" in said) == (
            int(command != ("redrive",)),
            True,
        )
    assert (Wire.written, states(bench)) == (1, ["parked", "parked", "redriven"])


OTHER_EDIT = ("edit", "--set", "quantity=7", "--why", "a test")
REDRIVE = ("redrive",)


@pytest.mark.parametrize(
    ("first", "second", "otherwise"),
    [
        (REDRIVE, REDRIVE, ""),
        (DISCARD, DISCARD, ""),
        (EDIT, EDIT, ""),
        (EDIT, REDRIVE, ""),
        (DISCARD, REDRIVE, "it was discarded by anna, and not redriven"),
        (DISCARD, EDIT, "it was discarded by anna, and not edited"),
        (REDRIVE, DISCARD, "it was redriven by anna, and not discarded"),
        (REDRIVE, EDIT, "it was redriven by anna, and not edited"),
        (EDIT, DISCARD, "it was redriven, edited, by anna, and not discarded"),
        (EDIT, OTHER_EDIT, "it was redriven, edited, by anna, and not as is asked now"),
    ],
)
@pytest.mark.parametrize("named", [("--saga", "d-1"), ("--letter", "stock/0/0")])
def test_what_came_to_something_else_than_is_asked_is_a_failure_that_says_what(
    bench: Bench, mended: list[bool], run: Run, first: Any, second: Any, otherwise: str, named: tuple[str, str]
) -> None:
    park(bench, 1)
    mended.append(True)
    assert run(*first, *named, "--who", "anna")[0] == 0
    for dry in ((), ("--dry-run",)):
        code, said = run(*second, *named, *dry)
        assert (code, otherwise in said, "failed: " in said) == (int(bool(otherwise)), True, bool(otherwise))
    code, said = run(*second, *named, "--json")
    told = json.loads(said[said.index("{") :].splitlines()[0])
    assert (code, told["ok"]) == (int(bool(otherwise)), not otherwise)
    [before] = told["before"]
    assert (before["letter"], before["who"], before["as_asked"]) == ("stock/0/0", "anna", not otherwise)
    assert Wire.written == 1


def test_a_letter_that_came_to_something_else_does_not_keep_the_others_from_what_is_asked(
    bench: Bench, mended: list[bool], run: Run
) -> None:
    park(bench, 1)
    park(bench, 2, saga="d-2")
    mended.append(True)
    assert run(*DISCARD, "--saga", "d-1")[0] == 0
    code, said = run("redrive", "--saga", "d-1", "--saga", "d-2")
    assert (code, "stock/0/0: done before, it was discarded" in said) == (1, True)
    assert states(bench) == ["discarded", "redriven"]


@pytest.mark.parametrize("lost", [0, 1])
def test_a_letter_without_its_bytes_is_a_failure_and_keeps_no_other_saga_from_being_redriven(
    bench: Bench, mended: list[bool], run: Run, lost: int
) -> None:
    """Those before it in its saga are redriven, and the saga waits at it."""
    park(bench, 1, 2)
    park(bench, 3, saga="d-2")
    mended.append(True)
    letter = [n for n, record in enumerate(bench.log) if record.topic == "inventory.dlq"][lost]
    record = bench.log[letter]
    bench.log[letter] = record._replace(value=b"", headers=[*record.headers, ("__dlq.truncated", b"true")])
    failed = [(f"stock/0/{lost}", WITHOUT_BYTES)]
    code, said = run("redrive", "--all", "--dry-run")
    assert (code, f"failed: inventory stock/0/{lost}: {WITHOUT_BYTES}" in said) == (1, True)
    code, said = run("redrive", "--all", "--dry-run", "--json")
    told = json.loads(said[said.index("{") :].splitlines()[0])
    assert (code, [(each["letter"], each["error"]) for each in told["failed"]]) == (1, failed)
    code, said = run("redrive", "--all", "--json")
    told = json.loads(said[said.index("{") :].splitlines()[0])
    assert (code, told["ok"], told["letters"]) == (1, False, {"redriven": 1 + lost})
    assert [each["error"] for each in told["failed"]] == [WITHOUT_BYTES]
    assert states(bench) == [*(["redriven"] * lost), *(["parked"] * (2 - lost)), "redriven"]
    written = Wire.written
    code, said = run("redrive", "--all")
    assert (code, "d-1: ignored: its bytes are not in the queue" in said) == (1, True)
    assert Wire.written == written, "nothing is asked about it"
    assert bench.parked()["d-1"].tries == 0
    assert run(*DISCARD, "--saga", "d-1", "--letter", f"stock/0/{lost}")[0] == 0


def test_an_edit_of_two_letters_is_refused_also_if_one_is_done_with(bench: Bench, mended: list[bool], run: Run) -> None:
    park(bench, 1)
    park(bench, 2, saga="d-2")
    mended.append(True)
    assert run(*EDIT, "--letter", "stock/0/0")[0] == 0
    code, said = run(*EDIT, "--letter", "stock/0/0", "--letter", "stock/0/1")
    assert (code, "there are 2 such letters" in said) == (2, True)
    assert states(bench) == ["redriven", "parked"]

"""What a command makes of what happens while it runs: other operators, new errors, a worker that is away."""

from __future__ import annotations

from typing import Any

import pytest

from agents import inventory
from farandole.message import Undecidable
from farandole.redrive.asking import Asking, Task
from farandole.redrive.choosing import Choice
from farandole.redrive.editing import edited
from farandole.redrive.report import as_dict
from farandole.redrive.showing import words
from tests.farandole.bench_of_letters import Bench
from tests.farandole.test_operations import park
from tests.farandole.test_redriving import Desk, Wire, ask, bench, mended, the_letter, wire

__all__ = ["bench", "mended", "wire"]


@pytest.mark.parametrize(
    ("first", "second", "fine"),
    [
        ("redrive", "redrive", True),
        ("discard", "discard", True),
        ("redrive", "discard", False),
        ("discard", "redrive", False),
        ("edit", "edit", False),
        ("edit", "redrive", False),
        ("redrive", "edit", False),
    ],
)
def test_what_somebody_else_has_done_meanwhile_is_fine_only_if_it_is_what_was_asked(
    bench: Bench, mended: list[bool], wire: type[Wire], first: str, second: str, fine: bool
) -> None:
    park(bench, 1)
    mended.append(True)
    desks: list[Any] = [Desk(bench), Desk(bench)]
    results = []
    for desk, what, who in zip(desks, (first, second), ("anna", "berta"), strict=True):
        [sequence] = desk.book.sequences()
        value = edited(bench.codec, sequence.letters[0], "sku", ["quantity=7"]) if what == "edit" else None
        task = Task("redrive" if what == "edit" else what, who, most=1, edited=value)
        results.append(Asking({}, "", desk, task, lambda what, done, total: None).carry_out([sequence]))
    assert [result.ok for result in results] == [True, fine]
    assert results[1].counts == {"ignored": 1}
    done = {"redrive": "redriven", "discard": "discarded", "edit": "edited"}[first]
    assert [course.error for course in results[1].failed] == (
        [] if fine else [f"it was {done} by somebody else before: anna"]
    )


def test_what_somebody_else_ended_before_it_was_asked_for_does_not_count_as_asked(
    bench: Bench, mended: list[bool], wire: type[Wire]
) -> None:
    park(bench, 1)
    park(bench, 1, saga="d-2")
    park(bench, 1, saga="d-3")
    mended.append(True)
    others = {"d-2": "discard", "d-3": "redrive"}

    def meanwhile(what: str, done: int, total: int) -> None:
        for saga in list(others):
            assert ask(bench, others.pop(saga), Choice(sagas=(saga,))).ok

    desk: Any = Desk(bench)
    asking = Asking({}, "", desk, Task("redrive", "berta", rate=1.0), meanwhile)  # so the first one alone is asked for
    result = asking.carry_out(desk.book.sequences())
    assert (result.ok, [course.sequence.saga for course in result.failed]) == (False, ["d-2"])
    assert result.failed[0].error == "it was discarded by somebody else before: anna"


def test_the_letter_that_is_due_has_the_reason_and_error_of_its_last_try(
    bench: Bench, wire: type[Wire], mended: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    def other(*arguments: Any, **named: Any) -> None:
        raise Undecidable("another bug")

    def said() -> list[tuple[str, str]]:
        book = Desk(bench).book
        rows = [as_dict(book, letter, "") for letters in book.letters.values() for letter in letters]
        return [(row["reason"], row["error"]) for row in rows]

    def chosen(reason: str) -> int:
        return len(Choice(reasons=(reason,)).sequences(Desk(bench).book))

    park(bench, 1, 2)
    assert said() == [("decision-failed", "RuntimeError: a bug"), ("behind", "")]
    with monkeypatch.context() as changed:
        changed.setattr(inventory, "_move", other)
        ask(bench)
    assert said() == [(Undecidable.reason, "Undecidable: another bug"), ("behind", "")]
    assert (chosen("decision-failed"), chosen(Undecidable.reason)) == (0, 1)
    ask(bench, "discard", most=1)
    assert (bench.parked()["d-1"].reason, bench.parked()["d-1"].error) == ("behind", "")
    assert said() == [("decision-failed", "RuntimeError: a bug"), ("behind", "")]
    assert (chosen(Undecidable.reason), chosen("behind")) == (0, 1)


@pytest.mark.parametrize(
    ("texts", "shown"),
    [
        (("o-1", "anna@example.org", "tok_secret", "Main Street 1"), False),
        (("tok_secret", "o-1", "Main Street 1", ""), False),
        (("t/1", "tok_secret", "order/1", ""), False),
        (("t/1", "o-1", "order/1", ""), True),
    ],
)
def test_what_looks_like_metadata_is_shown_only_if_it_is_where_there_are_secrets(
    bench: Bench, texts: tuple[str, ...], shown: bool
) -> None:
    value = b"\0\0\0\x7f\x01" + b"".join(bytes([2 * len(text)]) + text.encode() for text in texts)
    bench.take(bench.message("order", b"o-1", value))
    said = words(bench.codec, the_letter(bench))
    assert said.get("meta", {}).get("saga") == ("o-1" if shown else None)
    assert ("tok_secret" in str(said), "not shown" in said["note"]) == (False, True)

"""What an operator's command makes of what happens while it runs: other operators, new errors, a worker that is away."""

from __future__ import annotations

from typing import Any

import pytest

from farandole.redrive.asking import Asking, Task
from farandole.redrive.editing import edited
from tests.farandole.bench_of_letters import Bench
from tests.farandole.test_operations import park
from tests.farandole.test_redriving import Desk, Wire, bench, mended, wire

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

"""A fault is put right whatever happens in it, and what happens in it is told."""

from __future__ import annotations

import threading
from collections.abc import Callable
from random import Random
from typing import Any, cast

import pytest

from farandole.chaos import Fault, Refused, Stage, injecting
from farandole.chaos.injecting import Done, Injector, mark_alone
from farandole.chaos.schedule import plan
from farandole.chaos.world import World


class FakeWorld:
    """What an injector needs of the world when nothing real is broken."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.claims: dict[str, object] = {}
        self._halt = threading.Event()

    halted = property(lambda self: self._halt.is_set())
    problem: Callable[[FakeWorld, str], None] = lambda self, what: self.problems.append(what)

    def wait(self, seconds: float) -> None:
        self._halt.wait(min(seconds, 0.01))

    def claim(self, what: str, who: object) -> bool:
        return self.claims.setdefault(what, who) is who

    def unclaim(self, what: str, who: object) -> None:
        self.claims.pop(what, None)


class Quick(Fault):
    name = "quick"
    within = 0.2
    log: list[str] = []  # noqa: RUF012

    def inject(self, stage: Stage, rng: Random) -> None:
        stage.broke("one", lambda: self.log.append("one"))
        stage.broke("two", lambda: self.log.append("two"))


def run(kind: type[Fault], wanted: int = 1) -> tuple[FakeWorld, list[Done]]:
    Quick.log.clear()
    world: Any = FakeWorld()
    injector = Injector(cast(World, world), plan({kind.name: kind}, 0), wanted, 0.0, 1)
    injector.start()
    injector.join(10)
    assert not injector.running
    assert not world.claims
    return world, injector.done


def test_what_was_broken_is_put_right_in_reverse_order_and_has_recovered() -> None:
    world, (done,) = run(Quick)
    assert Quick.log == ["two", "one"]
    assert (done.target, done.problem, world.problems) == ("one, two", "", [])
    assert done.recovered is not None
    assert done.whole is not None


def test_as_many_are_injected_as_were_wanted() -> None:
    assert len(run(Quick, wanted=5)[1]) == 5


@pytest.mark.parametrize("method", ["inject", "heal", "recovered"])
def test_a_fault_that_raises_is_a_problem_and_is_put_right_all_the_same(method: str) -> None:
    def broken(self: Fault, *arguments: Any) -> None:
        if method == "inject":
            Quick.inject(cast(Quick, self), *arguments)
        raise ValueError("wrong")

    kind = type("Broken", (Quick,), {"name": "broken", method: broken})
    world, (done,) = run(kind)
    assert Quick.log == ["two", "one"]
    assert f"{method} raised ValueError: wrong" in done.problem
    assert world.problems


def test_a_system_that_does_not_recover_in_time_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(injecting, "WHOLE_WITHIN", 0.2)
    kind = type("Never", (Quick,), {"name": "never", "recovered": lambda self, stage: False})
    world, (done,) = run(kind)
    assert "not recovered 0 s after its healing" in done.problem
    assert done.recovered is None
    assert world.problems


def test_something_watched_that_never_works_again_is_a_problem() -> None:
    class Watching(Quick):
        name = "watching"

        def inject(self, stage: Stage, rng: Random) -> None:
            stage.broke("it")
            stage.watch(lambda: None)

    assert "not recovered" in run(Watching)[1][0].problem


def test_a_refused_fault_is_tried_again_with_the_same_choices() -> None:
    drawn: list[float] = []

    class Shy(Quick):
        name = "shy"

        def inject(self, stage: Stage, rng: Random) -> None:
            drawn.append(rng.random())
            stage.broke("it", lambda: Quick.log.append("undone"))
            if len(drawn) < 3:
                raise Refused("not now")

    world, done = run(Shy)
    assert (len(done), len(drawn), len(set(drawn)), world.problems) == (1, 3, 1, [])
    assert Quick.log == ["undone"] * 3


def test_a_fault_that_is_refused_for_ever_ends_the_run_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(injecting, "REFUSED_FOR", 0.05)

    class Never(Quick):
        name = "never"

        def inject(self, stage: Stage, rng: Random) -> None:
            raise Refused("never")

    world, done = run(Never, wanted=2)
    assert done == []
    assert "in a row were refused" in world.problems[0]


def test_faults_that_overlap_are_not_alone() -> None:
    done = [Done(1, "a", "", at=0, healed=10), Done(2, "b", "", at=5, healed=7), Done(3, "c", "", at=20, healed=21)]
    mark_alone(done)
    assert [each.alone for each in done] == [False, False, True]

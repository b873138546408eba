"""Logins in the simulation: runs hold while everything goes wrong, and bite."""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count, islice
from typing import Any

import pytest
from msgspec.structs import replace

import events as e
from agents import login
from farandole.simulation.logins import PASSCODES, has_logins
from farandole.simulation.plan import make_plan
from farandole.simulation.tape import Tape
from farandole.simulation.trial import Trial, trial
from farandole.simulation.workers import Workshop
from flows.login import login as flow

RUNS = 100


def seeds() -> Iterator[int]:
    return (seed for seed in count() if has_logins(seed))


def play(workshop: Workshop, seed: int) -> Trial:
    plan = make_plan(seed)
    return trial(workshop, plan, Tape(seed, plan.rates))


def test_every_run_holds_and_logins_end_in_every_way() -> None:
    workshop, counts, live = Workshop(), Counter[str](), 0
    for seed in islice(seeds(), RUNS):
        found = play(workshop, seed)
        assert not found.violations, f"farandole simulate --seed {seed}"
        counts += found.counts
        live += found.counts["logins live"] if not found.counts["dead_letters"] else 0
    for how in ("granted", "locked", "expired", "superseded", "refused"):
        assert counts[f"logins {how}"], how
    assert not live, "the clock ends what nobody does, and no operator has to"


def attempts_not_counted(patch: pytest.MonkeyPatch) -> None:
    """Wrong codes are answered, and not counted."""

    def verify(decision: Any, command: Any, at: int) -> Any:
        before = login.challenges.get(command.saga)
        effects = decision(command, at)
        if isinstance(effects, e.LoginWrong) and before is not None:
            login.challenges[command.saga] = before
        return effects

    decide(patch, e.VerifyCode, verify)


def older_challenge_lives_on(patch: pytest.MonkeyPatch) -> None:
    """A new challenge does not end the older one."""
    patch.setattr(login, "_supersede", lambda user: ())


def strangers_are_let_in(patch: pytest.MonkeyPatch) -> None:
    """Whether the directory knows the user is not looked at."""

    def looked_up(decision: Any, answer: Any, at: int) -> Any:
        effects = decision(answer, at)
        if effects is not None:
            login.challenges[answer.saga] = replace(login.challenges[answer.saga], known=True)
        return effects

    decide(patch, e.DirectoryLookedUp, looked_up)


def granted_codes_can_be_replayed(patch: pytest.MonkeyPatch) -> None:
    """A granted challenge stays live."""

    def verify(decision: Any, command: Any, at: int) -> Any:
        before = login.challenges.get(command.saga)
        effects = decision(command, at)
        if isinstance(effects, tuple) and isinstance(effects[-1], e.LoginGranted) and before is not None:
            login.challenges[command.saga] = before
        return effects

    decide(patch, e.VerifyCode, verify)


def nobody_minds_a_silent_directory(patch: pytest.MonkeyPatch) -> None:
    """The directory's answer is lost on the way."""
    decide(patch, e.DirectoryLookedUp, lambda *_: None)
    decide(patch, e.LookupExpired, lambda *_: None)


def code_in_the_call(patch: pytest.MonkeyPatch) -> None:
    """The passcode is made where the call is described, and so stands in its row."""

    def looked_up(decision: Any, answer: Any, at: int) -> Any:
        effects = decision(answer, at)
        if effects is None:
            return None
        call = effects[-1]
        code = PASSCODES.code(call.body["challenge"], call.body["seed"])
        return *effects[:-1], replace(call, body={**call.body, "code": code})

    decide(patch, e.DirectoryLookedUp, looked_up)


def decide(patch: pytest.MonkeyPatch, event: type[Any], wrong: Callable[..., Any]) -> None:
    """Let the login service answer this event with `wrong(decision, event)`, or with the time in addition."""
    bound = flow.bindings["login", event]

    @functools.wraps(bound.function)
    def answer(heard: Any, *at: int) -> Any:
        return wrong(bound.function, heard, *at)

    patch.setitem(flow.bindings, ("login", event), dataclasses.replace(bound, function=answer))


BUGS: list[tuple[Callable[[pytest.MonkeyPatch], None], str]] = [
    (attempts_not_counted, "attempts-miscounted"),
    (older_challenge_lives_on, "two-challenges"),
    (strangers_are_let_in, "granted-to-nobody"),
    (granted_codes_can_be_replayed, "challenge-ended-twice"),
    (nobody_minds_a_silent_directory, "challenge-not-ended"),
    (code_in_the_call, "passcode-written"),
]


@pytest.mark.parametrize(("plant", "check"), BUGS, ids=lambda each: getattr(each, "__name__", each))
def test_a_planted_bug_is_found(
    plant: Callable[[pytest.MonkeyPatch], None], check: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    workshop = Workshop()
    found = (violation.check for seed in islice(seeds(), 60) for violation in play(workshop, seed).violations)
    assert check in found

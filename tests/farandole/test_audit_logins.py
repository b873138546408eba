"""The limits of logins as the audit counts them: what is too much, and what only looks like it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from agents import login
from events import BeginLogin
from farandole.audit.flows.login import ATTEMPTS, LIMITS, LIVES_MS
from tests.farandole.audit_log import NOW, Log, recording
from tests.farandole.audit_logins import begin, named

MINUTE = 60_000
KEEP = "FARANDOLE_KEEP_SECONDS"
Times = Sequence[tuple[float, float]]


def log_of(times: Times, monkeypatch: pytest.MonkeyPatch) -> Log:
    """anna's challenges by a service without limits. times: minutes of the command, and of all that came of it"""
    with recording() as world, monkeypatch.context() as bug:
        bug.setattr(login, "CHALLENGES", ())
        names = [named("anna", number) for number in range(len(times))]
        for name in names:
            begin(world, name, "anna")
        log = world.finish()
    for name, (asked, done) in zip(names, times, strict=True):
        for where in log.all(saga=name):
            log.put(where, time=NOW + int((asked if where in log.all(BeginLogin) else done) * MINUTE))
    return log


def found(times: Times, monkeypatch: pytest.MonkeyPatch) -> int:
    report = log_of(times, monkeypatch).audit()
    assert set(report.counts) <= {"too-many-challenges"}
    return report.counts.get("too-many-challenges", 0)


def every(minutes: float, count: int) -> list[tuple[float, float]]:
    return [(n * minutes, n * minutes + 0.01) for n in range(count)]


def test_the_limits_are_the_service_s() -> None:
    assert tuple((most, seconds * 1000) for most, seconds in login.CHALLENGES) == LIMITS
    assert (login.ATTEMPTS, login.LIVES * 1000) == (ATTEMPTS, LIVES_MS)


@pytest.mark.parametrize(
    ("times", "findings"),
    [
        pytest.param(every(2, 6), 1, id="six in ten minutes"),
        pytest.param([*every(2, 5), (14.0, 14.01)], 0, id="six, and the clocks may differ by a minute"),
        pytest.param(every(2, 7), 2, id="seven"),
        pytest.param(every(30, 21), 1, id="21 in ten hours"),
        pytest.param(every(73, 40), 0, id="40 in two days"),
        pytest.param([*every(1, 5), *((15 + n, 15.01 + n) for n in range(5))], 0, id="as many as are allowed"),
    ],
)
def test_more_than_the_limits_allow_is_found(times: Times, findings: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(times, monkeypatch) == findings


def test_what_is_decided_late_counts_when_it_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The service was away for an hour."""
    assert found([(n * 15, 60 + n / 100) for n in range(5)] + [(75, 75.1)], monkeypatch) == 0
    assert found([(n, 60.0) for n in range(5)] + [(15 + n, 60.1) for n in range(5)], monkeypatch) == 0


def test_what_was_parked_counts_when_it_was_redriven(monkeypatch: pytest.MonkeyPatch) -> None:
    assert found([(n / 10, n * 15) for n in range(7)], monkeypatch) == 0


def test_a_command_that_comes_again_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    log = log_of(every(2, 5), monkeypatch)
    for where in log.all(BeginLogin):
        log.again(where)
    assert log.audit().counts == {}


def test_no_limit_is_forgotten_because_rows_of_ended_sagas_go_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEEP, "60")
    assert found(every(30, 21), monkeypatch) == 1
    assert found(every(2, 6), monkeypatch) == 1


def test_a_challenge_whose_command_is_gone_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have lain there for long."""
    log = log_of(every(2, 6), monkeypatch)
    log.drop(log.all(BeginLogin)[0])
    assert "too-many-challenges" not in log.audit().counts

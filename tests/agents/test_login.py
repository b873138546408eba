"""Login's rules, each against somebody who would like it to be otherwise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from agents import directory, login
from events import (
    BeginLogin,
    ChallengeExpired,
    DeliverAnswered,
    DirectoryLookedUp,
    LoginChallenged,
    LoginExpired,
    LoginGranted,
    LoginLocked,
    LoginRefused,
    LoginSuperseded,
    LoginUnanswered,
    LoginWrong,
    LookupExpired,
    LookUpUser,
    UserRegistered,
    VerifyCode,
)
from farandole import Call, CancelTimer, Event, Timer, Withdraw
from farandole.passcodes import Passcodes
from farandole.testing import tables

PASSCODES = Passcodes("the key of login workers in tests")
SEED = "abcdefghijklmnopabcdefghijklmnop"
NOW = 1_700_000_000_000
MINUTE = 60_000
DAY = 24 * 60 * MINUTE


@pytest.fixture(autouse=True)
def _tables() -> Iterator[None]:
    with tables(login.app), tables(directory.app):
        yield


def begin(challenge: str = "c-1", user: str = "anna", at: int = NOW) -> Any:
    digest = PASSCODES.digest(challenge, code_of(challenge))
    return login.begin(BeginLogin(user=user, seed=SEED, digest=digest, saga=challenge), at)


def live(challenge: str = "c-1", user: str = "anna", at: int = NOW, known: bool = True) -> Any:
    begin(challenge, user, at)
    return looked_up(challenge, user, at, known)


def looked_up(challenge: str = "c-1", user: str = "anna", at: int = NOW, known: bool = True) -> Any:
    address = f"{user}@example.org" if known else ""
    return login.looked_up(DirectoryLookedUp(user=user, known=known, address=address, saga=challenge), at)


def code_of(challenge: str) -> str:
    return PASSCODES.code(challenge, SEED)


def verify(code: str = "", challenge: str = "c-1", at: int = NOW, attempt: str = "") -> Any:
    """The right code, if none is given."""
    name = attempt or f"a-{len(login.challenges[challenge].attempts)}" if challenge in login.challenges else "a"
    proof = PASSCODES.digest(challenge, code or code_of(challenge))
    return login.verify(VerifyCode(attempt=name, proof=proof, saga=challenge), at)


def wrong(number: int, challenge: str = "c-1") -> str:
    """A code that is not the right one."""
    return f"{(int(code_of(challenge)) + 1 + number) % 1_000_000:06}"


def kinds(effects: Any) -> list[type[Any]]:
    return [type(effect) for effect in (effects if isinstance(effects, tuple) else [effects])]


# ---- begin


def test_a_challenge_begins_with_a_question_to_the_directory_that_has_a_deadline() -> None:
    assert begin() == (LookUpUser(user="anna"), Timer(LookupExpired(), after=2.0))
    challenged, cancelled, expiry, call = looked_up()
    assert (challenged, cancelled) == (LoginChallenged(user="anna"), CancelTimer(LookupExpired))
    assert expiry == Timer(ChallengeExpired(), after=300)
    assert isinstance(call, Call)
    assert call.body == {"to": "anna@example.org", "challenge": "c-1", "seed": SEED}


def test_the_same_command_again_is_the_same_challenge() -> None:
    begin()
    assert begin() is None
    assert len(login.users["anna"].begun) == 1


def test_an_unknown_user_goes_the_same_way_call_and_row_for_row() -> None:
    known, unknown = live("c-1", "anna"), live("c-2", "nobody", known=False)
    assert kinds(known) == kinds(unknown)
    assert unknown[-1].body["to"] == ""
    assert unknown[-1].body.keys() == known[-1].body.keys()
    rows = login.challenges["c-1"], login.challenges["c-2"]
    assert {row.phase for row in rows} == {"live"}
    assert {len(row.digest) for row in rows} == {64}


def test_no_code_is_right_for_an_unknown_user_and_wrong_ones_are_counted_as_ever() -> None:
    live(user="nobody", known=False)
    said = [verify() for _ in range(5)]
    assert kinds(tuple(said[:4])) == [LoginWrong] * 4
    assert said[4] == (CancelTimer(ChallengeExpired), LoginLocked(user="nobody"))


def test_a_silent_directory_ends_the_challenge_and_a_late_answer_changes_nothing() -> None:
    begin()
    assert login.lookup_expired(LookupExpired(saga="c-1")) == LoginUnanswered(user="anna")
    assert looked_up() is None
    assert verify() is None
    assert login.challenges["c-1"].phase == "unanswered"


def test_a_silent_directory_locks_nobody_out() -> None:
    """Who does as he is told asks again every few seconds. No code was sent, so none can be guessed."""
    for number in range(30):
        assert begin(f"c-{number}", at=NOW + number * 3_000)
        login.lookup_expired(LookupExpired(saga=f"c-{number}"))
    assert login.users["anna"].begun == ()
    for number in range(30, 35):
        live(f"c-{number}", at=NOW + number * 3_000)
    assert kinds((begin("c-35", at=NOW + 35 * 3_000),)) == [LoginRefused]


def test_what_a_newer_challenge_has_ended_counts_although_nobody_answered() -> None:
    begin("c-1")
    begin("c-2", at=NOW + 1)
    login.lookup_expired(LookupExpired(saga="c-1"))
    assert login.users["anna"].begun == (NOW, NOW + 1)


def test_rows_stay_as_long_as_limits_look_back_however_short_others_are_kept() -> None:
    users, challenges = login.users.local.keep, login.challenges.local.keep
    assert users is not None
    assert challenges is not None
    assert users(60.0) >= max(seconds for _, seconds in login.CHALLENGES)
    assert users(10**9) < 10**6, "names that strangers make up do not stay for ever"
    assert login.LIVES < challenges(60.0) == challenges(10**9) < users(60.0)


def test_a_deadline_after_the_answer_changes_nothing() -> None:
    live()
    assert login.lookup_expired(LookupExpired(saga="c-1")) is None
    assert LoginGranted(user="anna") in verify()


@pytest.mark.parametrize("user", ["", " anna", "an\nna", "x" * 129, "\ud800"])
def test_a_name_that_is_none_is_refused(user: str) -> None:
    assert login.user_problem(user)
    with pytest.raises(AssertionError):
        begin(user=user)


# ---- one live challenge per user


def test_a_new_challenge_ends_the_older_one_and_its_code_is_worth_nothing() -> None:
    live("c-1")
    effects = begin("c-2")
    assert effects[:2] == (LoginSuperseded(user="anna", challenge="c-1"), Withdraw("c-1/passcode"))
    assert login.challenges["c-1"].phase == "superseded"
    assert verify(challenge="c-1") is None
    looked_up("c-2")
    assert LoginGranted(user="anna") in verify(challenge="c-2")


def test_a_challenge_that_has_ended_is_not_superseded() -> None:
    live("c-1")
    verify()
    assert kinds(begin("c-2")) == [LookUpUser, Timer]
    assert login.challenges["c-1"].phase == "granted"


def test_a_challenge_that_was_superseded_while_the_directory_was_asked_never_lives() -> None:
    begin("c-1")
    begin("c-2")
    assert looked_up("c-1") is None
    assert verify(challenge="c-1") is None


def test_other_users_are_other_users() -> None:
    live("c-1", "anna")
    live("c-2", "Anna")
    assert login.challenges["c-1"].phase == "live"


# ---- flooding one user


def test_five_challenges_in_a_quarter_of_an_hour_and_no_more() -> None:
    for n in range(5):
        live(f"c-{n}", at=NOW + n * MINUTE)
    refused = begin("c-5", at=NOW + 5 * MINUTE)
    assert refused == LoginRefused(user="anna", retry_after=900)
    assert login.challenges["c-4"].phase == "live", "who floods a user does not end the user's challenge"
    assert begin("c-6", at=NOW + 15 * MINUTE - 1) == LoginRefused(user="anna", retry_after=900)
    assert kinds(begin("c-7", at=NOW + 15 * MINUTE))[-2:] == [LookUpUser, Timer]


def test_twenty_challenges_a_day_and_no_more() -> None:
    at = NOW
    for n in range(20):
        assert LookUpUser(user="anna") in begin(f"c-{n}", at=at)
        at += 10 * MINUTE
    refused = begin("c-20", at=at)
    assert refused == LoginRefused(user="anna", retry_after=900)
    assert begin("c-22", at=NOW + DAY - 1) == LoginRefused(user="anna", retry_after=900)
    assert LookUpUser(user="anna") in begin("c-21", at=NOW + DAY)
    assert len(login.users["anna"].begun) <= 20


def test_a_flood_of_one_user_is_nothing_to_another() -> None:
    for n in range(9):
        begin(f"c-{n}")
    assert LookUpUser(user="bea") in begin("b-1", "bea")


def test_an_unknown_user_is_limited_like_any_other() -> None:
    said = [begin(f"c-{n}", "nobody") and live(f"d-{n}", f"known-{n}") and begin(f"e-{n}", "nobody") for n in range(3)]
    assert isinstance(said[-1], LoginRefused)


# ---- guessing, replaying, racing


def test_the_right_code_is_granted_once() -> None:
    live()
    assert verify() == (CancelTimer(ChallengeExpired), LoginGranted(user="anna"))
    assert verify() is None, "a granted code cannot be replayed"
    assert verify(attempt="a-0") is None, "nor can its very attempt"


def test_five_wrong_codes_lock_and_the_right_one_comes_too_late() -> None:
    live()
    said = [verify(wrong(n)) for n in range(4)]
    assert said == [LoginWrong(user="anna", attempts_left=left) for left in (4, 3, 2, 1)]
    assert verify(wrong(4)) == (CancelTimer(ChallengeExpired), LoginLocked(user="anna"))
    assert verify() is None
    assert [each.outcome for each in login.challenges["c-1"].attempts] == ["wrong"] * 4 + ["locked"]


def test_the_fifth_attempt_may_be_the_right_one() -> None:
    live()
    for n in range(4):
        verify(wrong(n))
    assert LoginGranted(user="anna") in verify()


def test_one_attempt_that_comes_twice_counts_once() -> None:
    live()
    assert verify(wrong(0), attempt="a") == LoginWrong(user="anna", attempts_left=4)
    assert verify(wrong(0), attempt="a") is None
    assert verify(wrong(0), attempt="b") == LoginWrong(user="anna", attempts_left=3)


def test_of_two_at_once_one_is_granted_and_none_is_counted_twice() -> None:
    live()
    first, second = verify(attempt="a"), verify(attempt="b")
    assert (LoginGranted(user="anna") in first, second) == (True, None)
    assert [each.name for each in login.challenges["c-1"].attempts] == ["a"]


def test_a_code_of_another_challenge_is_wrong() -> None:
    live("c-1", "anna")
    live("c-2", "bea")
    proof = PASSCODES.digest("c-2", code_of("c-2"))
    said = login.verify(VerifyCode(attempt="a", proof=proof, saga="c-1"), NOW)
    assert said == LoginWrong(user="anna", attempts_left=4)


def test_a_challenge_that_nobody_began_is_nothing() -> None:
    assert verify(challenge="c-9") is None
    assert not list(login.challenges)


# ---- five minutes


def test_the_last_millisecond_of_five_minutes_counts_and_the_next_does_not() -> None:
    live()
    assert LoginGranted(user="anna") in verify(at=NOW + 300_000 - 1)
    live("c-2")
    assert verify(challenge="c-2", at=NOW + 300_000) == (CancelTimer(ChallengeExpired), LoginExpired(user="anna"))
    assert verify(challenge="c-2") is None


def test_the_clock_ends_a_challenge_once() -> None:
    live()
    assert login.challenge_expired(ChallengeExpired(saga="c-1")) == LoginExpired(user="anna")
    assert login.challenge_expired(ChallengeExpired(saga="c-1")) is None
    assert verify() is None


def test_the_clock_ends_nothing_that_has_ended() -> None:
    live()
    verify()
    assert login.challenge_expired(ChallengeExpired(saga="c-1")) is None
    assert login.challenges["c-1"].phase == "granted"


# ---- what is kept


def test_what_has_ended_keeps_nothing_to_compare_a_code_with() -> None:
    ends: dict[str, Callable[[], Any]] = {
        "granted": lambda: verify(challenge="granted"),
        "locked": lambda: [verify(wrong(n, "locked"), challenge="locked") for n in range(5)],
        "expired": lambda: login.challenge_expired(ChallengeExpired(saga="expired")),
        "superseded": lambda: begin("another", "superseded"),
    }
    for name, end in ends.items():
        live(name, user=name)
        end()
        row = login.challenges[name]
        assert (row.phase, row.seed, row.digest) == (name, "", "")


def test_a_code_is_in_no_effect_row_or_repr() -> None:
    effects = [begin(), looked_up(), verify(wrong(0))]
    live_rows = list(login.challenges.values())
    effects.append(verify())
    rows = [row for table in (login.challenges, login.users) for row in table.values()]
    assert SEED not in repr([effects, rows])
    # Whatever of it is written somewhere: what a repr masks as well.
    call = next(each for each in effects[1] if isinstance(each, Call))
    flat = [each for said in effects for each in (said if isinstance(said, tuple) else (said,))]
    events = [each for each in flat if isinstance(each, Event)]
    assert {type(each) for each in events} >= {LookUpUser, LoginChallenged, LoginWrong, LoginGranted}
    written = msgspec.json.encode([call.body, *map(msgspec.to_builtins, (*events, *rows, *live_rows))])
    assert code_of("c-1") not in written.decode()


def test_a_delivery_that_fails_is_noted_and_changes_nothing_else() -> None:
    live()
    login.deliver_answered(DeliverAnswered(outcome="refused", reference="", reason="", saga="c-1"))
    assert login.challenges["c-1"].delivery == "refused"
    assert LoginGranted(user="anna") in verify()


# ---- the directory


def test_an_older_address_that_comes_late_changes_nothing() -> None:
    def register(address: str, at: int) -> None:
        directory.register(UserRegistered(user="anna", address=address, saga="r-1"), at)

    register("new@example.org", NOW)
    register("old@example.org", NOW - 1)
    assert directory.users["anna"].address == "new@example.org"
    register("newest@example.org", NOW)
    assert directory.users["anna"].address == "newest@example.org"


def test_the_directory_answers_once_with_the_same_event_for_everybody() -> None:
    directory.register(UserRegistered(user="anna", address="anna@example.org", saga="r-1"), NOW)
    known = directory.look_up(LookUpUser(user="anna", saga="c-1"))
    unknown = directory.look_up(LookUpUser(user="nobody", saga="c-2"))
    assert known == DirectoryLookedUp(user="anna", known=True, address="anna@example.org")
    assert unknown == DirectoryLookedUp(user="nobody", known=False, address="")


def test_the_newest_address_counts() -> None:
    for address in ("anna@example.org", "anna@example.com", "anna@example.com"):
        directory.register(UserRegistered(user="anna", address=address, saga="r-1"), NOW)
    assert directory.look_up(LookUpUser(user="anna", saga="c-1")).address == "anna@example.com"


@pytest.mark.parametrize(("user", "address"), [("", "a@b.de"), ("x" * 129, "a@b.de"), ("anna", "anna")])
def test_a_registration_that_makes_no_sense_is_a_dead_letter(user: str, address: str) -> None:
    with pytest.raises(AssertionError):
        directory.register(UserRegistered(user=user, address=address, saga="r-1"), NOW)

"""Passcodes: what can be had from what is written down, with the key and without."""

from __future__ import annotations

from collections import Counter

import pytest

from farandole import passcodes
from farandole.errors import ConfigError
from farandole.passcodes import Passcodes, configured, filler, letters, random_text

KEY = "0123456789abcdef0123456789abcdef"
BODY = {"to": "anna@example.org", "challenge": "c-1", "seed": "s" * 32}


def test_a_code_is_six_digits_and_all_of_them_occur_alike() -> None:
    made = [Passcodes(KEY).code("c-1", f"seed {n}") for n in range(20_000)]
    assert all(len(code) == 6 and code.isdecimal() for code in made)
    for place in range(6):
        digits = Counter(code[place] for code in made)
        assert len(digits) == 10
        assert max(digits.values()) - min(digits.values()) < 300, "2,000 of each, standard deviation 42"


def test_key_challenge_and_seed_each_make_another_code() -> None:
    """So neither the topics' half nor the environment's is enough."""
    code = Passcodes(KEY).code("c-1", "s")
    others = [
        [Passcodes(KEY + str(n)).code("c-1", "s") for n in range(200)],
        [Passcodes(KEY).code(f"c-{n}", "s") for n in range(2, 202)],
        [Passcodes(KEY).code("c-1", f"s{n}") for n in range(200)],
    ]
    assert all(made.count(code) < 3 and len(set(made)) > 195 for made in others)


def test_a_million_digests_of_another_key_do_not_meet_the_one_that_is_written() -> None:
    """What a reader of topics can try, in small: digests without the key are no use."""
    true = Passcodes(KEY)
    written = true.digest("c-1", "123456")
    guessed = Passcodes("a guess at the key that is wrong!")
    assert written not in {guessed.digest("c-1", f"{n:06}") for n in range(123_000, 124_000)}
    assert written in {true.digest("c-1", f"{n:06}") for n in range(123_000, 124_000)}, "with it they would be"


def test_two_challenges_with_one_code_have_different_digests() -> None:
    assert Passcodes(KEY).digest("c-1", "123456") != Passcodes(KEY).digest("c-2", "123456")


def test_parts_do_not_run_together() -> None:
    assert Passcodes(KEY).code("c-1", "2s") != Passcodes(KEY).code("c-12", "s")
    assert Passcodes(KEY).digest("c", "1") != Passcodes(KEY).code("c", "1")


def test_nothing_but_a_code_has_a_digit_in_it() -> None:
    said = Passcodes(KEY).digest("c-1", "123456") + random_text()
    assert not any(char.isdigit() for char in said)
    assert len({random_text() for _ in range(1_000)}) == 1_000


def test_the_key_is_not_shown() -> None:
    assert KEY not in repr(Passcodes(KEY))


@pytest.mark.parametrize("key", ["", "secret", KEY[1:], "abcdefg" * 5])
def test_a_key_that_could_be_tried_out_is_refused_and_not_repeated(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv(passcodes.KEY, key)
    with pytest.raises(ConfigError) as refused:
        configured()
    assert passcodes.KEY in refused.value.what
    assert "openssl rand" in refused.value.mend
    assert not key or key not in str(refused.value)


def test_the_letter_is_made_when_it_is_sent_and_the_same_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(passcodes.KEY, KEY)
    letter = letters()(BODY)
    assert letter == filler(Passcodes(KEY))(BODY)
    assert letter == {"to": "anna@example.org", "challenge": "c-1", "code": Passcodes(KEY).code("c-1", "s" * 32)}
    assert letters()({**BODY, "to": ""}) is None

"""The accounts service by itself: whatever is asked of it, in whatever order and however often."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from agents import accounts
from agents.accounts import balances, movements
from events import (
    AccountsCredited,
    AccountsCreditRefused,
    AccountsDebited,
    AccountsDebitRefused,
    Booked,
    CancelCredit,
    CloseAccount,
    CreditAccount,
    DebitAccount,
    FundAccount,
    OpenAccount,
    SettleDebit,
)
from farandole.testing import tables
from farandole.values import MAX_AMOUNT


@pytest.fixture
def bank() -> Iterator[None]:
    with tables(accounts.app):
        yield


def opened(name: str = "anna", overdraft: int = 0, **more: Any) -> OpenAccount:
    return OpenAccount(account=name, currency="EUR", overdraft=overdraft, saga=f"open-{name}", **more)


def deposit(amount: int = 100, name: str = "anna", saga: str = "d", currency: str = "EUR") -> FundAccount:
    return FundAccount(account=name, amount=amount, currency=currency, saga=saga)


@pytest.mark.usefixtures("bank")
class TestClients:
    def test_the_same_opening_again_changes_nothing_not_even_when_it_is_closed(self) -> None:
        accounts.open_account(opened())
        accounts.close_account(CloseAccount(account="anna", saga="c"))
        accounts.open_account(opened())
        assert balances["anna"].phase == "closed"

    def test_other_terms_for_an_account_that_is_there_are_an_error(self) -> None:
        accounts.open_account(opened())
        with pytest.raises(AssertionError, match="in EUR with an overdraft of 0"):
            accounts.open_account(opened(overdraft=1))

    @pytest.mark.parametrize(
        "changes", [{"account": "a b"}, {"account": ""}, {"currency": "eur"}, {"overdraft": -1}, {"overdraft": 1 << 60}]
    )
    def test_what_is_no_account_is_not_opened(self, changes: dict[str, Any]) -> None:
        with pytest.raises(AssertionError):
            accounts.open_account(replace(opened(), **changes))
        assert not list(balances)

    def test_a_deposit_counts_once_and_is_booked_from_cash(self) -> None:
        accounts.open_account(opened())
        booked = accounts.fund(deposit())
        assert isinstance(booked, Booked)
        assert [(entry.account, entry.amount) for entry in booked.entries] == [("cash", 100), ("account:anna", -100)]
        assert accounts.fund(deposit()) is None
        assert balances["anna"].balance == 100
        with pytest.raises(AssertionError, match="the same deposit once was 100 EUR"):
            accounts.fund(deposit(99))

    @pytest.mark.parametrize("amount", [0, -1, MAX_AMOUNT + 1])
    def test_a_deposit_is_an_amount(self, amount: int) -> None:
        accounts.open_account(opened())
        with pytest.raises(AssertionError, match="an amount is 1 to"):
            accounts.fund(deposit(amount))

    def test_what_cannot_be_paid_in_is_an_error_and_changes_nothing(self) -> None:
        for bad in (deposit(), deposit(name="ben"), deposit(currency="USD")):
            if bad.currency == "USD":
                accounts.open_account(opened())
            with pytest.raises(AssertionError, match=r"no such account|in EUR"):
                accounts.fund(bad)
        accounts.close_account(CloseAccount(account="anna", saga="c"))
        with pytest.raises(AssertionError, match="closed"):
            accounts.fund(deposit())
        assert not list(movements)

    def test_an_account_never_has_more_than_sums_can_hold(self) -> None:
        accounts.open_account(opened())
        accounts.fund(deposit(MAX_AMOUNT))
        with pytest.raises(AssertionError, match="would have more"):
            accounts.fund(deposit(1, saga="e"))


@pytest.mark.usefixtures("bank")
class TestTransfers:
    @pytest.mark.parametrize("amount", [0, -1, MAX_AMOUNT + 1])
    def test_an_amount_that_is_none_is_neither_debited_nor_credited(self, amount: int) -> None:
        accounts.open_account(opened())
        with pytest.raises(AssertionError, match="an amount is 1 to"):
            accounts.debit(DebitAccount(account="anna", amount=amount, currency="EUR", saga="t"))
        with pytest.raises(AssertionError, match="an amount is 1 to"):
            accounts.credit(CreditAccount(account="anna", amount=amount, currency="EUR", saga="t"))

    def test_both_sides_of_one_transfer_on_one_account_are_two_movements(self) -> None:
        """No request that is valid asks for it; if it came, no money would be made of it."""
        accounts.open_account(opened())
        accounts.fund(deposit())
        accounts.debit(DebitAccount(account="anna", amount=60, currency="EUR", saga="t"))
        assert balances["anna"].balance == 40
        accounts.credit(CreditAccount(account="anna", amount=60, currency="EUR", saga="t"))
        assert balances["anna"].balance == 100


# ---- whatever is asked in whatever order

NAMES = ("anna", "ben")
names, sagas = st.sampled_from(NAMES), st.sampled_from(["t1", "t2", "t3"])
amounts = st.sampled_from([1, 30, 100])
requests = st.one_of(
    st.builds(DebitAccount, account=st.just("anna"), amount=amounts, currency=st.just("EUR"), saga=sagas),
    st.builds(SettleDebit, account=st.just("anna"), how=st.sampled_from(["cancel", "keep", "refund"]), saga=sagas),
    st.builds(CreditAccount, account=st.just("ben"), amount=amounts, currency=st.just("EUR"), saga=sagas),
    st.builds(CancelCredit, account=st.just("ben"), saga=sagas),
    st.builds(CloseAccount, account=names, saga=st.just("c")),
    st.builds(
        FundAccount, account=names, amount=st.just(40), currency=st.just("EUR"), saga=st.sampled_from(["d", "e"])
    ),
)
DECISIONS: dict[type[Any], Any] = {
    DebitAccount: accounts.debit,
    SettleDebit: accounts.settle,
    CreditAccount: accounts.credit,
    CancelCredit: accounts.cancel_credit,
    CloseAccount: accounts.close_account,
    FundAccount: accounts.fund,
}


@settings(max_examples=300, deadline=None)
@given(st.lists(requests, max_size=25))
def test_whatever_is_asked_each_side_is_answered_once_and_every_booking_is_what_the_balances_say(
    asked: list[Any],
) -> None:
    with tables(accounts.app):
        for name in NAMES:
            accounts.open_account(opened(name, overdraft=20))
        answers: Counter[tuple[str, str]] = Counter()
        ledger: Counter[str] = Counter()
        for request in asked:
            before = dict(balances.items())
            try:
                effects = DECISIONS[type(request)](request)
            except AssertionError:
                assert dict(balances.items()) == before
                continue
            for effect in effects if isinstance(effects, tuple) else (effects,) if effects else ():
                if isinstance(effect, Booked):
                    ledger.update({entry.account: entry.amount for entry in effect.entries})
                elif isinstance(effect, (AccountsDebited, AccountsDebitRefused)):
                    answers[request.saga, "debit"] += 1
                elif isinstance(effect, (AccountsCredited, AccountsCreditRefused)):
                    answers[request.saga, "credit"] += 1
            assert all(row.balance >= -20 for row in balances.values())
            assert {name: -ledger[f"account:{name}"] for name in NAMES} == {
                name: balances[name].balance for name in NAMES
            }
            assert sum(ledger.values()) == 0
        assert all(count == 1 for count in answers.values())

"""`transfer/1`, case by case: two accounts, money between them, and whatever may come in between."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from agents import accounts, transfers
from events import (
    AccountsCredited,
    AccountsRefunded,
    AnswerDue,
    Booked,
    CancelCredit,
    CloseAccount,
    CreditAccount,
    DebitAccount,
    FundAccount,
    OpenAccount,
    SettleDebit,
    StartTransfer,
    TransfersCompleted,
    TransfersFailed,
)
from farandole import Event
from farandole.values import MAX_AMOUNT
from tests.flows.transfers import (
    ACCOUNT,
    TRANSFER,
    a_transfer,
    balances_of,
    check_always,
    check_at_rest,
    id_of,
    open_accounts,
    start,
)
from tests.flows.world import World, world


@pytest.fixture
def bank() -> Iterator[World]:
    """anna has 100, ben 0; carla has nothing, and may owe 50."""
    with world(careful=True) as it:
        open_accounts(it, anna=100, ben=0, carla=-50)
        yield it
        check_always(it)


def ended(world: World, saga: str) -> Event:
    [end] = world.events(saga, TransfersCompleted, TransfersFailed)
    return end


def close(world: World, account: str) -> None:
    world.send(CloseAccount(account=account), f"close-{account}", ACCOUNT)


def move(world: World, **changes: object) -> Event:
    """Start a transfer, run it, and say how it ended."""
    saga = start(world, a_transfer(**changes))  # type: ignore[arg-type]
    world.run()
    return ended(world, saga)


def clock(world: World, saga: str) -> None:
    world.fire(("transfers", saga, "AnswerDue"))


def failed(reason: str, refunded: bool = False) -> TransfersFailed:
    return TransfersFailed(reason=reason, refunded=refunded)


def said(event: Event) -> tuple[str, bool]:
    assert isinstance(event, TransfersFailed)
    return event.reason, event.refunded


# ---- as it should be


def test_the_money_arrives_and_the_row_tells_each_step(bank: World) -> None:
    assert isinstance(move(bank, amount=30), TransfersCompleted)
    assert balances_of(bank) == {"anna": 70, "ben": 30, "carla": 0}
    row = bank.row("transfers", "states", id_of(a_transfer()))
    steps = [step.what for step in row.steps]
    assert steps == ["asked for the debit", "debited", "asked for the credit", "credited"]
    assert [bool(step.due) for step in row.steps] == [True, False, True, False]
    check_at_rest(bank)


def test_of_two_that_race_for_one_balance_one_gets_it(bank: World) -> None:
    one, two = start(bank, a_transfer("1", amount=80)), start(bank, a_transfer("2", amount=80, target="carla"))
    bank.run()
    assert isinstance(ended(bank, one), TransfersCompleted)
    assert said(ended(bank, two)) == ("the account does not have so much", False)
    assert balances_of(bank) == {"anna": 20, "ben": 80, "carla": 0}
    check_at_rest(bank)


def test_an_overdraft_is_used_to_its_limit_and_not_beyond(bank: World) -> None:
    assert isinstance(move(bank, key="1", source="carla", amount=50), TransfersCompleted)
    assert said(move(bank, key="2", source="carla", amount=1)) == ("the account does not have so much", False)
    assert balances_of(bank)["carla"] == -50


# ---- what cannot be


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"target": "anna"}, "target: another account than the source"),
        ({"amount": 0}, f"amount: 1 to {MAX_AMOUNT} minor units"),
        ({"amount": -10}, f"amount: 1 to {MAX_AMOUNT} minor units"),
        ({"amount": MAX_AMOUNT + 1}, f"amount: 1 to {MAX_AMOUNT} minor units"),
        ({"currency": "euro"}, "currency: three capital letters, ISO 4217"),
        ({"within": 0}, "within: 1 to 86400 seconds"),
    ],
)
def test_what_is_not_valid_fails_at_once_and_asks_nobody(bank: World, changes: dict[str, object], reason: str) -> None:
    assert said(move(bank, **changes)) == (reason, False)
    assert not bank.events(id_of(a_transfer()), Booked)


@pytest.mark.parametrize(
    ("changes", "reason", "refunded"),
    [
        ({"source": "nobody"}, "there is no such account", False),
        ({"target": "nobody"}, "there is no such account", True),
        ({"source": "dora"}, "the account is in USD", False),
        ({"target": "dora"}, "the account is in USD", True),
        ({"target": "emil"}, f"the account would have more than {MAX_AMOUNT} minor units", True),
    ],
)
def test_an_account_that_cannot_take_part_refuses_and_nothing_has_moved(
    bank: World, changes: dict[str, object], reason: str, refunded: bool
) -> None:
    bank.send(OpenAccount(account="dora", currency="USD"), "open-dora", ACCOUNT)
    bank.send(FundAccount(account="dora", currency="USD", amount=100), "fund-dora", ACCOUNT)
    open_accounts(bank, emil=MAX_AMOUNT)
    before = balances_of(bank)
    assert said(move(bank, **changes)) == (reason, refunded)
    assert balances_of(bank) == before
    check_at_rest(bank)


@pytest.mark.parametrize(("closed", "refunded"), [("anna", False), ("ben", True)])
def test_a_closed_account_refuses_at_either_end(bank: World, closed: str, refunded: bool) -> None:
    close(bank, closed)
    assert said(move(bank)) == ("the account is closed", refunded)
    assert balances_of(bank) == {"anna": 100, "ben": 0, "carla": 0}
    check_at_rest(bank)


def test_a_source_that_is_closed_between_debit_and_refund_is_refunded(bank: World) -> None:
    close(bank, "ben")
    bank.gates = {"CreditAccount@accounts"}
    saga = start(bank, a_transfer(amount=100))
    bank.run()
    close(bank, "anna")
    bank.gates = set()
    bank.run()
    assert said(ended(bank, saga)) == ("the account is closed", True)
    assert balances_of(bank)["anna"] == 100
    assert bank.row("accounts", "balances", "anna").phase == "closed"
    check_at_rest(bank)


# ---- the same again, and something else under its name


def test_the_same_again_is_the_same_transfer_and_another_amount_changes_nothing(bank: World) -> None:
    saga = start(bank, a_transfer(amount=30))
    start(bank, a_transfer(amount=30))
    start(bank, a_transfer(amount=31))
    bank.run()
    assert isinstance(ended(bank, saga), TransfersCompleted)
    assert balances_of(bank) == {"anna": 70, "ben": 30, "carla": 0}
    start(bank, a_transfer(amount=31))
    bank.run()
    assert balances_of(bank) == {"anna": 70, "ben": 30, "carla": 0}
    check_at_rest(bank)


def test_a_command_under_another_transfers_id_is_refused(bank: World) -> None:
    bank.send(a_transfer("1"), "t-another", TRANSFER)
    bank.run()
    assert "not the one of its customer" in said(ended(bank, "t-another"))[0]


@pytest.mark.parametrize("closed", ["", "ben"])
def test_every_message_twice_changes_nothing(bank: World, closed: str) -> None:
    """Once when it was just handled, and all of them once more at the end."""
    if closed:
        close(bank, closed)
    saga = start(bank, a_transfer(amount=30))
    while bank._oldest_message():
        bank.deliver(bank.delivered[-1])
    once = list(bank.published), balances_of(bank)
    for message in list(bank.delivered):
        bank.deliver(message)
    bank.run()
    assert (bank.published, balances_of(bank)) == once
    assert isinstance(ended(bank, saga), TransfersFailed if closed else TransfersCompleted)
    check_at_rest(bank)


# ---- deadlines


def test_a_debit_that_never_came_is_called_off_and_is_refused_when_it_comes(bank: World) -> None:
    bank.gates = {"DebitAccount@accounts"}
    saga = start(bank, a_transfer())
    bank.run()
    clock(bank, saga)
    bank.run()
    [queue] = [queue for queue in bank.queues.values() if queue]
    assert [type(message.event).__name__ for message in queue] == ["DebitAccount", "SettleDebit"]
    queue.reverse()
    bank.gates = set()
    bank.run()
    assert said(ended(bank, saga)) == ("it was called off before it was done", False)
    check_at_rest(bank)


def test_a_debit_that_comes_after_its_deadline_counts_and_the_transfer_goes_on(bank: World) -> None:
    bank.gates = {"AccountsDebited@transfers"}
    saga = start(bank, a_transfer())
    bank.run()
    clock(bank, saga)
    bank.run()
    assert bank.row("transfers", "states", saga).phase == "cancelling_debit"
    bank.gates = set()
    bank.run()
    assert isinstance(ended(bank, saga), TransfersCompleted)
    check_at_rest(bank)


def held_at_the_credit(bank: World, gate: str) -> str:
    """A transfer whose credit's deadline has passed, the cancel behind the credit."""
    bank.gates = {gate}
    saga = start(bank, a_transfer())
    bank.run()
    clock(bank, saga)
    bank.run()
    assert bank.row("transfers", "states", saga).phase == "cancelling_credit"
    return saga


def test_a_deadline_alone_refunds_nobody(bank: World) -> None:
    saga = held_at_the_credit(bank, "CreditAccount@accounts")
    assert not bank.events(saga, AccountsRefunded)
    assert balances_of(bank) == {"anna": 90, "ben": 0, "carla": 0}


def test_a_credit_that_comes_after_its_deadline_completes_the_transfer(bank: World) -> None:
    """It lies before its cancel: it is done, and the cancel comes too late."""
    saga = held_at_the_credit(bank, "CreditAccount@accounts")
    bank.gates = set()
    bank.run()
    assert isinstance(ended(bank, saga), TransfersCompleted)
    assert balances_of(bank) == {"anna": 90, "ben": 10, "carla": 0}
    check_at_rest(bank)


def test_a_credit_that_its_cancel_has_overtaken_is_refused_and_creates_no_money(bank: World) -> None:
    saga = held_at_the_credit(bank, "CreditAccount@accounts")
    [queue] = [queue for queue in bank.queues.values() if queue]
    assert [type(message.event) for message in queue] == [CreditAccount, CancelCredit]
    queue.reverse()
    bank.gates = {"CreditAccount@accounts"}
    bank.run()
    assert said(ended(bank, saga)) == ("it was called off before it was done", True)
    bank.gates = set()
    bank.run()
    assert not bank.events(saga, AccountsCredited)
    assert balances_of(bank) == {"anna": 100, "ben": 0, "carla": 0}
    check_at_rest(bank)


def forget_what_has_ended(bank: World) -> None:
    """As a week later."""
    for service in ("accounts", "transfers"):
        for table in bank.apps[service].rows.values():
            for key in [key for key, row in table.items() if table.local.ended is not None and table.local.ended(row)]:
                del table[key]
        bank.apps[service].undo_log.clear()


@pytest.mark.parametrize(("late", "cancel"), [(CreditAccount, CancelCredit), (DebitAccount, SettleDebit)])
def test_what_was_called_off_before_it_came_stays_so_for_however_long_it_is_a_dead_letter(
    bank: World, late: type[Event], cancel: type[Event]
) -> None:
    bank.gates = {f"{late.__name__}@accounts"}
    saga = start(bank, a_transfer())
    bank.run()
    clock(bank, saga)
    bank.run()
    [queue] = [queue for queue in bank.queues.values() if queue]
    assert [type(message.event) for message in queue] == [late, cancel]
    letter = queue.popleft()
    bank.gates = set()
    bank.run()
    assert isinstance(ended(bank, saga), TransfersFailed)
    forget_what_has_ended(bank)
    for _ in range(2):
        queue.append(letter)
        bank.run()
    assert balances_of(bank) == {"anna": 100, "ben": 0, "carla": 0}
    check_at_rest(bank)


def test_who_sends_a_transfer_again_that_all_have_forgotten_is_barred_by_no_letter_of_the_first(bank: World) -> None:
    bank.gates = {"CreditAccount@accounts"}
    saga = start(bank, a_transfer())
    bank.run()
    clock(bank, saga)
    bank.run()
    [queue] = [queue for queue in bank.queues.values() if queue]
    letter = queue.popleft()
    bank.gates = set()
    bank.run()
    assert isinstance(ended(bank, saga), TransfersFailed)
    forget_what_has_ended(bank)
    assert start(bank, a_transfer()) == saga
    bank.run()
    assert bank.row("transfers", "states", saga).phase == "completed"
    assert balances_of(bank) == {"anna": 90, "ben": 10, "carla": 0}
    forget_what_has_ended(bank)
    queue.append(letter)
    bank.run()
    assert balances_of(bank) == {"anna": 90, "ben": 10, "carla": 0}


def test_an_answer_that_is_late_but_there_when_the_clock_strikes_settles_it(bank: World) -> None:
    """The credit is done; the clock strikes before the answer is heard, and the cancel changes nothing."""
    saga = held_at_the_credit(bank, "AccountsCredited@transfers")
    bank.gates = set()
    bank.run()
    assert isinstance(ended(bank, saga), TransfersCompleted)
    assert balances_of(bank)["ben"] == 10
    check_at_rest(bank)


def test_a_clock_of_the_debit_says_nothing_about_the_credit(bank: World) -> None:
    bank.gates = {"CreditAccount@accounts"}
    saga = start(bank, a_transfer())
    bank.run()
    bank.send(AnswerDue(step="debit"), saga, TRANSFER)
    bank.run()
    assert bank.row("transfers", "states", saga).phase == "crediting"
    bank.gates = set()
    bank.run()
    assert isinstance(ended(bank, saga), TransfersCompleted)


# ---- what no transfer may do


@pytest.mark.parametrize("how", ["keep", "refund"])
def test_there_is_nothing_to_settle_without_a_debit(bank: World, how: str) -> None:
    bank.send(SettleDebit(account="anna", how=how), "t-none", TRANSFER)  # type: ignore[arg-type]
    with pytest.raises(AssertionError, match="no debit in flight"):
        bank.run()


def test_a_transfers_row_outlives_what_the_accounts_keep_of_it() -> None:
    """Whoever sends one again after its row has gone meets accounts that have forgotten it, too, and answer."""
    keep = transfers.states.local.keep
    assert keep is not None
    assert accounts.movements.local.keep is None
    assert all(keep(seconds) > seconds for seconds in (60.0, 604_800.0))


def test_what_was_kept_is_not_refunded(bank: World) -> None:
    move(bank)
    bank.send(SettleDebit(account="anna", how="refund"), id_of(a_transfer()), TRANSFER)
    with pytest.raises(AssertionError, match="no debit in flight"):
        bank.run()


def test_the_fields_of_a_request_are_all_in_its_fingerprint() -> None:
    """Another body under the same key is to be told from the same one."""
    from agents.transfers import fingerprint

    asked = a_transfer()
    others: list[StartTransfer] = [
        a_transfer(source="x"),
        a_transfer(target="x"),
        a_transfer(amount=1),
        a_transfer(currency="USD"),
        a_transfer(within=1),
    ]
    assert len({fingerprint(each) for each in (asked, *others)}) == 6

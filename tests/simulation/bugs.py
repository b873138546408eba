"""Plausible mistakes, planted into the real code one at a time: what the simulation has to find.

A bug is planted before the workshop is made, because decisions are bound when flows are read. `within`: seeds, counted
from 0, among which it has to be found where all orders are of `flows`; docs/simulation.md repeats the table.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import pytest
from msgspec.structs import replace

import events as e
from agents import accounts, inventory, orchestrator, order, payment, shipping, transfers
from farandole.clients import _read_until
from farandole.deadletters import ParkedSagas
from farandole.engine import Engine
from farandole.event import Event
from farandole.flow import Flow
from farandole.operations import Operations
from farandole.processor import Processor
from farandole.simulation.clients import ModelClients
from farandole.simulation.outside import Books
from farandole.table import changes
from farandole.transactions import Transactions
from flows.order import order as order_flow
from flows.order_pay_first import pay_first
from flows.transfer import transfer as transfer_flow

Plant = Callable[[pytest.MonkeyPatch], None]


class Bug(NamedTuple):
    name: str
    plant: Plant
    within: int
    flows: tuple[str, ...] = ("order/1",)

    @property
    def says(self) -> str:
        return (self.plant.__doc__ or "").strip()


def decide(
    monkeypatch: pytest.MonkeyPatch,
    service: str,
    event: type[Event],
    wrong: Callable[..., Any],
    flow: Flow = order_flow,
) -> None:
    """In this flow, let the service answer the event with `wrong(decision, event)`."""
    right = flow.bindings[service, event]

    @functools.wraps(right.function)
    def answer(heard: Any, *at: int) -> Any:
        return wrong(lambda event: right.function(event, *at), heard)

    monkeypatch.setitem(flow.bindings, (service, event), dataclasses.replace(right, function=answer))


# ---- in decisions


def compensation_forgotten(patch: pytest.MonkeyPatch) -> None:
    """A declined card releases no stock."""
    decide(patch, "inventory", e.PaymentDeclined, lambda decision, event: None)
    # When the reservation's time is up, its clock would mend that.
    decide(patch, "inventory", e.ReservationExpired, lambda decision, event: None)


def late_step_not_refused(patch: pytest.MonkeyPatch) -> None:
    """Shipping books an order that was stopped before its payment was heard of."""

    def book(decision: Any, event: Any) -> Any:
        known = shipping.shipments.get(event.saga)
        if known is not None and known.phase == "cancelled":
            del shipping.shipments[event.saga]
        return decision(event)

    decide(patch, "shipping", e.PaymentAuthorised, book)


def deadline_means_no(patch: pytest.MonkeyPatch) -> None:
    """An authorisation that nobody answered counts as declined: nothing is voided."""

    def answered(decision: Any, event: Any) -> Any:
        return decision(replace(event, outcome="refused") if event.outcome == "unknown" else event)

    decide(patch, "payment", e.AuthoriseAnswered, answered)


def cancelled_behind_the_point_of_no_return(patch: pytest.MonkeyPatch) -> None:
    """A customer may cancel what has left already."""

    def stop(decision: Any, event: Any) -> Any:
        known = shipping.shipments.get(event.saga)
        if known is not None and known.phase == "dispatched":
            shipping.shipments[event.saga] = replace(known, phase="cancelled")
            return e.ShippingCancelled(asked_by="customer")
        return decision(event)

    decide(patch, "shipping", e.OrderCancelRequested, stop)


def completed_when_paid(patch: pytest.MonkeyPatch) -> None:
    """An order is completed when it is paid, whether its stock was taken or not."""

    def captured(decision: Any, event: Any) -> Any:
        order.orders[event.saga] = replace(order.orders[event.saga], committed=True)
        return decision(event)

    decide(patch, "order", e.PaymentCaptured, captured)


def repeated_request_is_a_new_order(patch: pytest.MonkeyPatch) -> None:
    """The same request again is another order."""

    def place(decision: Any, event: Any) -> Any:
        order.orders.pop(event.saga, None)
        return decision(event)

    decide(patch, "order", e.PlaceOrder, place)


def void_forgets_what_comes_late(patch: pytest.MonkeyPatch) -> None:
    """A void that comes while the gateway is asked is forgotten: the authorisation goes on."""

    def void(decision: Any, event: Any) -> Any:
        known = payment.charges.get(event.saga)
        return None if known is not None and known.phase == "authorising" else decision(event)

    decide(patch, "payment", e.ShippingCancelled, void)


def shortage_keeps_what_was_held(patch: pytest.MonkeyPatch) -> None:
    """An order that is short of one line keeps the others."""

    def short(decision: Any, event: Any) -> Any:
        effects = decision(event)
        if isinstance(effects, tuple) and isinstance(effects[0], e.InventoryRejected):
            inventory.reservations[event.saga] = e.Reservation(phase="released")
            return effects[0], e.InventoryReleased(outcome="nothing_to_undo")
        return effects

    decide(patch, "inventory", e.InventoryLineShort, short)


def deadline_refunds(patch: pytest.MonkeyPatch) -> None:
    """A transfer whose credit is late is refunded at once, without a word from the target."""

    def overdue(decision: Any, event: Any) -> Any:
        effects = decision(event)
        if not isinstance(effects, e.CancelCredit):
            return effects
        row = transfers.states[event.saga]
        transfers.states[event.saga] = replace(row, phase="refunding", reason="late")
        return effects, e.SettleDebit(account=row.source, how="refund")

    decide(patch, "transfers", e.AnswerDue, overdue, transfer_flow)


def cancel_forgets(patch: pytest.MonkeyPatch) -> None:
    """A credit that is called off is refused, and done all the same when it comes again."""

    def credit(decision: Any, event: Any) -> Any:
        known = accounts.movements.get(f"{event.saga}/credit")
        if known is not None and known.phase == "refused":
            del accounts.movements[f"{event.saga}/credit"]
        return decision(event)

    def cancel(decision: Any, event: Any) -> Any:
        known = accounts.movements.pop(f"{event.saga}/credit", None)
        if known is not None:
            account = accounts.balances[event.account]
            accounts.balances[event.account] = replace(account, balance=account.balance - known.amount)
        return decision(event)

    decide(patch, "accounts", e.CreditAccount, credit, transfer_flow)
    decide(patch, "accounts", e.CancelCredit, cancel, transfer_flow)


def overdraft_unchecked(patch: pytest.MonkeyPatch) -> None:
    """An account may spend what it does not have."""
    patch.setattr(accounts, "_why_no_debit", lambda name, amount, currency: "")


def refund_to_nobody(patch: pytest.MonkeyPatch) -> None:
    """A refund to an account that was closed meanwhile is lost."""

    def settle(decision: Any, event: Any) -> Any:
        account = accounts.balances.get(event.account)
        if event.how == "refund" and account is not None and account.phase == "closed":
            return e.AccountsRefunded()
        return decision(event)

    decide(patch, "accounts", e.SettleDebit, settle, transfer_flow)


def refund_not_awaited(patch: pytest.MonkeyPatch) -> None:
    """A transfer has failed as soon as its refund is asked for."""

    def refused(decision: Any, event: Any) -> Any:
        effects = decision(event)
        if effects is None:
            return None
        row = transfers.states[event.saga]
        transfers.states[event.saga] = replace(row, phase="failed")
        return *effects, e.TransfersFailed(reason=row.reason, refunded=True)

    decide(patch, "transfers", e.AccountsCreditRefused, refused, transfer_flow)


# ---- in the engine


def offsets_before_outputs(patch: pytest.MonkeyPatch) -> None:
    """Consumed offsets are committed in a transaction of their own, before the outputs."""
    offsets = Engine._offsets

    def of_a_transaction_before(engine: Engine) -> Any:
        producer = engine.transactions.producer
        producer.begin_transaction()
        producer.send_offsets_to_transaction(offsets(engine), engine.clients.consumer.consumer_group_metadata(), 30.0)
        producer.commit_transaction(30.0)
        return offsets(engine)

    patch.setattr(Engine, "_offsets", of_a_transaction_before)


def tables_not_rolled_back(patch: pytest.MonkeyPatch) -> None:
    """After an abort the tables keep what the batch wrote."""
    rollback = Processor.rollback

    def forget(processor: Processor) -> None:
        processor.log.clear()
        rollback(processor)

    patch.setattr(Processor, "rollback", forget)


def parked_saga_overtaken(patch: pytest.MonkeyPatch) -> None:
    """A saga is parked under a name that nobody looks up."""
    add = ParkedSagas.add

    def add_elsewhere(parked: ParkedSagas, saga: str, *more: Any) -> None:
        add(parked, f"{saga} ", *more)

    patch.setattr(ParkedSagas, "add", add_elsewhere)


def repeated_operation_counts(patch: pytest.MonkeyPatch) -> None:
    """A dead letter is redriven as often as it is asked for."""
    _not_ignored(patch, "before")


def letter_out_of_turn(patch: pytest.MonkeyPatch) -> None:
    """A dead letter is redriven although the one before it has failed again."""
    _not_ignored(patch, "is due first")


def _not_ignored(patch: pytest.MonkeyPatch, why: str) -> None:
    right = Operations._why_ignored

    def wrong(operations: Operations, asked: e.FarandoleOperation, partition: int) -> str:
        found = right(operations, asked, partition)
        return "" if why in found else found

    patch.setattr(Operations, "_why_ignored", wrong)


def dead_letter_lost(patch: pytest.MonkeyPatch) -> None:
    """What follows a dead letter of its saga is dropped instead of put behind it."""
    park = Processor._park

    def park_or_drop(processor: Processor, message: Any, saga: Any, error: Any) -> None:
        if error is not None:
            park(processor, message, saga, error)

    patch.setattr(Processor, "_park", park_or_drop)


def timer_over_a_backlog(patch: pytest.MonkeyPatch) -> None:
    """A timer fires when it is due, whatever lies unread."""
    patch.setattr(Engine, "_passed", lambda engine, barrier: True)


def unknown_taken_for_failure(patch: pytest.MonkeyPatch) -> None:
    """A commit that nobody answered counts as failed, without asking."""
    happened = Transactions.happened

    def no(transactions: Transactions, failure: Any, moving: Any) -> bool:
        happened(transactions, failure, moving)
        return False

    patch.setattr(Transactions, "happened", no)


def unknown_taken_for_success(patch: pytest.MonkeyPatch) -> None:
    """A commit that nobody answered counts as done, without asking."""
    happened = Transactions.happened

    def yes(transactions: Transactions, failure: Any, moving: Any) -> bool:
        committing = transactions.committing and not failure.args[0].txn_requires_abort()
        return happened(transactions, failure, moving) or committing

    patch.setattr(Transactions, "happened", yes)


def no_seek_after_abort(patch: pytest.MonkeyPatch) -> None:
    """After an abort the consumer goes on where it is."""
    start_over = Engine._start_over

    def without_seek(engine: Engine, answers: Any) -> None:
        position = {
            (tp.topic, tp.partition): tp.offset
            for tp in engine.clients.consumer.position(engine.clients.consumer.assignment())
        }
        kept = engine._position
        engine._position = {**kept, **{where: position[where] for where in engine._ahead if where in position}}
        start_over(engine, answers)
        engine._position = kept

    patch.setattr(Engine, "_start_over", without_seek)


def answers_lost_on_abort(patch: pytest.MonkeyPatch) -> None:
    """Answers of outside calls that an aborted transaction had taken are gone."""
    start_over = Engine._start_over
    patch.setattr(Engine, "_start_over", lambda engine, answers: start_over(engine, []))


def calls_before_commit(patch: pytest.MonkeyPatch) -> None:
    """Outside calls begin when they are decided, not when that is committed."""
    offsets = Engine._offsets

    def begin_calls(engine: Engine) -> Any:
        for part, rows in engine.processor._changed.items():
            for key, row in rows.items() if part.table == "calls" else ():
                if row is not None:
                    engine.performer.start(part.partition, key, row)
        return offsets(engine)

    patch.setattr(Engine, "_offsets", begin_calls)


def calls_forgotten_by_the_next_owner(patch: pytest.MonkeyPatch) -> None:
    """Whoever takes a partition over performs none of the calls that wait there."""
    assigned = Engine._assigned

    def without_calls(engine: Engine, *arguments: Any) -> None:
        performer = engine.performer
        engine.performer = _Nobody()
        assigned(engine, *arguments)
        engine.performer = performer

    patch.setattr(Engine, "_assigned", without_calls)


class _Nobody:
    def start(self, *_: Any) -> None: ...
    def stop(self, *_: Any) -> None: ...
    def forget(self, *_: Any) -> None: ...
    def under_way(self) -> int:
        return 0


def outputs_reversed(patch: pytest.MonkeyPatch) -> None:
    """A batch's events are sent last first: a release overtakes its hold."""
    seal = Processor.seal

    def reverse(processor: Processor) -> None:
        processor.events.reverse()
        seal(processor)

    patch.setattr(Processor, "seal", reverse)


def deleted_rows_not_logged(patch: pytest.MonkeyPatch) -> None:
    """The changelog hears of no row that was deleted: whoever restores finds it again."""
    patch.setattr(
        "farandole.processor.changes",
        lambda log: {
            part: {key: row for key, row in rows.items() if row is not None} for part, rows in changes(log).items()
        },
    )


def restored_to_the_stable_end(patch: pytest.MonkeyPatch) -> None:
    """A new owner reads changelogs to the last stable offset, where an open transaction of the old one begins."""

    def too_short(clients: ModelClients, processor: Processor, partitions: set[int], producer: Any) -> int:
        stable = clients.cluster.ends(committed=True)
        tables = processor.changelog_topics()
        places = {(topic, partition) for topic in tables for partition in partitions if stable[topic, partition]}
        take = {(topic, partition): processor.restore(tables[topic], partition) for topic, partition in places}
        with clients._reader(places) as reader:
            return _read_until(reader, places, take, stable)

    patch.setattr(ModelClients, "restore", too_short)


def lost_partitions_acknowledged(patch: pytest.MonkeyPatch) -> None:
    """What was read of a partition that has gone is acknowledged all the same."""
    drop = Engine._drop

    def keep(engine: Engine, partitions: set[int]) -> None:
        ahead = dict(engine._ahead)
        drop(engine, partitions)
        engine._ahead.update(ahead)

    patch.setattr(Engine, "_drop", keep)


def retry_with_another_key(patch: pytest.MonkeyPatch) -> None:
    """A request that is sent again has another idempotency key: double capture."""
    perform = Books.perform

    def another(books: Books, key: str, call: Any) -> Any:
        if key not in books.asked:
            return perform(books, key, call)
        system = books.systems[call.outside]
        answer = system.perform(call.operation, f"{key}?{len(system)}", call.body)
        return ("accepted", "", "") if answer.status < 300 else ("refused", "", "")

    patch.setattr(Books, "perform", another)


def overdue_means_not_done(patch: pytest.MonkeyPatch) -> None:
    """The orchestrator takes an answer that is overdue for a no: nothing of that step is taken back."""
    right = orchestrator._take_back

    def take_back(saga: str, run: e.Orchestration, because: str, at: int) -> Any:
        if because == orchestrator.OVERDUE:
            asked = "voided" if run.phase == "authorising" else "released"
            run = replace(run, **{asked: "nothing_to_undo"})
        return right(saga, run, because, at)

    patch.setattr(orchestrator, "_take_back", take_back)


def only_answered_steps_are_taken_back(patch: pytest.MonkeyPatch) -> None:
    """The orchestrator voids an authorisation only if it has heard of it."""
    right = orchestrator._take_back

    def take_back(saga: str, run: e.Orchestration, because: str, at: int) -> Any:
        if "payment.authorised" not in {step.answer for step in run.steps}:
            run = replace(run, voided="nothing_to_undo")
        return right(saga, run, because, at)

    patch.setattr(orchestrator, "_take_back", take_back)


def stop_dropped_on_the_way(patch: pytest.MonkeyPatch) -> None:
    """The orchestrator forgets a customer who cancels while shipping is booking."""
    right = orchestrator._stop

    def stop(saga: str, *rest: Any) -> Any:
        return None if orchestrator.orchestrations[saga].phase == "dispatching" else right(saga, *rest)

    patch.setattr(orchestrator, "_stop", stop)


def released_before_voided(patch: pytest.MonkeyPatch) -> None:
    """The orchestrator has the stock released before the payment is voided."""
    right = orchestrator._take_back

    def take_back(saga: str, run: e.Orchestration, because: str, at: int) -> Any:
        if run.voided != "pending" or run.released != "pending":
            return right(saga, run, because, at)
        orchestrator._ask(saga, replace(run, phase="releasing"), "release-stock", because, at)
        return (e.ReleaseStock(),)

    patch.setattr(orchestrator, "_take_back", take_back)


# ---- in decisions of order-pay-first


def refund_forgotten(patch: pytest.MonkeyPatch) -> None:
    """A shortage refunds nothing."""
    decide(patch, "payment", e.InventoryRejected, lambda decision, event: None, pay_first)


def charge_deadline_means_no(patch: pytest.MonkeyPatch) -> None:
    """A charge that nobody answered counts as declined: nothing is refunded."""

    def answered(decision: Any, event: Any) -> Any:
        return decision(replace(event, outcome="refused") if event.outcome == "unknown" else event)

    decide(patch, "payment", e.ChargeAnswered, answered, pay_first)


def stopped_order_charged(patch: pytest.MonkeyPatch) -> None:
    """Payment charges an order that was stopped before it was heard of."""

    def charge(decision: Any, event: Any) -> Any:
        payment.prepayments.pop(event.saga, None)
        return decision(event)

    decide(patch, "payment", e.OrderPlaced, charge, pay_first)


def cancelled_before_the_refund(patch: pytest.MonkeyPatch) -> None:
    """An order that a carrier refuses is cancelled as soon as its stock is free, refunded or not."""

    def stopped(decision: Any, event: Any) -> Any:
        order.orders[event.saga] = replace(order.orders[event.saga], charged_first=False, voided="nothing_to_undo")
        return decision(event)

    decide(patch, "order", e.ShippingFailed, stopped, pay_first)


def never_earned(patch: pytest.MonkeyPatch) -> None:
    """What was prepaid is not posted as a sale when the order leaves."""
    decide(patch, "payment", e.ShippingDispatched, lambda decision, event: None, pay_first)


ORCHESTRATED: Final = ("order-orchestrated/1",)
PAY_FIRST: Final = ("order-pay-first/1",)

BUGS: Final = (
    Bug("compensation forgotten", compensation_forgotten, 100),
    Bug("late step not refused", late_step_not_refused, 100),
    Bug("deadline means no", deadline_means_no, 100),
    Bug("cancelled behind the point of no return", cancelled_behind_the_point_of_no_return, 100),
    Bug("completed when paid", completed_when_paid, 100),
    Bug("repeated request is a new order", repeated_request_is_a_new_order, 100),
    Bug("void forgets what comes late", void_forgets_what_comes_late, 100),
    Bug("shortage keeps what was held", shortage_keeps_what_was_held, 100),
    Bug("offsets before outputs", offsets_before_outputs, 100),
    Bug("tables not rolled back", tables_not_rolled_back, 100),
    Bug("parked saga overtaken", parked_saga_overtaken, 100),
    Bug("dead letter lost", dead_letter_lost, 100),
    Bug("repeated operation counts", repeated_operation_counts, 600),
    Bug("letter out of turn", letter_out_of_turn, 100),
    Bug("timer over a backlog", timer_over_a_backlog, 300),
    Bug("unknown outcome taken for a failure", unknown_taken_for_failure, 300),
    Bug("unknown outcome taken for a success", unknown_taken_for_success, 300),
    Bug("no seek after an abort", no_seek_after_abort, 100),
    Bug("answers lost on an abort", answers_lost_on_abort, 600),
    Bug("calls before the commit", calls_before_commit, 1000),
    Bug("calls forgotten by the next owner", calls_forgotten_by_the_next_owner, 100),
    Bug("release overtakes its hold", outputs_reversed, 100),
    Bug("deleted rows not logged", deleted_rows_not_logged, 100),
    Bug("restored to the stable end", restored_to_the_stable_end, 100),
    Bug("lost partitions acknowledged", lost_partitions_acknowledged, 100),
    Bug("double capture", retry_with_another_key, 100),
    Bug("refund forgotten", refund_forgotten, 100, PAY_FIRST),
    Bug("a charge's deadline means no", charge_deadline_means_no, 100, PAY_FIRST),
    Bug("a stopped order is charged", stopped_order_charged, 400, PAY_FIRST),
    Bug("cancelled before the refund", cancelled_before_the_refund, 100, PAY_FIRST),
    Bug("never earned", never_earned, 100, PAY_FIRST),
    Bug("overdue means not done", overdue_means_not_done, 100, ORCHESTRATED),
    Bug("only answered steps are taken back", only_answered_steps_are_taken_back, 100, ORCHESTRATED),
    Bug("a stop is dropped on the way", stop_dropped_on_the_way, 100, ORCHESTRATED),
    Bug("released before voided", released_before_voided, 100, ORCHESTRATED),
    Bug("deadline refunds", deadline_refunds, 300),
    Bug("cancel forgets", cancel_forgets, 300),
    Bug("overdraft unchecked", overdraft_unchecked, 100),
    Bug("refund to nobody", refund_to_nobody, 300),
    Bug("refund not awaited", refund_not_awaited, 100),
)

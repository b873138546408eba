"""Every check bites: for each there is a way to damage a clean log that it finds.

A plant damages a log in one way and audits it. `test_every_check_has_a_plant` keeps the two lists equal, so a check
cannot be added, or lose its bite, without being seen here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

import events as e
from farandole import Meta
from farandole.audit.findings import CHECKS, TRANSFER_CHECKS
from farandole.audit.records import Where
from farandole.audit.report import Report
from tests.farandole.audit_gateway import KnownGateway, honest
from tests.farandole.audit_log import Log
from tests.farandole.audit_logins import OF, code_of, logins, named
from tests.farandole.audit_orders import told

Sagas = Mapping[str, str]
Plant = Callable[[Log, Sagas], Report]
PLANTS: list[tuple[str, Plant]] = []


def plants(*checks: str) -> Callable[[Plant], Plant]:
    """The function damages a clean log and audits it; each of these checks has to find that."""

    def register(plant: Plant) -> Plant:
        PLANTS.extend((check, plant) for check in checks)
        return plant

    return register


# ---- ids and causes


@plants("duplicate-id")
def one_record_twice(log: Log, of: Sagas) -> Report:
    log.again(log.one(e.MailAnswered))
    report = log.audit()
    assert report.duplicate_ids == 1
    return report


@plants("duplicate-id")
def one_record_twice_with_a_high_number(log: Log, of: Sagas) -> Report:
    """Beyond the numbers that are bits."""
    answer, cause = log.one(e.NotificationSent, of["completed"]), log.one(e.MailAnswered, of["completed"])
    for number in range(70):
        log.publish(log.event(answer), of["completed"], cause, f"extra.{number}")
    log.publish(log.event(answer), of["completed"], cause, "extra.69")
    report = log.audit()
    assert report.duplicate_ids == 1
    return report


@plants("malformed-id")
def an_id_that_names_no_place(log: Log, of: Sagas) -> Report:
    log.remeta(log.one(e.NotificationSent), id="7")
    return log.audit()


@plants("unknown-cause")
def a_cause_that_was_never_committed(log: Log, of: Sagas) -> Report:
    log.drop(log.one(e.MailAnswered, of["completed"]))
    report = log.audit()
    assert report.counts == {"unknown-cause": 1}
    return report


@plants("unknown-cause")
def a_cause_in_a_topic_that_does_not_exist(log: Log, of: Sagas) -> Report:
    log.remeta(log.one(e.NotificationSent), id="elsewhere/0/0.0")
    return log.audit()


@plants("cause-differs")
def another_record_lies_where_the_cause_should(log: Log, of: Sagas) -> Report:
    log.remeta(log.one(e.NotificationSent), cause="order/0/0.0")
    return log.audit()


@plants("saga-differs")
def an_effect_on_somebody_elses_order(log: Log, of: Sagas) -> Report:
    log.remeta(log.one(e.InventoryReserved, of["declined"]), saga=of["short"])
    return log.audit()


@plants("flow-differs")
def an_effect_in_another_version_of_the_flow(log: Log, of: Sagas) -> Report:
    where = log.one(e.NotificationSent, of["completed"])
    log.remeta(where, flow="order/2")
    report = log.audit()
    [finding] = [finding for finding in report.findings if finding.check == "flow-differs"]
    assert (finding.saga, finding.where) == (of["completed"], str(where))
    assert "order/2" in finding.what
    assert "notification.calls.mail_answered with 'order/1'" in finding.what
    return report


@plants("two-flows")
def a_command_under_another_version_of_the_flow(log: Log, of: Sagas) -> Report:
    log.publish(e.CancelOrder(), of["completed"], flow="order/2")
    return log.audit()


@plants("uncaused")
def a_service_event_that_nothing_caused(log: Log, of: Sagas) -> Report:
    log.publish(e.ShippingCancelRefused(asked_by="clock"), of["completed"])
    return log.audit()


# ---- records


@plants("wrong-key")
def a_service_event_under_a_wrong_key(log: Log, of: Sagas) -> Report:
    log.put(log.one(e.NotificationSent), key=b"somebody else")
    return log.audit()


@plants("wrong-partition")
def a_command_in_a_wrong_partition(log: Log, of: Sagas) -> Report:
    saga = of["completed"]
    home = log.one(e.OrderPlaced, saga).partition
    log.write(e.CancelOrder(), Meta("client/x", saga, "order/1", ""), partition=(home + 1) % 6)
    return log.audit()


@plants("wrong-partition")
def a_delivery_in_a_wrong_partition(log: Log, of: Sagas) -> Report:
    home = log.one(e.StockReceived).partition
    event = e.StockReceived(sku="apple", quantity=1)
    log.write(event, Meta("client/x", "delivery-9", "restock/1", ""), partition=(home + 1) % 6)
    return log.audit()


@plants("undecodable-row")
def a_row_that_cannot_be_read(log: Log, of: Sagas) -> Report:
    log.append("order-orders-changelog", 0, of["completed"], b"\0\0\0\0\x1dxx")
    return log.audit()


@plants("undecodable-row")
def an_event_where_a_row_should_be(log: Log, of: Sagas) -> Report:
    log.append("inventory-levels-changelog", 0, "apple", log.at(log.one(e.StockReceived)).value)
    return log.audit()


@plants("undecodable-row")
def a_journal_line_that_cannot_be_read(log: Log, of: Sagas) -> Report:
    log.append("order.journal", 0, None, b"what?")
    return log.audit()


@plants("swallowed")
def bytes_that_a_service_took_in_silence(log: Log, of: Sagas) -> Report:
    garbage = log.append("order.commands", 0, "x", b"garbage")
    log.journal("order", "order.commands", 0, garbage.offset, garbage.offset)
    report = log.audit()
    assert report.findings[0].where == str(garbage)
    return report


@plants("swallowed")
def an_event_of_another_topic_that_a_service_took_in_silence(log: Log, of: Sagas) -> Report:
    stray = log.append("order.commands", 0, "x", log.at(log.one(e.OrderPlaced)).value)
    log.journal("order", "order.commands", 0, stray.offset, stray.offset)
    return log.audit()


# ---- services


@plants("taken-twice")
def a_record_taken_in_two_transactions(log: Log, of: Sagas) -> Report:
    where = log.one(e.OrderPlaced)
    log.journal("inventory", where.topic, where.partition, where.offset, where.offset)
    return log.audit()


@plants("letter-twice")
def a_record_in_the_queue_twice(log: Log, of: Sagas) -> Report:
    where = log.one(e.CancelOrder)
    log.letter("order", where, "decision-failed")
    log.letter("order", where, "decision-failed")
    return log.audit()


@plants("letter-done-twice")
def a_letter_that_was_redriven_twice(log: Log, of: Sagas) -> Report:
    where = log.one(e.CancelOrder)
    log.letter("order", where, "decision-failed")
    log.outcome("order", where, "failed-again", of["cancelled"])
    log.outcome("order", where, "redriven", of["cancelled"])
    log.outcome("order", where, "discarded", of["cancelled"])
    return log.audit()


@plants("letters-out-of-order")
def a_letter_that_overtook_another(log: Log, of: Sagas) -> Report:
    first, second = log.all(e.PlaceOrder)[:2]
    log.outcome("order", second, "redriven", "o-9", number=1, left=1)
    log.outcome("order", first, "redriven", "o-9", number=0, left=0)
    return log.audit()


@plants("parked-without-letter")
def a_parked_saga_whose_record_is_in_no_queue(log: Log, of: Sagas) -> Report:
    log.drop(log.park("order", log.one(e.CancelOrder), of["cancelled"]))
    return log.audit()


# ---- how orders begin and end


@plants("unanswered")
def an_order_that_was_asked_for_and_forgotten(log: Log, of: Sagas) -> Report:
    log.publish(log.event(log.one(e.PlaceOrder)), "o-forgotten")
    report = log.audit()
    assert report.orders.unanswered == 1
    return report


@plants("no-ending")
def an_order_that_never_ends(log: Log, of: Sagas) -> Report:
    log.drop(log.one(e.OrderCompleted, of["completed"]))
    report = log.audit()
    assert report.orders.open_ids == [of["completed"]]
    return report


@plants("two-endings")
def an_order_that_is_completed_and_cancelled(log: Log, of: Sagas) -> Report:
    end = log.event(log.one(e.OrderCancelled, of["declined"]))
    where = log.publish(end, of["completed"], log.one(e.PaymentCaptured, of["completed"]), "order.9")
    report = log.audit()
    assert report.two_endings == 1
    [finding] = [finding for finding in report.findings if finding.check == "two-endings"]
    assert (finding.saga, finding.where) == (of["completed"], str(where))
    return report


@plants("two-endings")
def an_order_that_is_completed_twice(log: Log, of: Sagas) -> Report:
    where = log.one(e.OrderCompleted, of["completed"])
    log.publish(log.event(where), of["completed"], log.one(e.PaymentCaptured, of["completed"]), "order.9")
    return log.audit()


@plants("published-twice")
def a_confirmation_that_is_given_twice(log: Log, of: Sagas) -> Report:
    """Under another id, so that no duplicate gives it away, and with another outcome."""
    saga = of["undeliverable"]
    cause = log.one(e.VoidAnswered, saga)
    log.publish(e.PaymentVoided(outcome="nothing_to_undo"), saga, cause, "payment.9")
    report = log.audit()
    assert report.counts == {"published-twice": 1}
    return report


@plants("published-twice")
def a_line_that_is_held_twice(log: Log, of: Sagas) -> Report:
    saga = of["completed"]
    log.publish(e.InventoryLineHeld(line=1), saga, log.one(e.StockHoldRequested, saga), "inventory.9")
    return log.audit()


@plants("published-twice")
def a_posting_that_is_made_twice(log: Log, of: Sagas) -> Report:
    saga = of["completed"]
    log.publish(log.event(log.one(e.Posted, saga)), saga, log.one(e.CaptureAnswered, saga), "payment.9")
    return log.audit()


@plants("contradiction")
def a_payment_that_is_authorised_and_declined(log: Log, of: Sagas) -> Report:
    saga = of["completed"]
    log.publish(e.PaymentDeclined(reason="no"), saga, log.one(e.AuthoriseAnswered, saga), "payment.9")
    return log.audit()


@plants("contradiction")
def a_line_that_is_held_and_short(log: Log, of: Sagas) -> Report:
    saga = of["completed"]
    log.publish(e.InventoryLineShort(line=1), saga, log.one(e.StockHoldRequested, saga), "inventory.9")
    return log.audit()


@plants("unfounded")
def a_dispatch_that_the_carrier_never_accepted(log: Log, of: Sagas) -> Report:
    log.change(log.one(e.BookAnswered, of["completed"]), outcome="refused")
    return log.audit()


@plants("unfounded")
def a_reservation_of_a_line_that_is_not_held(log: Log, of: Sagas) -> Report:
    log.drop(log.one(e.InventoryLineHeld, of["completed"]))
    return log.audit()


@plants("unfounded")
def a_line_that_is_sold_without_a_request(log: Log, of: Sagas) -> Report:
    log.drop(log.one(e.StockCommitRequested, of["completed"]))
    return log.audit()


@plants("unfounded")
def a_cancellation_for_a_cause_that_never_happened(log: Log, of: Sagas) -> Report:
    log.change(log.one(e.OrderCancelled, of["declined"]), cause="shipping.failed")
    return log.audit()


@plants("unfounded")
def a_release_that_tells_another_outcome(log: Log, of: Sagas) -> Report:
    log.change(log.one(e.InventoryReleased, of["declined"]), outcome="nothing_to_undo")
    return log.audit()


@plants("unfounded")
def a_completion_that_forgets_the_write_off(log: Log, of: Sagas) -> Report:
    log.change(log.one(e.OrderCompleted, of["capture written off"]), written_off=False)
    report = log.audit()
    assert report.counts == {"unfounded": 1}
    return report


@plants("completed-unfinished")
def a_completion_without_the_charge(log: Log, of: Sagas) -> Report:
    log.drop(log.one(e.PaymentCaptured, of["completed"]))
    return log.audit()


@plants("told-wrong")
def a_mail_about_another_ending(log: Log, of: Sagas) -> Report:
    log.change(log.one(e.NotificationSent, of["completed"]), template="cancelled")
    return log.audit()


@plants("confirmation-missing")
def a_customer_who_asked_too_late_and_is_not_told(log: Log, of: Sagas) -> Report:
    log.drop(log.one(e.ShippingCancelRefused, of["too late"]))
    return log.audit()


@plants("confirmation-missing")
def a_hold_that_was_never_answered(log: Log, of: Sagas) -> Report:
    log.drop(log.one(e.InventoryLineShort, of["short"]))
    return log.audit()


@plants("mail-missing")
def a_customer_who_is_not_told(log: Log, of: Sagas) -> Report:
    log.drop(log.one(e.NotificationSent, of["completed"]))
    return log.audit()


# ---- rollback


@plants("not-taken-back", "held-by-ended")
def a_hold_that_is_not_released(log: Log, of: Sagas) -> Report:
    log.drop(log.one(e.InventoryLineReleased, of["declined"]))
    report = log.audit()
    assert report.skus["apple"].held_by_ended == 1
    return report


@plants("not-taken-back")
def an_authorisation_that_is_not_voided(log: Log, of: Sagas) -> Report:
    log.drop(log.one(e.PaymentVoided, of["undeliverable"]))
    return log.audit()


@plants("not-taken-back")
def an_authorisation_of_which_payment_says_that_there_was_none(log: Log, of: Sagas) -> Report:
    log.change(log.one(e.PaymentVoided, of["undeliverable"]), outcome="nothing_to_undo")
    return log.audit()


@plants("not-taken-back")
def a_booking_whose_cancellation_was_never_confirmed(log: Log, of: Sagas) -> Report:
    log.drop(log.one(e.CancelAnswered, of["booking unknown"]))
    return log.audit()


@plants("not-taken-back")
def a_booking_that_the_carrier_accepted(log: Log, of: Sagas) -> Report:
    log.change(log.one(e.BookAnswered, of["undeliverable"]), outcome="accepted")
    return log.audit()


@plants("cancelled-but-dispatched")
def a_cancelled_order_on_its_way(log: Log, of: Sagas) -> Report:
    saga = of["undeliverable"]
    log.publish(e.ShippingDispatched(tracking="x"), saga, log.one(e.BookAnswered, saga), "shipping.9")
    return log.audit()


@plants("cancelled-but-charged")
def a_cancelled_order_that_was_charged(log: Log, of: Sagas) -> Report:
    saga = of["undeliverable"]
    captured = e.PaymentCaptured(amount=250, currency="EUR", reference="x")
    log.publish(captured, saga, log.one(e.VoidAnswered, saga), "payment.9")
    return log.audit()


@plants("steps-differ")
def a_cancellation_that_hides_a_step(log: Log, of: Sagas) -> Report:
    log.change(log.one(e.OrderCancelled, of["undeliverable"]), steps=())
    report = log.audit()
    assert report.counts == {"steps-differ": 1}
    return report


# ---- stock


@plants("line-differs")
def a_hold_of_another_quantity(log: Log, of: Sagas) -> Report:
    log.change(log.one(e.StockHoldRequested, of["completed"]), quantity=7)
    return log.audit()


@plants("line-differs")
def a_sale_of_another_sku(log: Log, of: Sagas) -> Report:
    saga = of["completed"]
    apple = next(w for w in log.all(e.StockCommitRequested, saga=saga) if log.event(w).sku == "apple")
    wrong = e.StockCommitRequested(sku="pear", line=log.event(apple).line)
    log.drop(apple)
    log.publish(wrong, saga, log.one(e.ShippingDispatched, saga), "inventory.9")
    return log.audit()


@plants("line-differs")
def a_line_that_the_order_does_not_have(log: Log, of: Sagas) -> Report:
    saga = of["completed"]
    log.publish(e.InventoryLineShort(line=9), saga, log.one(e.StockHoldRequested, saga), "inventory.9")
    return log.audit()


def _level(log: Log, **changes: int) -> Where:
    """A new row of apples."""
    levels = {"available": 95, "held": 0, "sold": 5} | changes
    return log.row("inventory-levels", log.one(e.StockReceived).partition, "apple", e.StockLevel(**levels))


@plants("stock-drift")
def a_piece_that_the_table_has_lost(log: Log, of: Sagas) -> Report:
    _level(log, available=94)
    report = log.audit()
    assert report.stock_drift == {"apple": {"available": -1, "held": 0, "sold": 0}}
    return report


@plants("stock-drift")
def a_sku_that_the_table_has_forgotten(log: Log, of: Sagas) -> Report:
    log.row("inventory-levels", log.one(e.StockReceived).partition, "apple", None)
    return log.audit()


@plants("stock-drift", "oversold")
def a_sku_that_was_sold_without_ever_being_received(log: Log, of: Sagas) -> Report:
    for where in log.all(e.StockReceived):
        if log.event(where).sku == "pear":
            log.drop(where)
    report = log.audit()
    assert report.to_dict()["oversold"] == ["pear"]
    return report


@plants("below-zero")
def a_row_below_zero(log: Log, of: Sagas) -> Report:
    """Even if it was put right afterwards."""
    where = _level(log, available=-1)
    _level(log)
    report = log.audit()
    assert report.findings[0].where == str(where)
    return report


@plants("delivery-unhandled")
def a_delivery_that_nobody_took(log: Log, of: Sagas) -> Report:
    log.publish(e.StockReceived(sku="apple", quantity=5), "delivery-9", flow="restock/1")
    report = log.audit()
    assert report.stock_drift == {}, "what was not taken is in no table"
    return report


# ---- money


@plants("charged-without-dispatch")
def a_charge_for_what_never_left(log: Log, of: Sagas) -> Report:
    log.drop(log.one(e.ShippingDispatched, of["completed"]))
    return log.audit()


@plants("amount-differs")
def a_charge_of_another_amount(log: Log, of: Sagas) -> Report:
    log.change(log.one(e.PaymentCaptured, of["completed"]), amount=1)
    return log.audit()


@plants("amount-differs")
def an_order_whose_lines_come_to_another_amount(log: Log, of: Sagas) -> Report:
    """Said by every event alike, so that only the lines give it away."""
    saga = of["declined"]
    log.change(log.one(e.OrderPlaced, saga), amount=1)
    log.change(log.one(e.InventoryReserved, saga), amount=1)
    report = log.audit()
    assert report.counts == {"amount-differs": 1}
    return report


def _posted(log: Log, saga: str, memo: str) -> Where:
    return next(where for where in log.all(e.Posted, saga=saga) if log.event(where).memo == memo)


@plants("unbalanced-posting")
def a_posting_that_does_not_balance(log: Log, of: Sagas) -> Report:
    where = _posted(log, of["completed"], "capture")
    log.change(where, entries=log.event(where).entries[:-1])
    return log.audit()


@plants("wrong-posting", "money-drift")
def a_posting_to_another_account(log: Log, of: Sagas) -> Report:
    where = _posted(log, of["completed"], "capture")
    pockets = e.LedgerEntry(account="pockets", amount=1000)
    entries = log.event(where).entries
    log.change(where, entries=tuple(pockets if each.account == "gateway.receivable" else each for each in entries))
    report = log.audit()
    assert report.money_drift == {"EUR gateway.receivable": -1000, "EUR pockets": 1000}
    return report


@plants("posting-differs", "money-drift")
def a_charge_that_was_not_posted(log: Log, of: Sagas) -> Report:
    log.drop(_posted(log, of["completed"], "capture"))
    report = log.audit()
    assert report.money_drift["EUR gateway.receivable"] == -1000
    return report


@plants("posting-differs")
def a_recovery_that_was_not_posted(log: Log, of: Sagas) -> Report:
    log.drop(_posted(log, of["recovered"], "recover"))
    return log.audit()


# ---- the gateway


def _with(log: Log, done: list[dict[str, Any]], **options: Any) -> Report:
    return log.audit(gateway=KnownGateway(*done, **options))


@plants("gateway-violation")
def a_gateway_that_was_asked_for_what_may_never_happen(log: Log, of: Sagas) -> Report:
    wrong = {"operation": "void", "status": 409, "order": of["completed"], "violation": "void after its capture"}
    return _with(log, [*honest(log), wrong])


@plants("gateway-differs")
def a_charge_that_the_topics_do_not_know(log: Log, of: Sagas) -> Report:
    facts = {"order": of["declined"], "amount": 250, "currency": "EUR"}
    wrong = [{"operation": "authorise", **facts}, {"operation": "capture", **facts}]
    return _with(log, [*honest(log), *wrong, {"operation": "void", "order": of["declined"]}])


@plants("gateway-differs")
def a_charge_that_the_gateway_does_not_know(log: Log, of: Sagas) -> Report:
    done = [each for each in honest(log) if (each["order"], each["operation"]) != (of["completed"], "capture")]
    return _with(log, done)


@plants("gateway-differs")
def an_order_that_the_gateway_does_not_know_at_all(log: Log, of: Sagas) -> Report:
    return _with(log, [each for each in honest(log) if each["order"] != of["completed"]])


@plants("gateway-differs")
def a_card_that_was_charged_twice(log: Log, of: Sagas) -> Report:
    done = honest(log)
    return _with(log, [*done, next(each for each in done if each["operation"] == "capture")])


@plants("gateway-differs")
def a_card_that_was_charged_another_amount(log: Log, of: Sagas) -> Report:
    done = honest(log)
    capture = next(each for each in done if each["operation"] == "capture")
    capture["amount"] += 1
    return _with(log, done)


@plants("gateway-left-open")
def an_authorisation_that_still_stands_at_the_gateway(log: Log, of: Sagas) -> Report:
    done = [each for each in honest(log) if (each["order"], each["operation"]) != (of["undeliverable"], "void")]
    return _with(log, done)


@plants("gateway-unknown-order")
def a_charge_for_an_order_that_nobody_accepted(log: Log, of: Sagas) -> Report:
    facts = {"order": "o-nobody", "amount": 1, "currency": "EUR"}
    return _with(log, [*honest(log), {"operation": "authorise", **facts}, {"operation": "capture", **facts}])


# ---- logins


@plants("challenge-ended-twice")
def a_code_that_was_good_twice(_: Log, __: Sagas) -> Report:
    log, _codes = logins()
    verify = log.all(e.VerifyCode, saga=OF["granted"])[0]
    log.publish(e.LoginGranted(user="anna"), OF["granted"], verify, "login.7", "login/1")
    return log.audit()


@plants("challenge-ended-twice")
def a_challenge_that_was_granted_after_it_was_superseded(_: Log, __: Sagas) -> Report:
    log, _codes = logins()
    answer = log.one(e.DeliverAnswered, OF["superseded"])
    log.publish(e.LoginGranted(user="cleo"), OF["superseded"], answer, "login.7", "login/1")
    return log.audit()


@plants("challenge-not-ended")
def a_challenge_that_the_directory_never_answered(_: Log, __: Sagas) -> Report:
    log, _codes = logins()
    saga = named("anna", 5)
    log.publish(e.BeginLogin(user="anna", seed="s", digest="d"), saga, flow="login/1")
    return log.audit()


@plants("challenge-not-ended")
def a_challenge_that_lives_for_a_day(_: Log, __: Sagas) -> Report:
    log, _codes = logins()
    for where in log.all(saga=OF["live"]):
        log.put(where, time=log.at(where).time - 400 * 86_400_000)
    return log.audit(settled=False)


@plants("two-challenges")
def a_challenge_that_does_not_end_the_older_one(_: Log, __: Sagas) -> Report:
    log, _codes = logins()
    log.drop(log.one(e.LoginSuperseded))
    return log.audit()


@plants("too-many-challenges")
def a_sixth_challenge_of_a_user(_: Log, __: Sagas) -> Report:
    log, _codes = logins()
    for number in range(2, 7):
        asked = log.publish(
            e.BeginLogin(user="bea", seed="s", digest="d"), saga := named("bea", number), flow="login/1"
        )
        log.publish(e.LoginChallenged(user="bea"), saga, asked, "login.7", "login/1")
    return log.audit()


@plants("attempts-miscounted")
def a_wrong_code_that_was_not_counted(_: Log, __: Sagas) -> Report:
    log, _codes = logins()
    log.change(log.all(e.LoginWrong, saga=OF["locked"])[1], attempts_left=4)
    return log.audit()


@plants("attempts-miscounted")
def a_lock_that_came_an_attempt_too_late(_: Log, __: Sagas) -> Report:
    log, _codes = logins()
    wrong = log.one(e.LoginWrong, OF["stranger"])
    log.publish(e.LoginLocked(user="nobody"), OF["stranger"], wrong, "login.7", "login/1")
    return log.audit()


@plants("granted-to-nobody")
def a_stranger_who_was_let_in(_: Log, __: Sagas) -> Report:
    log, _codes = logins()
    verify = log.one(e.VerifyCode, OF["stranger"])
    log.publish(e.LoginGranted(user="nobody"), OF["stranger"], verify, "login.7", "login/1")
    return log.audit()


@plants("passcode-written")
def a_code_in_an_event(_: Log, __: Sagas) -> Report:
    log, codes = logins()
    log.change(log.all(e.VerifyCode, saga=OF["granted"])[1], proof=code_of("granted"))
    return log.audit(passcodes=codes)


@plants("passcode-written")
def codes_before_strings_whose_length_reads_as_a_digit(_: Log, __: Sagas) -> Report:
    for length in range(24, 29):
        log, codes = logins()
        log.change(log.all(e.BeginLogin, saga=OF["granted"])[0], seed=code_of("granted"), digest="d" * length)
        report = log.audit(passcodes=codes)
        assert report.counts["passcode-written"] == 1, length
    return report


@plants("passcode-written")
def a_code_in_the_row_of_a_call(_: Log, __: Sagas) -> Report:
    log, codes = logins()
    body = b'{"challenge":"%s","code":"%s"}' % (OF["granted"].encode(), code_of("granted").encode())
    row = e.FarandoleCall(
        saga=OF["granted"], outside="mail", operation="passcode", body=body, answer="x", meta=b"", deadline=0.0
    )
    where = log.row("login-calls", 0, "key", row)
    log.row("login-calls", 0, "key", None)
    report = log.audit(passcodes=codes)
    assert {finding.where for finding in report.findings} == {str(where)}
    return report


@plants("passcode-written")
def a_code_in_a_dead_letter(_: Log, __: Sagas) -> Report:
    log, codes = logins()
    said = f"{OF['granted']}: {code_of('granted')} is wrong".encode()
    log.append("login.dlq", 0, OF["granted"], b"x", [("__dlq.errors.message", said)])
    return log.audit(passcodes=codes)


# ---- all of them


@pytest.mark.parametrize(("check", "plant"), [pytest.param(c, p, id=f"{c}: {p.__name__}") for c, p in PLANTS])
def test_what_is_planted_is_found(check: str, plant: Plant) -> None:
    log, sagas = told()
    report = plant(log, sagas)
    assert check in report.counts, report.counts
    assert not report.ok
    found = [finding for finding in report.findings if finding.check == check]
    assert all(finding.what and finding.place for finding in found), "what, and where or whose"


def test_every_check_has_a_plant() -> None:
    assert {check for check, _ in PLANTS} == set(CHECKS) - set(TRANSFER_CHECKS)


def test_logins_as_they_should_be_are_no_finding() -> None:
    log, codes = logins()
    report = log.audit(passcodes=codes)
    assert report.findings == []
    assert report.figures == {"login": {"granted": 1, "locked": 1, "superseded": 1, "expired": 1, "live": 2}}
    assert codes.count == 5


def test_a_gateway_that_agrees_is_no_finding() -> None:
    log, _ = told()
    report = log.audit(gateway=KnownGateway(*honest(log)))
    assert report.findings == []
    assert report.gateway_operations == len(honest(log))

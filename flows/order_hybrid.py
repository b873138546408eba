"""`order-hybrid/1`: orchestrated up to the payment, choreographed from there on.

The orchestrator has the stock reserved and the payment authorised; then it publishes `orchestrator.confirmed`, and
shipping, payment, inventory and notification hear one another as in `order/1`. If shipping fails or cancels, the
orchestrator hears it, and commands the void and the release.
"""

from __future__ import annotations

from agents import inventory, notification, orchestrator, payment, shipping
from agents import order as orders
from events import (
    AbandonOrder,
    AnswerOverdue,
    AuthoriseAnswered,
    AuthorisePayment,
    BookAnswered,
    CancelAnswered,
    CancelOrder,
    CaptureAnswered,
    InventoryCommitted,
    InventoryExpiryRequested,
    InventoryLineCommitted,
    InventoryLineHeld,
    InventoryLineReleased,
    InventoryLineShort,
    InventoryRejected,
    InventoryReleased,
    InventoryReserved,
    MailAnswered,
    OrchestratorConfirmed,
    OrderCancelled,
    OrderCancelRequested,
    OrderCompleted,
    OrderPlaced,
    OrderRefused,
    PaymentAuthorised,
    PaymentCaptured,
    PaymentDeclined,
    PaymentFailed,
    PaymentVoided,
    PaymentWrittenOff,
    PlaceOrder,
    ReleaseStock,
    ReservationExpired,
    ReserveStock,
    ShippingCancelled,
    ShippingDispatched,
    ShippingFailed,
    StockCommitRequested,
    StockHoldRequested,
    StockReleaseRequested,
    VoidAnswered,
    VoidPayment,
    WriteOff,
)
from farandole import Flow

flow = Flow("order-hybrid", version=1)

# ---- Orchestrated: the stock reserved, the payment authorised.
flow.on(PlaceOrder, orders.place)
flow.on(OrderPlaced, orchestrator.begin)
flow.on(ReserveStock, inventory.request_holds, compensation=inventory.request_releases)
flow.on(InventoryReserved, orchestrator.reserved)
flow.on(AuthorisePayment, payment.authorise, compensation=payment.void)
flow.on(PaymentAuthorised, orchestrator.confirm)

# ---- Choreographed: shipped (the point of no return), charged, sold, completed.
flow.on(OrchestratorConfirmed, shipping.book)
flow.on(ShippingDispatched, payment.capture)
flow.on(ShippingDispatched, inventory.request_commits)
flow.on(PaymentCaptured, orders.captured)
flow.on(InventoryCommitted, orders.committed)
flow.on(OrderCompleted, orchestrator.end_completed)
flow.on(OrderCompleted, notification.tell_completed)
flow.on(OrderCancelled, notification.tell_cancelled)
flow.on(OrderRefused, notification.tell_refused)

# ---- Stopped: by the customer or the clock, if shipping agrees.
flow.on(CancelOrder, orders.cancel)
flow.on(OrderCancelRequested, shipping.stop_for_customer)
flow.on(ReservationExpired, inventory.expire)
flow.on(InventoryExpiryRequested, shipping.stop_for_clock)

# ---- Every cause, and the way back, orchestrated.
flow.on(AnswerOverdue, orchestrator.give_up)
flow.on(InventoryRejected, orchestrator.stopped_by_shortage)
flow.on(PaymentDeclined, orchestrator.stopped_by_decline)
flow.on(PaymentFailed, orchestrator.stopped_by_silence)
flow.on(ShippingFailed, orchestrator.stopped_by_carrier)
flow.on(ShippingCancelled, orchestrator.stopped_on_request)
flow.on(VoidPayment, payment.void)
flow.on(PaymentVoided, orchestrator.voided)
flow.on(ReleaseStock, inventory.request_releases)
flow.on(InventoryReleased, orchestrator.released)
flow.on(AbandonOrder, orders.abandon)
flow.on(OrderCancelled, orchestrator.end_cancelled)

# What the gateway never confirms, an operator may end: a void is the orchestrator's, a capture the order's.
flow.on(WriteOff, payment.write_off)
flow.on(PaymentWrittenOff, orchestrator.void_written_off)
flow.on(PaymentWrittenOff, orders.capture_written_off)

# ---- What each service does by itself.
flow.on(StockHoldRequested, inventory.hold, compensation=inventory.release)
flow.on(InventoryLineHeld, inventory.line_held)
flow.on(InventoryLineShort, inventory.line_short)
flow.on(StockReleaseRequested, inventory.release)
flow.on(InventoryLineReleased, inventory.line_released)
flow.on(StockCommitRequested, inventory.commit)
flow.on(InventoryLineCommitted, inventory.line_committed)
flow.on(AuthoriseAnswered, payment.authorise_answered)
flow.on(CaptureAnswered, payment.capture_answered)
flow.on(VoidAnswered, payment.void_answered)
flow.on(BookAnswered, shipping.book_answered)
flow.on(CancelAnswered, shipping.cancel_answered)
flow.on(MailAnswered, notification.mail_answered)

"""`order-orchestrated/1`: one service knows the way. The orchestrator commands, the others answer and know nobody.

The services' decisions are those of `order/1`, bound to commands: first what each service is asked, then what the
orchestrator makes of the answers.
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
    CancelShipment,
    CaptureAnswered,
    CapturePayment,
    CommitStock,
    CompleteOrder,
    DispatchShipment,
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
    NotificationSent,
    Notify,
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
    ShippingCancelRefused,
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

flow = Flow("order-orchestrated", version=1)

# ---- What each service is asked.
flow.on(PlaceOrder, orders.place)
flow.on(CancelOrder, orders.cancel)
flow.on(CompleteOrder, orders.complete)
flow.on(AbandonOrder, orders.abandon)

flow.on(ReserveStock, inventory.request_holds, compensation=inventory.request_releases)
flow.on(CommitStock, inventory.request_commits)
flow.on(ReleaseStock, inventory.request_releases)

flow.on(AuthorisePayment, payment.authorise, compensation=payment.void)
flow.on(CapturePayment, payment.capture)
flow.on(VoidPayment, payment.void)
flow.on(WriteOff, payment.write_off)

flow.on(DispatchShipment, shipping.book, compensation=shipping.stop)
flow.on(CancelShipment, shipping.stop)

flow.on(Notify, notification.tell)

# ---- What the orchestrator makes of it: the way to a completed order,
flow.on(OrderPlaced, orchestrator.begin)
flow.on(InventoryReserved, orchestrator.reserved)
flow.on(PaymentAuthorised, orchestrator.authorised)
flow.on(ShippingDispatched, orchestrator.dispatched)
flow.on(PaymentCaptured, orchestrator.captured)
flow.on(InventoryCommitted, orchestrator.committed)
flow.on(OrderCompleted, orchestrator.completed)

# every reason to stop,
flow.on(OrderCancelRequested, orchestrator.stop_for_customer)
flow.on(InventoryExpiryRequested, orchestrator.stop_for_clock)
flow.on(AnswerOverdue, orchestrator.overdue)
flow.on(ShippingCancelRefused, orchestrator.cancel_refused)
flow.on(InventoryRejected, orchestrator.stopped_by_shortage)
flow.on(PaymentDeclined, orchestrator.stopped_by_decline)
flow.on(PaymentFailed, orchestrator.stopped_by_silence)
flow.on(ShippingFailed, orchestrator.stopped_by_carrier)
flow.on(ShippingCancelled, orchestrator.stopped_on_request)

# and the way back.
flow.on(PaymentVoided, orchestrator.voided)
flow.on(PaymentWrittenOff, orchestrator.written_off)
flow.on(InventoryReleased, orchestrator.released)
flow.on(OrderCancelled, orchestrator.cancelled)
flow.on(OrderRefused, orchestrator.refused)
flow.on(NotificationSent, orchestrator.told)

# ---- What each service does by itself.
flow.on(StockHoldRequested, inventory.hold, compensation=inventory.release)
flow.on(InventoryLineHeld, inventory.line_held)
flow.on(InventoryLineShort, inventory.line_short)
flow.on(ReservationExpired, inventory.expire)
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

"""`order/1`, the choreographed order: each service hears events and publishes its own, nobody is in charge.

An event, and what a service does about it: first the way to a completed order, then every way back.
"""

from __future__ import annotations

from agents import inventory, notification, payment, shipping
from agents import order as orders
from events import (
    AuthoriseAnswered,
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
    ReservationExpired,
    ShippingCancelled,
    ShippingDispatched,
    ShippingFailed,
    StockCommitRequested,
    StockHoldRequested,
    StockReleaseRequested,
    VoidAnswered,
    WriteOff,
)
from farandole import Flow

order = Flow("order", version=1)

# Placed, and the stock for every line held.
order.on(PlaceOrder, orders.place)
order.on(OrderPlaced, inventory.request_holds, compensation=inventory.request_releases)
order.on(StockHoldRequested, inventory.hold, compensation=inventory.release)
order.on(InventoryLineHeld, inventory.line_held)
order.on(InventoryLineShort, inventory.line_short)

# The card authorised.
order.on(InventoryReserved, payment.authorise, compensation=payment.void)
order.on(AuthoriseAnswered, payment.authorise_answered)

# The carrier booked: the point of no return.
order.on(PaymentAuthorised, shipping.book)
order.on(BookAnswered, shipping.book_answered)

# The card charged, the stock sold.
order.on(ShippingDispatched, payment.capture)
order.on(CaptureAnswered, payment.capture_answered)
order.on(ShippingDispatched, inventory.request_commits)
order.on(StockCommitRequested, inventory.commit)
order.on(InventoryLineCommitted, inventory.line_committed)

# Completed.
order.on(PaymentCaptured, orders.captured)
order.on(InventoryCommitted, orders.committed)

# ---- Stopped: by the customer or the clock, if shipping agrees.
order.on(CancelOrder, orders.cancel)
order.on(OrderCancelRequested, shipping.stop_for_customer)
order.on(ReservationExpired, inventory.expire)
order.on(InventoryExpiryRequested, shipping.stop_for_clock)
order.on(CancelAnswered, shipping.cancel_answered)

# Every cause, and who has to take something back because of it.
order.on(InventoryRejected, orders.stopped_by_shortage)
order.on(PaymentDeclined, orders.stopped_by_decline)
order.on(PaymentDeclined, inventory.request_releases)
order.on(PaymentFailed, orders.stopped_by_silence)
order.on(PaymentFailed, inventory.request_releases)
order.on(ShippingFailed, orders.stopped_by_carrier)
order.on(ShippingFailed, payment.void)
order.on(ShippingFailed, inventory.request_releases)
order.on(ShippingCancelled, orders.stopped_on_request)
order.on(ShippingCancelled, payment.void)
order.on(ShippingCancelled, inventory.request_releases)

# Taken back, and confirmed.
order.on(StockReleaseRequested, inventory.release)
order.on(InventoryLineReleased, inventory.line_released)
order.on(InventoryReleased, orders.released)
order.on(VoidAnswered, payment.void_answered)
order.on(PaymentVoided, orders.voided)

# What the gateway never confirms, an operator may end.
order.on(WriteOff, payment.write_off)
order.on(PaymentWrittenOff, orders.written_off)

# ---- However it ended, the customer is told.
order.on(OrderCompleted, notification.tell_completed)
order.on(OrderCancelled, notification.tell_cancelled)
order.on(OrderRefused, notification.tell_refused)
order.on(MailAnswered, notification.mail_answered)

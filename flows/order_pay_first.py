"""`order-pay-first/1`, choreographed: the card is charged before anything else, and refunded if the order is stopped.

The services' decisions are those of `order/1`, bound to other triggers. Payment alone does something else: it charges
and refunds, where it authorised, captured and voided there.

payment.charged carries the order's lines, address and time limit on: inventory, which goes on from there, needs no
second event beside it. docs/flows.md says why.
"""

from __future__ import annotations

from agents import inventory, notification, payment, shipping
from agents import order as orders
from events import (
    BookAnswered,
    CancelAnswered,
    CancelOrder,
    ChargeAnswered,
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
    PaymentCharged,
    PaymentDeclined,
    PaymentFailed,
    PaymentRefunded,
    PaymentRefundWrittenOff,
    PlaceOrder,
    RefundAnswered,
    ReservationExpired,
    ShippingCancelled,
    ShippingDispatched,
    ShippingFailed,
    StockCommitRequested,
    StockHoldRequested,
    StockReleaseRequested,
    WriteOff,
)
from farandole import Flow

pay_first = Flow("order-pay-first", version=1)

# Placed, and the card charged.
pay_first.on(PlaceOrder, orders.place_charged_first)
pay_first.on(OrderPlaced, payment.charge, compensation=payment.refund)
pay_first.on(ChargeAnswered, payment.charge_answered)

# The stock for every line held.
pay_first.on(PaymentCharged, inventory.request_holds, compensation=inventory.request_releases)
pay_first.on(StockHoldRequested, inventory.hold, compensation=inventory.release)
pay_first.on(InventoryLineHeld, inventory.line_held)
pay_first.on(InventoryLineShort, inventory.line_short)

# The carrier booked: the point of no return.
pay_first.on(InventoryReserved, shipping.book)
pay_first.on(BookAnswered, shipping.book_answered)

# The money earned, the stock sold.
pay_first.on(ShippingDispatched, payment.earn)
pay_first.on(ShippingDispatched, inventory.request_commits)
pay_first.on(StockCommitRequested, inventory.commit)
pay_first.on(InventoryLineCommitted, inventory.line_committed)

# Completed.
pay_first.on(PaymentCharged, orders.charged)
pay_first.on(InventoryCommitted, orders.committed)

# ---- Stopped: by the customer or the clock, if shipping agrees.
pay_first.on(CancelOrder, orders.cancel)
pay_first.on(OrderCancelRequested, shipping.stop_for_customer)
pay_first.on(ReservationExpired, inventory.expire)
pay_first.on(InventoryExpiryRequested, shipping.stop_for_clock)
pay_first.on(CancelAnswered, shipping.cancel_answered)

# Every cause, and who has to take something back because of it. Of a card that was not charged nobody else has heard.
pay_first.on(PaymentDeclined, orders.stopped_by_decline)
pay_first.on(PaymentFailed, orders.stopped_by_silence)
pay_first.on(InventoryRejected, orders.stopped_by_shortage)
pay_first.on(InventoryRejected, payment.refund)
pay_first.on(ShippingFailed, orders.stopped_by_carrier)
pay_first.on(ShippingFailed, payment.refund)
pay_first.on(ShippingFailed, inventory.request_releases)
pay_first.on(ShippingCancelled, orders.stopped_on_request)
pay_first.on(ShippingCancelled, payment.refund)
pay_first.on(ShippingCancelled, inventory.request_releases)

# Taken back, and confirmed.
pay_first.on(StockReleaseRequested, inventory.release)
pay_first.on(InventoryLineReleased, inventory.line_released)
pay_first.on(InventoryReleased, orders.released)
pay_first.on(RefundAnswered, payment.refund_answered)
pay_first.on(PaymentRefunded, orders.refunded)

# What the gateway never confirms, an operator may end.
pay_first.on(WriteOff, payment.write_off_refund)
pay_first.on(PaymentRefundWrittenOff, orders.refund_written_off)

# ---- However it ended, the customer is told.
pay_first.on(OrderCompleted, notification.tell_completed)
pay_first.on(OrderCancelled, notification.tell_cancelled)
pay_first.on(OrderRefused, notification.tell_refused)
pay_first.on(MailAnswered, notification.mail_answered)

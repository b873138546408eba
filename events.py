"""Every event, and every row of a table, as a typed Python class.

Generated from schemas/ by `farandole events generate`. Edit the schemas, not this file.
"""

# fmt: off
# ruff: noqa

from __future__ import annotations

from typing import Literal

from farandole.event import Event, Row

DebitEnd = Literal["cancel", "keep", "refund"]

AccountPhase = Literal["open", "closed"]

MovementPhase = Literal["debited", "settled", "refunded", "credited", "refused"]

UndoOutcome = Literal["undone", "nothing_to_undo"]

HoldPhase = Literal["held", "short", "released", "committed", "barred"]

ReservationPhase = Literal["holding", "reserved", "expiring", "releasing", "released", "committing", "committed"]

LinePhase = Literal["asked", "held", "short", "released", "committed"]

OutsideOutcome = Literal["accepted", "refused", "unknown"]

ChallengePhase = Literal["asking", "live", "granted", "locked", "expired", "superseded", "limited", "unanswered"]

AttemptOutcome = Literal["granted", "wrong", "locked"]

NotificationTemplate = Literal["completed", "cancelled", "refused"]

NotificationOutcome = Literal["delivered", "gave_up"]

MailPhase = Literal["sending", "delivered", "gave_up"]

OrchestrationPhase = Literal[
    "reserving", "authorising", "dispatching", "confirmed", "stopping", "finishing", "voiding", "releasing", "closing", "telling", "ended",
]

ShippingAsker = Literal["customer", "clock"]

Confirmation = Literal["pending", "undone", "nothing_to_undo", "written_off"]

PaymentPhase = Literal["pending", "captured", "written_off"]

OrderPhase = Literal["placed", "refused", "completed", "cancelled"]

PaymentOpenStep = Literal["capture", "void"]

ChargePhase = Literal[
    "authorising", "unwanted", "authorised", "declined", "voiding", "clearing", "voided", "capturing", "captured", "void_written_off", "capture_written_off",
]

PrepaymentPhase = Literal[
    "charging", "unwanted", "charged", "declined", "refunding", "clearing", "refunded", "earned", "refund_written_off",
]

ShipmentPhase = Literal["booking", "cancelling", "dispatched", "failed", "cancelled"]

TransferPhase = Literal[
    "debiting", "cancelling_debit", "crediting", "cancelling_credit", "refunding", "completed", "failed",
]

AwaitedStep = Literal["debit", "credit"]


class BookEntry(Row, frozen=True, gc=False):
    """One side of a posting.

    account: `account:` and a customer's account, `in_flight`, or `cash`; see docs/ledger.md.
    amount: In minor units; debit positive, credit negative.
    """

    account: str
    amount: int


class FarandoleStretch(Row, frozen=True, gc=False):
    """Consecutive records of one topic, in the journal record's own partition.

    topic: Topic, without the namespace of the installation.
    first: Offset of the first record taken.
    last: Offset of the last record taken.
    """

    topic: str
    first: int
    last: int


class OrderLine(Row, frozen=True, gc=False):
    """A line of an order.

    line: Line number, unique within the order, from 1.
    sku: What is ordered. Two lines of one order may name the same sku.
    quantity: Pieces, from 1.
    price: Price of one piece, in minor units of the order's currency.
    """

    line: int
    sku: str
    quantity: int
    price: int


class ReservedLine(Row, frozen=True, gc=False):
    """A line of the reservation.

    line: Line number.
    sku: The sku.
    phase: Where it stands.
    """

    line: int
    sku: str
    phase: LinePhase


class Attempt(Row, frozen=True, gc=False):
    """An attempt at a challenge, and what became of it.

    name: As the command said it.
    outcome: What became of it.
    """

    name: str
    outcome: AttemptOutcome


class OrchestrationStep(Row, frozen=True, gc=False):
    """What the orchestrator asked for, and what came of it.

    command: What it asked for, such as `reserve-stock`.
    because: Full name of the event that made it ask.
    sent: Record time of that event, milliseconds since 1970.
    answer: Full name of the event that answered; empty as long as there is none.
    said: What that event says, in a word or for people.
    answered: Its record time, milliseconds since 1970.
    """

    command: str
    because: str
    sent: int
    answer: str = ''
    said: str = ''
    answered: int = 0


class OrderStep(Row, frozen=True, gc=False):
    """A step that was done, and how it was taken back.

    step: What was done: `hold` (stock was held) or `authorise` (the card was authorised).
    undone_by: Full name of the event that took it back, such as `payment.voided`.
    """

    step: str
    undone_by: str


class LedgerEntry(Row, frozen=True, gc=False):
    """One side of a posting.

    account: Account, see docs/ledger.md.
    amount: In minor units; debit positive, credit negative.
    """

    account: str
    amount: int


class TransferStep(Row, frozen=True, gc=False):
    """One thing that was asked or heard.

    what: Such as `asked for the debit`.
    at: Record time of what brought it about, milliseconds since 1970.
    due: When the answer is due, milliseconds since 1970; 0: it has no deadline.
    """

    what: str
    at: int
    due: int = 0


class CancelCredit(Event, frozen=True, gc=False):
    """Refuse a transfer's credit if it has not been done; if it has, nothing.

    account: The account; the record's key.
    asked: When the transfer was asked for, milliseconds since 1970: another time is another transfer, under a key
        that was forgotten.
    """

    account: str
    asked: int = 0
    saga: str = ""


class CloseAccount(Event, frozen=True, gc=False):
    """Close an account: it takes part in no new debit, credit or deposit. What is refunded to it is taken all the
    same.

    account: The account; the record's key.
    """

    account: str
    saga: str = ""


class CreditAccount(Event, frozen=True, gc=False):
    """Add a transfer's amount to its target. Answered once: accounts.credited or accounts.credit_refused.

    account: The account; the record's key.
    amount: In minor units, from 1.
    currency: ISO 4217, three capital letters.
    asked: When the transfer was asked for, milliseconds since 1970: another time is another transfer, under a key
        that was forgotten.
    """

    account: str
    amount: int
    currency: str
    asked: int = 0
    saga: str = ""


class DebitAccount(Event, frozen=True, gc=False):
    """Take a transfer's amount from its source. Answered once: accounts.debited or accounts.debit_refused.

    account: The account; the record's key.
    amount: In minor units, from 1.
    currency: ISO 4217, three capital letters.
    asked: When the transfer was asked for, milliseconds since 1970: another time is another transfer, under a key
        that was forgotten.
    """

    account: str
    amount: int
    currency: str
    asked: int = 0
    saga: str = ""


class FundAccount(Event, frozen=True, gc=False):
    """Pay money in. The same deposit, by its saga, counts once.

    account: The account; the record's key.
    amount: In minor units, from 1.
    currency: ISO 4217, three capital letters.
    """

    account: str
    amount: int
    currency: str
    saga: str = ""


class OpenAccount(Event, frozen=True, gc=False):
    """Open an account. Opening it again on the same terms changes nothing.

    account: The account; the record's key.
    currency: ISO 4217, three capital letters.
    overdraft: How far the balance may go below zero, in minor units.
    """

    account: str
    currency: str
    overdraft: int = 0
    saga: str = ""


class SettleDebit(Event, frozen=True, gc=False):
    """What becomes of a transfer's debit in the end.

    account: The account; the record's key.
    how: What to do.
    asked: When the transfer was asked for, milliseconds since 1970: another time is another transfer, under a key
        that was forgotten.
    """

    account: str
    how: DebitEnd
    asked: int = 0
    saga: str = ""


class AccountsCreditRefused(Event, frozen=True, gc=False):
    """Nothing has arrived at the target, and nothing will.

    reason: For people.
    """

    reason: str
    saga: str = ""


class AccountsCredited(Event, frozen=True, gc=False):
    """The amount has arrived at the target.

    """

    saga: str = ""


class AccountsDebitRefused(Event, frozen=True, gc=False):
    """Nothing has left the source, and nothing will.

    reason: For people.
    """

    reason: str
    saga: str = ""


class AccountsDebited(Event, frozen=True, gc=False):
    """The amount has left the source: it is in flight.

    """

    saga: str = ""


class Booked(Event, frozen=True, gc=False):
    """A posting of the accounts' double-entry ledger. Its entries add up to zero.

    memo: What happened: fund, debit, credit or refund.
    currency: ISO 4217, three capital letters.
    entries: Two.
    """

    memo: str
    currency: str
    entries: tuple[BookEntry, ...]
    saga: str = ""


class AccountsRefunded(Event, frozen=True, gc=False):
    """The amount is back on the source.

    """

    saga: str = ""


class Account(Row, frozen=True, gc=False):
    """A bank account.

    phase: Where it stands.
    currency: ISO 4217, three capital letters.
    overdraft: How far the balance may go below zero, in minor units.
    balance: What the customer has, in minor units; negative within the overdraft.
    """

    phase: AccountPhase
    currency: str
    overdraft: int
    balance: int


class Deposit(Row, frozen=True, gc=False):
    """Money that was paid in, so that it is added once.

    amount: In minor units.
    currency: ISO 4217, three capital letters.
    """

    amount: int
    currency: str


class Movement(Row, frozen=True, gc=False):
    """What became of a transfer's debit or credit.

    phase: Where it stands.
    amount: In minor units.
    currency: ISO 4217, three capital letters.
    """

    phase: MovementPhase
    amount: int = 0
    currency: str = ''


class LookUpUser(Event, frozen=True, gc=False):
    """Ask the directory for a user. Answered once: directory.looked_up.

    user: Who is asked for; the record's key.
    """

    user: str
    saga: str = ""


class DirectoryLookedUp(Event, frozen=True, gc=False):
    """The directory's answer, the same event for everybody.

    user: Who was asked for; the record's key.
    known: Whether there is such a user.
    address: Where passcodes are sent; empty if there is no such user.
    """

    user: str
    known: bool
    address: str
    saga: str = ""

    __sensitive__ = frozenset({"known", "address"})


class DirectoryUser(Row, frozen=True, gc=False):
    """A user of the directory, by name.

    address: Where passcodes are sent.
    at: When it was registered, milliseconds since 1970 by record time.
    """

    address: str
    at: int = 0

    __sensitive__ = frozenset({"address"})


class UserRegistered(Event, frozen=True, gc=False):
    """There is such a user, or the user has another address.

    user: The user; the record's key.
    address: Where passcodes are sent: a mail address.
    """

    user: str
    address: str
    saga: str = ""

    __sensitive__ = frozenset({"address"})


class FarandoleCall(Row, frozen=True, gc=False):
    """An outside call that waits for its answer.

    saga: The saga that waits.
    outside: The system that is called, as its App names it.
    operation: Last part of the path.
    body: JSON body. May hold secrets.
    answer: Full name of the answering event.
    meta: Metadata of the answering event, Avro-encoded.
    deadline: Seconds of trying after which the outcome is unknown; 0: no deadline.
    """

    saga: str
    outside: str
    operation: str
    body: bytes
    answer: str
    meta: bytes
    deadline: float

    __sensitive__ = frozenset({"body"})


class FarandoleHandled(Row, frozen=True, gc=False):
    """A dead letter that parks no saga, and that an operator has dealt with.

    outcome: `redriven` or `discarded`.
    at: Record time of the operation, milliseconds since 1970.
    """

    outcome: str
    at: int


class FarandoleJournal(Row, frozen=True, gc=False):
    """What one transaction of a service did to one partition, in the order in which it did it: enough to replay it.

    took: Stretches of input, in the order in which they were decided.
    answered: Idempotency keys of the outside calls whose answers this transaction recorded, after the stretches.
    fired: Keys of the timers that this transaction fired, after the answers.
    evicted: Rows that this transaction removed because their saga had ended long before, `table key`, after the
        timers.
    """

    took: tuple[FarandoleStretch, ...]
    answered: tuple[str, ...]
    fired: tuple[str, ...]
    evicted: tuple[str, ...] = ()


class FarandoleOperation(Row, frozen=True, gc=False):
    """What an operator asks of a service: that a dead letter be decided again, or left alone for good. Carries all
    that the decision rests on, so that it can be replayed.

    action: `redrive` or `discard`.
    saga: The saga that is parked, or empty: the letter parks none.
    first: Source of the letter that parked the saga, `topic/partition/offset`; empty without a saga. A saga may be
        parked more than once.
    number: Of the letter, among those of the saga since it was parked; 0 is the first one.
    topic: Source topic of the letter, without the namespace of the installation; its partition is this record's
        own.
    offset: Its offset there.
    time: Its record time there, milliseconds since 1970.
    edited: Whether the bytes are others than those that came.
    who: Who asks.
    why: Why; may be empty for a redrive.
    key: Its key.
    value: Its bytes, edited or not; null for a discard, and for a record without a value.
    """

    action: str
    saga: str
    first: str
    number: int
    topic: str
    offset: int
    time: int
    edited: bool
    who: str
    why: str
    key: bytes | None = None
    value: bytes | None = None

    __sensitive__ = frozenset({"value"})


class FarandoleOutcome(Row, frozen=True, gc=False):
    """What has become of an operation, written by the service in the transaction that carried it out.

    operation: Offset of the operation, in this record's own topic and partition.
    action: As the operation has it.
    saga: As the operation has it.
    number: As the operation has it.
    topic: As the operation has it.
    offset: As the operation has it.
    outcome: `redriven`, `failed-again`, `discarded`, or `ignored`: the letter was not the one that is due, and
        nothing was done.
    reason: Reason class, if it failed again; empty otherwise.
    error: What was wrong, or why it was ignored; shortened.
    left: Letters of the saga that still wait; 0: it is not parked any more.
    edited: As the operation has it.
    who: As the operation has it.
    why: As the operation has it.
    """

    operation: int
    action: str
    saga: str
    number: int
    topic: str
    offset: int
    outcome: str
    reason: str
    error: str
    left: int
    edited: bool
    who: str
    why: str


class FarandoleParked(Row, frozen=True, gc=False):
    """A saga that one service has stopped handling: its messages wait in the dead letter queue, in order.

    count: Messages that have come to the queue since the saga was parked, the first one included.
    reason: Reason class of the one that was decided last and failed.
    error: What was wrong with it, shortened.
    topic: Source topic of the first one, without the namespace.
    offset: Its offset there.
    since: Its record time, milliseconds since 1970.
    done: How many of them an operator has had redriven or discarded: the number of the one that is due.
    tries: How often the one that is due was redriven and failed again.
    updated: Record time of the last operation on the saga, milliseconds since 1970; 0: there was none.
    """

    count: int
    reason: str
    error: str
    topic: str
    offset: int
    since: int
    done: int = 0
    tries: int = 0
    updated: int = 0


class FarandoleTimer(Row, frozen=True, gc=False):
    """A timer that has been set: an event that comes later.

    due: Record time from which it may fire, milliseconds since 1970.
    key: Record key of the event.
    event: The event as it will be published, in wire format.
    """

    due: int
    key: str
    event: bytes


class CommitStock(Event, frozen=True, gc=False):
    """The order has left: what is held for it is sold. Answered by inventory.committed.

    """

    saga: str = ""


class ReleaseStock(Event, frozen=True, gc=False):
    """Release what is held for the order, or see to it that nothing will be. Answered by inventory.released, once.

    """

    saga: str = ""


class ReserveStock(Event, frozen=True, gc=False):
    """Hold every line of an order. Answered by inventory.reserved, or by inventory.rejected and inventory.released.

    lines: What is ordered.
    amount: Total of the order, in minor units.
    currency: Currency of all amounts, ISO 4217, three capital letters.
    ship_to: Postal address, as the carrier gets it.
    card_token: The payment gateway's token for the customer's card.
    reserve_for: Seconds for which the stock stays reserved.
    """

    lines: tuple[OrderLine, ...]
    amount: int
    currency: str
    ship_to: str
    card_token: str
    reserve_for: int
    saga: str = ""

    __sensitive__ = frozenset({"card_token"})


class InventoryCommitted(Event, frozen=True, gc=False):
    """Everything that was held for the order is sold.

    """

    saga: str = ""


class InventoryExpiryRequested(Event, frozen=True, gc=False):
    """The reservation's time is up: stop the order, if it still can be.

    """

    saga: str = ""


class InventoryLineCommitted(Event, frozen=True, gc=False):
    """What was held for a line is sold.

    line: Line number of the order whose id is the saga.
    """

    line: int
    saga: str = ""


class InventoryLineHeld(Event, frozen=True, gc=False):
    """The stock for a line is held.

    line: Line number of the order whose id is the saga.
    """

    line: int
    saga: str = ""


class InventoryLineReleased(Event, frozen=True, gc=False):
    """Nothing is held for a line any more, and nothing will be.

    line: Line number of the order whose id is the saga.
    outcome: Whether stock had been held.
    """

    line: int
    outcome: UndoOutcome
    saga: str = ""


class InventoryLineShort(Event, frozen=True, gc=False):
    """There is not enough stock for a line. Nothing is held for it.

    line: Line number of the order whose id is the saga.
    """

    line: int
    saga: str = ""


class InventoryRejected(Event, frozen=True, gc=False):
    """The order cannot be served from stock, or its reservation ran out before it was complete. inventory.released
    follows.

    reason: Why, for people.
    """

    reason: str
    saga: str = ""


class InventoryReleased(Event, frozen=True, gc=False):
    """Nothing is held for the order any more, and nothing will be. Published once for every order that is rolled
    back.

    outcome: Whether stock had been held.
    """

    outcome: UndoOutcome
    saga: str = ""


class InventoryReserved(Event, frozen=True, gc=False):
    """The stock for every line of the order is held. Carries what payment needs.

    amount: Total of the order, in minor units.
    currency: Currency of all amounts, ISO 4217, three capital letters.
    card_token: The payment gateway's token for the customer's card.
    ship_to: Postal address, as the carrier gets it.
    """

    amount: int
    currency: str
    card_token: str
    ship_to: str
    saga: str = ""

    __sensitive__ = frozenset({"card_token"})


class Delivery(Row, frozen=True, gc=False):
    """A delivery that was added to the stock, so that it is added once.

    quantity: Pieces.
    """

    quantity: int


class Hold(Row, frozen=True, gc=False):
    """What became of one order line at the stock of its sku.

    phase: Where it stands.
    quantity: Pieces requested; 0 if barred.
    """

    phase: HoldPhase
    quantity: int


class Reservation(Row, frozen=True, gc=False):
    """An order's reservation. `released` with nothing else is one that was taken back before it was asked for.

    phase: Where it stands.
    lines: The order's lines; none when it has ended.
    amount: Total of the order, in minor units.
    currency: Currency of all amounts, ISO 4217, three capital letters.
    card_token: The payment gateway's token for the customer's card.
    ship_to: Postal address, as the carrier gets it.
    """

    phase: ReservationPhase
    lines: tuple[ReservedLine, ...] = ()
    amount: int = 0
    currency: str = ''
    card_token: str = ''
    ship_to: str = ''

    __sensitive__ = frozenset({"card_token"})


class StockLevel(Row, frozen=True, gc=False):
    """The stock of one sku. Received = available + held + sold.

    available: Pieces that may be held.
    held: Pieces held by open order lines.
    sold: Pieces sold.
    """

    available: int
    held: int
    sold: int


class ReservationExpired(Event, frozen=True, gc=False):
    """The reservation's time is up.

    """

    saga: str = ""


class DeliverAnswered(Event, frozen=True, gc=False):
    """The passcode was delivered, or not. Of a challenge without a user nothing is, and the outcome is accepted.

    outcome: What came of the call.
    reference: Empty: the other side knows the passcode, and is not quoted.
    reason: Why not; never the other side's own words.
    """

    outcome: OutsideOutcome
    reference: str
    reason: str
    saga: str = ""


class LoginChallenged(Event, frozen=True, gc=False):
    """The challenge is live. Whether there is such a user it does not say.

    user: Who logs in; the record's key.
    """

    user: str
    saga: str = ""


class BeginLogin(Event, frozen=True, gc=False):
    """Somebody wants to log in. The saga is the challenge, whose name lies in the user's partition.

    user: Who logs in; the record's key.
    seed: Fresh randomness of this challenge, half of what its passcode is made of; worthless without the key.
    digest: Keyed digest of the challenge and its passcode.
    """

    user: str
    seed: str
    digest: str
    saga: str = ""

    __sensitive__ = frozenset({"seed", "digest"})


class LoginExpired(Event, frozen=True, gc=False):
    """The challenge's time is up: it has ended.

    user: Who logs in; the record's key.
    """

    user: str
    saga: str = ""


class LoginGranted(Event, frozen=True, gc=False):
    """The right code, in time: the challenge has ended.

    user: Who logs in; the record's key.
    """

    user: str
    saga: str = ""


class LoginLocked(Event, frozen=True, gc=False):
    """The last attempt was wrong, too: the challenge has ended.

    user: Who logs in; the record's key.
    """

    user: str
    saga: str = ""


class LoginRefused(Event, frozen=True, gc=False):
    """Too many challenges for one user.

    user: Who logs in; the record's key.
    retry_after: Seconds after which to ask again.
    """

    user: str
    retry_after: int
    saga: str = ""


class LoginSuperseded(Event, frozen=True, gc=False):
    """The user's live challenge has ended, because another was begun: the one whose saga this is.

    user: Who logs in; the record's key.
    challenge: The challenge that has ended.
    """

    user: str
    challenge: str
    saga: str = ""


class Challenge(Row, frozen=True, gc=False):
    """A challenge, by its name. Of one that has ended no seed and no digest is left.

    phase: Where it stands.
    user: Who logs in.
    known: Whether the directory knows the user. If not, no code is right.
    seed: Fresh randomness of this challenge, half of what its passcode is made of; worthless without the key.
    digest: Keyed digest of the challenge and its passcode.
    expires_at: When its time is up, milliseconds since 1970 by record time; 0: it was never live.
    attempts: Oldest first, 5 at the most.
    retry_after: Seconds after which to ask again, if this one is limited.
    delivery: Outcome of the delivery; empty: under way, or never begun.
    """

    phase: ChallengePhase
    user: str
    known: bool = False
    seed: str = ''
    digest: str = ''
    expires_at: int = 0
    attempts: tuple[Attempt, ...] = ()
    retry_after: int = 0
    delivery: str = ''

    __sensitive__ = frozenset({"known", "seed", "digest", "delivery"})


class LoginUser(Row, frozen=True, gc=False):
    """What is known of somebody who logs in, whether or not there is such a user.

    live: The newest challenge.
    begun: When the challenges of the last day were begun, milliseconds since 1970 by record time, oldest first.
    """

    live: str
    begun: tuple[int, ...]


class ChallengeExpired(Event, frozen=True, gc=False):
    """The challenge's time is up.

    """

    saga: str = ""


class LookupExpired(Event, frozen=True, gc=False):
    """The user directory's time to answer is up.

    """

    saga: str = ""


class LoginUnanswered(Event, frozen=True, gc=False):
    """The user directory did not answer in time: the challenge has ended before it began.

    user: Who logs in; the record's key.
    """

    user: str
    saga: str = ""


class VerifyCode(Event, frozen=True, gc=False):
    """Somebody answers a challenge.

    attempt: This attempt's own name: of two at once, each learns what became of it.
    proof: Keyed digest of the challenge and the code that was entered.
    """

    attempt: str
    proof: str
    saga: str = ""

    __sensitive__ = frozenset({"proof"})


class LoginWrong(Event, frozen=True, gc=False):
    """A wrong code.

    user: Who logs in; the record's key.
    attempts_left: Attempts that are left, from 1.
    """

    user: str
    attempts_left: int
    saga: str = ""


class MailAnswered(Event, frozen=True, gc=False):
    """The mail server answered.

    outcome: What came of the call.
    reference: The other side's name for what it did; empty unless accepted.
    reason: Why not; empty if accepted.
    """

    outcome: OutsideOutcome
    reference: str
    reason: str
    saga: str = ""


class Notify(Event, frozen=True, gc=False):
    """Tell the customer how the order ended. Answered by notification.sent.

    email: Where the customer gets mail; empty if the order names no usable address.
    template: Which mail.
    """

    email: str
    template: NotificationTemplate
    saga: str = ""


class NotificationSent(Event, frozen=True, gc=False):
    """A mail to the customer was accepted by the mail server, or given up.

    template: Which mail.
    outcome: What became of it.
    reason: Why it was given up; empty if delivered.
    """

    template: NotificationTemplate
    outcome: NotificationOutcome
    reason: str
    saga: str = ""


class Mail(Row, frozen=True, gc=False):
    """The mail about an order's end.

    template: Which mail.
    phase: Where it stands.
    """

    template: NotificationTemplate
    phase: MailPhase


class OrchestratorConfirmed(Event, frozen=True, gc=False):
    """The stock is reserved and the payment authorised: the order may be shipped.

    ship_to: Postal address, as the carrier gets it.
    """

    ship_to: str
    saga: str = ""


class Orchestration(Row, frozen=True, gc=False):
    """How far an order has come, and what was asked and answered on the way.

    phase: What it waits for.
    answer_within: Seconds that an answer may take before the point of no return.
    stops: Who asked to stop it, in the order in which they were heard.
    cause: Full name of the first event that stopped it.
    reason: What that event said, or why shipping is asked to stop.
    released: inventory.released.
    voided: payment.voided, or payment.written_off in its place.
    paid: payment.captured, or payment.written_off in its place.
    committed: inventory.committed was heard.
    steps: What was asked and answered, in the order in which it was asked.
    """

    phase: OrchestrationPhase
    answer_within: int = 0
    stops: tuple[ShippingAsker, ...] = ()
    cause: str = ''
    reason: str = ''
    released: Confirmation = 'pending'
    voided: Confirmation = 'pending'
    paid: PaymentPhase = 'pending'
    committed: bool = False
    steps: tuple[OrchestrationStep, ...] = ()


class AnswerOverdue(Event, frozen=True, gc=False):
    """A command was not answered in time, which does not mean that it was not done.

    step: The command that waits for its answer, such as `reserve-stock`.
    """

    step: str
    saga: str = ""


class OrderCancelRequested(Event, frozen=True, gc=False):
    """The customer wants an accepted order stopped, for the first time.

    """

    saga: str = ""


class OrderCancelled(Event, frozen=True, gc=False):
    """The order was stopped, and everything that had been done for it is taken back.

    customer: The customer's id.
    email: Where the customer gets mail.
    cause: Full name of the first event that stopped it, such as `inventory.rejected`.
    reason: What that event said, for people.
    steps: Every step that was done, and what took it back.
    """

    customer: str
    email: str
    cause: str
    reason: str
    steps: tuple[OrderStep, ...]
    saga: str = ""


class AbandonOrder(Event, frozen=True, gc=False):
    """Everything that was done is taken back: the order is cancelled. From an orchestrator.

    cause: Full name of the first event that stopped it, such as `inventory.rejected`.
    reason: What that event said, for people.
    released: How the release of the stock ended.
    voided: How the void of the authorisation ended; pending if there was none to ask for.
    """

    cause: str
    reason: str
    released: Confirmation
    voided: Confirmation
    saga: str = ""


class CompleteOrder(Event, frozen=True, gc=False):
    """Everything is done: the order is completed. From an orchestrator.

    written_off: An operator has given up the capture.
    """

    written_off: bool
    saga: str = ""


class CancelOrder(Event, frozen=True, gc=False):
    """The customer wants the order stopped. Shipping decides whether it still can be.

    """

    saga: str = ""


class PlaceOrder(Event, frozen=True, gc=False):
    """Place an order. The saga is derived from customer and idempotency key, so the same request again is the same
    order.

    customer: The customer's id.
    idempotency_key: The customer's own name for this order; another body under the same key is a conflict.
    lines: What is ordered, 1 to 100 lines.
    currency: Currency of all amounts, ISO 4217, three capital letters.
    email: Where the customer gets mail.
    ship_to: Postal address, as the carrier gets it.
    card_token: The payment gateway's token for the customer's card.
    reserve_for: Seconds for which the stock stays reserved while the order is under way, 1 to 86400.
    asked_at: When the customer asked, milliseconds since 1970, by the client's clock. Informs only.
    """

    customer: str
    idempotency_key: str
    lines: tuple[OrderLine, ...]
    currency: str
    email: str
    ship_to: str
    card_token: str
    reserve_for: int = 900
    asked_at: int | None = None
    saga: str = ""

    __sensitive__ = frozenset({"card_token"})


class OrderCompleted(Event, frozen=True, gc=False):
    """The order was delivered to the carrier, paid (or written off) and taken from stock.

    customer: The customer's id.
    email: Where the customer gets mail.
    amount: Total of the order, in minor units.
    currency: Currency of all amounts, ISO 4217, three capital letters.
    written_off: The payment was given up by an operator: the card was not charged.
    """

    customer: str
    email: str
    amount: int
    currency: str
    written_off: bool
    saga: str = ""


class OrderPlaced(Event, frozen=True, gc=False):
    """An order was accepted. It will end as completed or cancelled.

    customer: The customer's id.
    lines: What is ordered.
    amount: Total of the order, in minor units.
    currency: Currency of all amounts, ISO 4217, three capital letters.
    ship_to: Postal address, as the carrier gets it.
    card_token: The payment gateway's token for the customer's card.
    reserve_for: Seconds for which the stock stays reserved.
    """

    customer: str
    lines: tuple[OrderLine, ...]
    amount: int
    currency: str
    ship_to: str
    card_token: str
    reserve_for: int
    saga: str = ""

    __sensitive__ = frozenset({"card_token"})


class OrderRefused(Event, frozen=True, gc=False):
    """A request was no valid order. Nothing has happened and nothing will.

    customer: The customer's id.
    email: Where the customer gets mail; empty if the request named no usable address.
    reason: Everything that is wrong with the request, for people.
    """

    customer: str
    email: str
    reason: str
    saga: str = ""


class Order(Row, frozen=True, gc=False):
    """An order as its own service knows it.

    phase: Where the order stands.
    fingerprint: Digest of the request: the same request again is recognised by it, another one under the same key
        too.
    customer: The customer's id.
    email: Where the customer gets mail.
    amount: Total of the order, in minor units.
    currency: Currency of all amounts, ISO 4217, three capital letters.
    cancel_requested: The customer has asked to stop it.
    causes: Full names of the events that stop it, in the order in which they were heard; the first counts.
    reason: What the first cause said, or why the request was refused.
    released: inventory.released.
    voided: payment.voided, or payment.written_off in its place.
    paid: payment.captured, or payment.written_off in its place.
    committed: inventory.committed was heard.
    flow: Key of the flow in which it was placed; empty for orders from before there was more than `order/1`.
    charged_first: The card is charged before anything else; what stops it owes a refund.
    refunded: payment.refunded, or payment.refund_written_off in its place.
    """

    phase: OrderPhase
    fingerprint: str
    customer: str
    email: str
    amount: int
    currency: str
    cancel_requested: bool = False
    causes: tuple[str, ...] = ()
    reason: str = ''
    released: Confirmation = 'pending'
    voided: Confirmation = 'pending'
    paid: PaymentPhase = 'pending'
    committed: bool = False
    flow: str = ''
    charged_first: bool = False
    refunded: Confirmation = 'pending'


class PaymentAuthorised(Event, frozen=True, gc=False):
    """The card is authorised for the order's amount. Carries what shipping needs.

    ship_to: Postal address, as the carrier gets it.
    reference: The gateway's name for it.
    """

    ship_to: str
    reference: str
    saga: str = ""


class AuthoriseAnswered(Event, frozen=True, gc=False):
    """The gateway answered an authorisation.

    outcome: What came of the call.
    reference: The other side's name for what it did; empty unless accepted.
    reason: Why not; empty if accepted.
    """

    outcome: OutsideOutcome
    reference: str
    reason: str
    saga: str = ""


class CaptureAnswered(Event, frozen=True, gc=False):
    """The gateway answered a capture.

    outcome: What came of the call.
    reference: The other side's name for what it did; empty unless accepted.
    reason: Why not; empty if accepted.
    """

    outcome: OutsideOutcome
    reference: str
    reason: str
    saga: str = ""


class ChargeAnswered(Event, frozen=True, gc=False):
    """The gateway answered a charge.

    outcome: What came of the call.
    reference: The other side's name for what it did; empty unless accepted.
    reason: Why not; empty if accepted.
    """

    outcome: OutsideOutcome
    reference: str
    reason: str
    saga: str = ""


class RefundAnswered(Event, frozen=True, gc=False):
    """The gateway answered a refund.

    outcome: What came of the call.
    reference: The other side's name for what it did; empty unless accepted.
    reason: Why not; empty if accepted.
    """

    outcome: OutsideOutcome
    reference: str
    reason: str
    saga: str = ""


class VoidAnswered(Event, frozen=True, gc=False):
    """The gateway answered a void.

    outcome: What came of the call.
    reference: The other side's name for what it did; empty unless accepted.
    reason: Why not; empty if accepted.
    """

    outcome: OutsideOutcome
    reference: str
    reason: str
    saga: str = ""


class PaymentCaptured(Event, frozen=True, gc=False):
    """The card was charged.

    amount: Total of the order, in minor units.
    currency: Currency of all amounts, ISO 4217, three capital letters.
    reference: The gateway's name for it.
    """

    amount: int
    currency: str
    reference: str
    saga: str = ""


class PaymentCharged(Event, frozen=True, gc=False):
    """The card was charged before anything else was done for the order. It says all that who goes on from here
    needs.

    amount: Total of the order, in minor units.
    currency: Currency of all amounts, ISO 4217, three capital letters.
    reference: The gateway's name for it.
    lines: What is ordered.
    ship_to: Postal address, as the carrier gets it.
    reserve_for: Seconds for which the stock stays reserved.
    """

    amount: int
    currency: str
    reference: str
    lines: tuple[OrderLine, ...]
    ship_to: str
    reserve_for: int
    saga: str = ""


class AuthorisePayment(Event, frozen=True, gc=False):
    """Authorise the order's amount. Answered by payment.authorised, payment.declined or payment.failed.

    amount: Total of the order, in minor units.
    currency: Currency of all amounts, ISO 4217, three capital letters.
    card_token: The payment gateway's token for the customer's card.
    ship_to: Postal address, as the carrier gets it.
    """

    amount: int
    currency: str
    card_token: str
    ship_to: str
    saga: str = ""

    __sensitive__ = frozenset({"card_token"})


class CapturePayment(Event, frozen=True, gc=False):
    """The order has left: charge the card. Answered by payment.captured, or payment.written_off in its place.

    """

    saga: str = ""


class VoidPayment(Event, frozen=True, gc=False):
    """Void what is authorised for the order, or see to it that nothing will be. Answered by payment.voided, once,
    or payment.written_off in its place.

    """

    saga: str = ""


class WriteOff(Event, frozen=True, gc=False):
    """An operator gives up a capture or a void that the gateway does not confirm.

    reason: Why, for the ledger and for people.
    """

    reason: str
    saga: str = ""


class PaymentDeclined(Event, frozen=True, gc=False):
    """The gateway refused to authorise the card.

    reason: What the gateway said, for people.
    """

    reason: str
    saga: str = ""


class PaymentFailed(Event, frozen=True, gc=False):
    """The gateway did not answer in time, so nobody knows whether the card is authorised. It is being voided;
    payment.voided follows.

    outcome: Always unknown.
    reason: What the gateway said, for people.
    """

    outcome: OutsideOutcome
    reason: str
    saga: str = ""


class Posted(Event, frozen=True, gc=False):
    """A posting of the double-entry ledger. Its entries add up to zero.

    memo: What happened: authorise, void, capture, write_off_capture, write_off_void or recover.
    currency: Currency of all amounts, ISO 4217, three capital letters.
    entries: At least two.
    """

    memo: str
    currency: str
    entries: tuple[LedgerEntry, ...]
    saga: str = ""


class PaymentRefundStuck(Event, frozen=True, gc=False):
    """The gateway refused a refund, which it never should. The order waits for an operator's write-off.

    reason: What the gateway said, for people.
    """

    reason: str
    saga: str = ""


class PaymentRefundWrittenOff(Event, frozen=True, gc=False):
    """An operator gave up a refund, which is owed to the customer in another way. Stands for its confirmation.

    amount: Total of the order, in minor units.
    currency: Currency of all amounts, ISO 4217, three capital letters.
    reason: The operator's reason.
    """

    amount: int
    currency: str
    reason: str
    saga: str = ""


class PaymentRefunded(Event, frozen=True, gc=False):
    """The customer has the money back, and nothing will be charged any more.

    outcome: Whether something had been charged; undone if nobody knows.
    """

    outcome: UndoOutcome
    saga: str = ""


class PaymentStuck(Event, frozen=True, gc=False):
    """The gateway refused a capture or a void, which it never should. The order waits for an operator's write-off.

    what: What was refused.
    reason: What the gateway said, for people.
    """

    what: PaymentOpenStep
    reason: str
    saga: str = ""


class Charge(Row, frozen=True, gc=False):
    """An order's payment. `voided` with nothing else is one that was taken back before it was asked for.

    phase: Where it stands.
    amount: Total of the order, in minor units.
    currency: Currency of all amounts, ISO 4217, three capital letters.
    ship_to: Postal address, as the carrier gets it.
    stuck: The gateway refused what it cannot refuse, and payment.stuck said so.
    flow: Key of the flow in which it was authorised; empty for those from before there was more than one.
    """

    phase: ChargePhase
    amount: int = 0
    currency: str = ''
    ship_to: str = ''
    stuck: bool = False
    flow: str = ''


class Prepayment(Row, frozen=True, gc=False):
    """The payment of an order that is charged first. `refunded` with nothing else is one that was taken back before
    it was asked for.

    phase: Where it stands.
    amount: Total of the order, in minor units.
    currency: Currency of all amounts, ISO 4217, three capital letters.
    lines: The order's lines, until the card is charged.
    ship_to: Postal address, until the card is charged.
    reserve_for: Seconds for which the stock stays reserved, until the card is charged.
    stuck: The gateway refused a refund, which it cannot refuse, and payment.refund_stuck said so.
    flow: Key of the flow in which it was charged.
    """

    phase: PrepaymentPhase
    amount: int = 0
    currency: str = ''
    lines: tuple[OrderLine, ...] = ()
    ship_to: str = ''
    reserve_for: int = 0
    stuck: bool = False
    flow: str = ''


class PaymentVoided(Event, frozen=True, gc=False):
    """Nothing is authorised for the order any more, and nothing will be.

    outcome: Whether something had been authorised; undone if nobody knows.
    """

    outcome: UndoOutcome
    saga: str = ""


class PaymentWrittenOff(Event, frozen=True, gc=False):
    """An operator gave up a capture or a void. Stands for its confirmation.

    what: What was given up.
    amount: Total of the order, in minor units.
    currency: Currency of all amounts, ISO 4217, three capital letters.
    reason: The operator's reason.
    """

    what: PaymentOpenStep
    amount: int
    currency: str
    reason: str
    saga: str = ""


class BookAnswered(Event, frozen=True, gc=False):
    """The carrier answered a booking.

    outcome: What came of the call.
    reference: The other side's name for what it did; empty unless accepted.
    reason: Why not; empty if accepted.
    """

    outcome: OutsideOutcome
    reference: str
    reason: str
    saga: str = ""


class CancelAnswered(Event, frozen=True, gc=False):
    """The carrier answered the cancellation of a booking.

    outcome: What came of the call.
    reference: The other side's name for what it did; empty unless accepted.
    reason: Why not; empty if accepted.
    """

    outcome: OutsideOutcome
    reference: str
    reason: str
    saga: str = ""


class ShippingCancelRefused(Event, frozen=True, gc=False):
    """Somebody asked too late: the order is with the carrier. Published once per asker.

    asked_by: Who asked.
    """

    asked_by: ShippingAsker
    saga: str = ""


class ShippingCancelled(Event, frozen=True, gc=False):
    """The order will not be shipped, because somebody asked in time.

    asked_by: Who asked first.
    """

    asked_by: ShippingAsker
    saga: str = ""


class CancelShipment(Event, frozen=True, gc=False):
    """Stop the order if it still can be, which shipping alone decides. Answered by shipping.cancelled,
    shipping.failed or shipping.cancel_refused.

    asked_by: Who wants it stopped.
    """

    asked_by: ShippingAsker
    saga: str = ""


class DispatchShipment(Event, frozen=True, gc=False):
    """Book the carrier. Answered by shipping.dispatched, shipping.failed or shipping.cancelled.

    ship_to: Postal address, as the carrier gets it.
    """

    ship_to: str
    saga: str = ""


class ShippingDispatched(Event, frozen=True, gc=False):
    """The carrier has the order: the point of no return.

    tracking: The carrier's name for the shipment.
    """

    tracking: str
    saga: str = ""


class ShippingFailed(Event, frozen=True, gc=False):
    """The carrier does not take the order.

    reason: Why, for people.
    """

    reason: str
    saga: str = ""


class Shipment(Row, frozen=True, gc=False):
    """An order's shipment.

    phase: Where it stands.
    stops: Who asked to stop it, in the order in which they were heard.
    """

    phase: ShipmentPhase
    stops: tuple[ShippingAsker, ...] = ()


class StockCommitRequested(Event, frozen=True, gc=False):
    """What is held for an order's line is sold. Answered once: inventory.line_committed.

    sku: The sku; the record's key.
    line: Line number of the order whose id is the saga.
    """

    sku: str
    line: int
    saga: str = ""


class StockHoldRequested(Event, frozen=True, gc=False):
    """Hold stock for an order's line. Answered once: inventory.line_held or inventory.line_short.

    sku: The sku; the record's key.
    line: Line number of the order whose id is the saga.
    quantity: Pieces, from 1.
    """

    sku: str
    line: int
    quantity: int
    saga: str = ""


class StockReceived(Event, frozen=True, gc=False):
    """A delivery arrived. The saga is the delivery's id; the same delivery and sku again changes nothing.

    sku: The sku; the record's key.
    quantity: Pieces, from 1.
    """

    sku: str
    quantity: int
    saga: str = ""


class StockReleaseRequested(Event, frozen=True, gc=False):
    """Give back what is held for an order's line, if it is. Answered once: inventory.line_released.

    sku: The sku; the record's key.
    line: Line number of the order whose id is the saga.
    """

    sku: str
    line: int
    saga: str = ""


class StartTransfer(Event, frozen=True, gc=False):
    """Move money between two accounts. The saga is derived from customer and idempotency key, so the same request
    again is the same transfer.

    customer: The customer's id.
    idempotency_key: The customer's own name for this transfer; another body under the same key is a conflict.
    source: The account that pays.
    target: The account that is paid.
    amount: In minor units, from 1.
    currency: ISO 4217, three capital letters.
    within: Seconds that each account has to answer before it is asked to call its part off, 1 to 86400.
    """

    customer: str
    idempotency_key: str
    source: str
    target: str
    amount: int
    currency: str
    within: int = 30
    saga: str = ""


class TransfersCompleted(Event, frozen=True, gc=False):
    """The amount has arrived at the target.

    source: The account that paid.
    target: The account that was paid.
    amount: In minor units, from 1.
    currency: ISO 4217, three capital letters.
    """

    source: str
    target: str
    amount: int
    currency: str
    saga: str = ""


class TransfersFailed(Event, frozen=True, gc=False):
    """Nothing has moved, or what had moved is back.

    reason: For people.
    refunded: Whether the source had been debited, and was refunded.
    """

    reason: str
    refunded: bool
    saga: str = ""


class Transfer(Row, frozen=True, gc=False):
    """A transfer: where it stands, and every step that led there.

    phase: Where it stands.
    fingerprint: Digest of the request, to tell the same one from another under its key.
    source: The account that pays.
    target: The account that is paid.
    amount: In minor units.
    currency: ISO 4217, three capital letters.
    within: Seconds that each account has to answer.
    reason: Why it failed, or is failing; empty if it does not.
    steps: In order.
    """

    phase: TransferPhase
    fingerprint: str
    source: str
    target: str
    amount: int
    currency: str
    within: int
    reason: str = ''
    steps: tuple[TransferStep, ...] = ()


class AnswerDue(Event, frozen=True, gc=False):
    """An account's time to answer is over.

    step: What it was asked for.
    """

    step: AwaitedStep
    saga: str = ""

"""The notification service: tells the customer how an order ended.

Invariant: one mail per order's end, and one notification.sent that says what became of it. Nothing waits for a mail,
and a mail that fails rolls nothing back.
"""

from __future__ import annotations

from typing import Any, Final

from msgspec.structs import replace

from events import (
    Mail,
    MailAnswered,
    NotificationSent,
    NotificationTemplate,
    Notify,
    OrderCancelled,
    OrderCompleted,
    OrderRefused,
)
from farandole import App, Call

app = App("notification")
mails = app.Table(
    "mails",
    value=Mail,
    ended=lambda mail: mail.phase != "sending",
    help="The mail about each order's end, by the order's id.",
)
mailer = app.outside("mail", "MAIL_URL")

SEND_WITHIN: Final = 86_400.0
"""Seconds. After a day the news is none."""


def tell_completed(end: OrderCompleted) -> Call[MailAnswered] | NotificationSent | None:
    return _mail(end.saga, end.email, "completed")


def tell_cancelled(end: OrderCancelled) -> Call[MailAnswered] | NotificationSent | None:
    return _mail(end.saga, end.email, "cancelled")


def tell_refused(end: OrderRefused) -> Call[MailAnswered] | NotificationSent | None:
    return _mail(end.saga, end.email, "refused")


def tell(command: Notify) -> Call[MailAnswered] | NotificationSent | None:
    return _mail(command.saga, command.email, command.template)


def _mail(saga: str, to: str, template: NotificationTemplate) -> Call[MailAnswered] | NotificationSent | None:
    known = mails.get(saga)
    if known is not None:
        assert known.template == template, f"the order has ended twice, {known.template} and {template}"
        return None
    if not to:
        mails[saga] = Mail(template=template, phase="gave_up")
        return NotificationSent(template=template, outcome="gave_up", reason="the order names no usable address")
    mails[saga] = Mail(template=template, phase="sending")
    return Call(
        outside=mailer,
        operation="send",
        key=f"{saga}/{template}",
        body={"to": to, "template": template, "order": saga},
        answer=MailAnswered,
        deadline=SEND_WITHIN,
    )


def mail_answered(answer: MailAnswered) -> NotificationSent | None:
    mail = mails[answer.saga]
    if mail.phase != "sending":
        return None
    if answer.outcome == "accepted":
        mails[answer.saga] = replace(mail, phase="delivered")
        return NotificationSent(template=mail.template, outcome="delivered", reason="")
    mails[answer.saga] = replace(mail, phase="gave_up")
    return NotificationSent(template=mail.template, outcome="gave_up", reason=answer.reason)


@app.agent(app.inbox)
async def notification(batches: Any) -> None:
    """Tells customers how their orders ended."""
    async for batch in batches:
        batch.decide()

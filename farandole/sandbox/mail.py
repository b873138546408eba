"""The mail sink: takes mails, delivers none, shows what it took.

Invariant: one idempotency key is one mail. Passcodes are shown, too: who may ask for /state is whom they were sent to.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec

from farandole.sandbox.journal import Operation
from farandole.sandbox.system import System, Text, accepted, refused


class Send(msgspec.Struct, frozen=True):
    """template: name of a text; subject: what to show when there is no template. Other fields are not looked at."""

    to: Text
    order: Text = ""
    template: Text = ""
    subject: Text = ""


class Passcode(msgspec.Struct, frozen=True):
    """challenge: which one it answers"""

    to: Text
    challenge: Text
    code: Text


class Mail(System):
    name = "mail"
    bodies: ClassVar = {"send": Send, "passcode": Passcode}

    def send(self, key: str, asked: Send) -> Operation:
        facts = {"order": asked.order, "to": asked.to, "template": asked.template or asked.subject}
        if "@" not in asked.to:
            return refused(422, "not a mail address", **facts)
        return accepted(**facts)

    def passcode(self, key: str, asked: Passcode) -> Operation:
        facts = {"order": asked.challenge, "to": asked.to, "template": "passcode"}
        if "@" not in asked.to:
            return refused(422, "not a mail address", **facts)
        return accepted(code=asked.code, **facts)

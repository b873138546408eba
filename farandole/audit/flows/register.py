"""`register`: a user is added to the directory. What became of it is in the directory's table alone."""

from __future__ import annotations

from typing import ClassVar

from events import UserRegistered
from farandole.audit.flows import FlowAudit


class Audit(FlowAudit):
    flow: ClassVar = "register"
    clients: ClassVar = frozenset({UserRegistered})

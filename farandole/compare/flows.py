"""The flows that are compared, and the words for them."""

from __future__ import annotations

from typing import Final

from farandole.flow import load_flows

FLOWS: Final = {"choreographed": "order/1", "orchestrated": "order-orchestrated/1", "hybrid": "order-hybrid/1"}
"""Word → key. Each new version of a flow is compared on purpose, so the keys stand here."""

WORDS: Final = tuple(FLOWS)
BASE: Final = WORDS[0]
"""What ratios are to."""


def services() -> tuple[str, ...]:
    """Those that take part in a flow that is compared: others run beside them, and do nothing."""
    flows = load_flows()
    return tuple(sorted({service for key in FLOWS.values() for service in flows[key].services}))

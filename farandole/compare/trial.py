"""Some orders of one flow on a system of this project, some of them fraudulent: what a patched copy is run with.

    python -m farandole.compare.trial order/1 20

Takes Kafka and the namespace from the environment; prints one JSON object.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from farandole import audit, config
from farandole.cli.progress import terminated
from farandole.compare.ends import WATCHED, Ends
from farandole.compare.flows import FLOWS
from farandole.compare.placing import Placing
from farandole.demo.flows import order_services
from farandole.demo.plan import Kinds
from farandole.demo.stage import load_codec
from farandole.load.endings import Endings
from farandole.load.over_kafka import deliver
from farandole.system import System, silent

FRAUD = "fraud.suspected"


def run(flow: str, count: int) -> dict[str, Any]:
    """Place, wait, audit. Half of the orders name an address that is nowhere."""
    word = next(word for word, key in FLOWS.items() if key == flow)
    namespace = config.namespace()
    with (
        tempfile.TemporaryDirectory(prefix="farandole-fraud-") as home,
        System(Path(home), namespace=namespace, services=order_services()) as system,
    ):
        codec = load_codec(system.root, namespace)
        placing = Placing(system.client_config, namespace, codec, "fraud", 0)
        deliver(placing.stock(), system.client_config, namespace, codec, "fraud")
        ends = Ends()
        endings = Endings(ends, system.client_config, namespace, system.topics, codec, WATCHED)
        endings.start()
        try:
            orders = placing.orders("fraud", count, {Kinds.NOWHERE: 0.5})[word]
            placing.backlog(orders)()
            ends.wait([each.saga for each in orders], system.check, lambda done, total: None)
        finally:
            endings.stop()
        url = system.sandbox.admin_urls["gateway"]
        report = audit.run(system.client_config, namespace, system.root, settled=True, gateway=url, progress=silent)
    found = report.to_dict()
    fraudulent = sum(each.kind is Kinds.NOWHERE for each in orders)
    refused = found["cancelled_by"].get(FRAUD, 0)
    ok = report.ok and refused == fraudulent > 0 and found["completed"] == count - fraudulent > 0
    return {
        "ok": ok,
        "orders": count,
        "fraudulent": fraudulent,
        "refused": refused,
        "completed": found["completed"],
        "audit_ok": report.ok,
        "findings": [str(each) for each in report.findings[:3]],
    }


def _end_with_parent() -> None:
    """Whoever started it holds its standard input open: when that closes, it ends as by SIGTERM."""

    def watch() -> None:
        sys.stdin.read()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def main() -> None:
    signal.signal(signal.SIGTERM, terminated)
    _end_with_parent()
    print(json.dumps(run(sys.argv[1], int(sys.argv[2]))), flush=True)


if __name__ == "__main__":
    main()

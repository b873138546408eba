"""An outcome with figures that one can check by eye."""

from __future__ import annotations

from typing import Any

from farandole.compare import figures
from farandole.compare.asking import QUESTIONS
from farandole.compare.audience import MODES
from farandole.compare.flows import WORDS
from farandole.compare.options import Options
from farandole.compare.outages import NOBODY
from farandole.compare.outcome import Outcome
from farandole.compare.rollback import CAUSES


def middle(value: float) -> dict[str, Any]:
    return {"median": value, "least": value, "most": value, "rounds": [value] * 5}


def of_rounds(*values: float) -> dict[str, Any]:
    return figures.middle(values)


def knows(hears: list[str], commands: list[str], *services: str) -> dict[str, Any]:
    topics = sorted({name.rpartition(".")[0] for name in (*hears, *commands)})
    return {"hears": hears, "commands": commands, "topics": topics, "services": list(services)}


def an_outcome(**changes: Any) -> Outcome:
    """Orchestrated twice, hybrid one and a half times as much of everything as choreographed."""
    factor = dict(zip(WORDS, (1.0, 2.0, 1.5), strict=True))
    said: dict[str, Any] = {
        "run": {"name": "compare-1", "commit": "abc", "seconds": 120.0, "records": 5_000},
        "settings": {**Options().to_dict(), "grace": 1.5},
        "machine": {"cores": 2},
        "load": {
            "cores": 2, "before": [0.1, 0.2, 0.3], "after": [1.5, 1.2, 0.8],
            "others": {"the rounds": {"mean": 0.1, "most": 0.2}},
        },
        "coupling": {
            word: {
                "services": 5, "messages": round(10 * of), "topics": 4, "pairs": 3, "most": 4, "most_by": "order",
                "most_share": 0.4,
                "by_service": {
                    "order": knows(["payment.captured", "payment.declined"], ["payment.commands.capture"], "payment"),
                    "payment": knows([], []),
                    **({} if word == WORDS[0] else {"orchestrator": knows(["order.placed"], [], "order")}),
                },
            }
            for word, of in factor.items()
        },
        "costs": {
            word: {
                name: middle(10 * of)
                for name in (
                    "orders_per_second", "messages", "message_bytes", "rows", "row_bytes", "cpu_ms", "broker_cpu_ms",
                )
            }
            for word, of in factor.items()
        },
        "latency": {
            word: {
                "p50": 100 * of, "p99": 200 * of, "of": 500, "curve": [[0, 50 * of], [50, 100 * of], [99, 200 * of]],
                "stretches": {"p50": [100 * of] * 5, "p99": [200 * of] * 5},
            }
            for word, of in factor.items()
        },
        "rollback": {
            cause: {
                word: {
                    "orders": 50, "messages": 4, "services": 4, "topics": 4,
                    "compensated_ms": {"p50": 30 * of, "p99": 60 * of, "stretches": {"p50": [30 * of] * 5}},
                    "cancelled_ms": {"p50": 40 * of, "p99": 70 * of},
                }
                for word, of in factor.items()
            }
            for cause in CAUSES
        },
        "outages": {
            service: {
                word: {"orders": 20, "steps": 0.5 / of, "dispatched": 0.5, "completed": 0.0, "farthest": "placed"}
                for word, of in factor.items()
            }
            for service in (NOBODY, "payment", "orchestrator")
        },
        "visibility": {
            word: {"trail": {"orders": 3, "whole": 0.0, "messages": 0.5, "seconds": {"median": 1.2, "most": 4.5}}}
            for word in WORDS
        },
        "debugging": {word: {"trail": dict.fromkeys(QUESTIONS, True)} for word in WORDS},
        "step": {
            word: {
                "files": 12, "lines": 300, "new_files": 4, "new_lines": 200, "changed_files": 8,
                "changed_lines": round(40 * of), "services_changed": ["order"], "changed": {},
                "trial": {"ok": True, "refused": 5, "fraudulent": 5},
                "deploy": [f"flow {word}/1 was changed without a new version"] if word != "hybrid" else [],
            }
            for word, of in factor.items()
        },
        "subscribers": {
            word: {
                "messages": [], "written": 0, "written_bytes": 0, "topic_records": 2.0, "read": 200, "known_more": 0,
                "event_bytes": 90,
            }
            for word in WORDS
        },
        "audience": {
            "number": 10,
            "modes": {
                mode: {
                    "orders": 600, "orders_per_second": 300.0, "cpu_ms": 1.0, "broker_cpu_ms": 2.0 + at,
                    "audience_cpu_ms": 0.5 * at, "read": 10.0 * at, "read_bytes": 900.0 * at,
                    "written": (0.0, 0.0, 20.0)[at], "written_bytes": (0.0, 0.0, 1800.0)[at],
                }
                for at, mode in enumerate(MODES)
            },
        },
        "audit": {"ok": True, "accepted": 1_234, "findings": []},
    }  # fmt: skip
    return Outcome(**said | changes)

"""Agents hold decisions and nothing else: no Kafka, no clock, no chance, no network. Read from their syntax trees."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
AGENTS = sorted((ROOT / "agents").glob("*.py"))

ALLOWED = {
    "__future__": None,
    "events": None,
    "farandole": {"App", "Call", "CancelTimer", "Timer", "Withdraw"},
    "farandole.values": None,
    "hashlib": None,
    "msgspec.structs": {"replace"},
    "re": None,
    "typing": None,
}
"""Modules that an agent may import, and what of them; None: everything. None of them can tell two runs apart."""

FORBIDDEN_CALLS = {"__import__", "compile", "eval", "exec", "globals", "hash", "id", "input", "open", "print", "vars"}
"""Builtins that reach outside, or whose result differs from run to run."""


def imports(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """(module, name); name is empty for `import module`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (("." * node.level + (node.module or ""), alias.name) for alias in node.names)


@pytest.mark.parametrize("path", AGENTS, ids=lambda path: path.stem)
def test_an_agent_imports_no_kafka_client_no_clock_no_chance_and_no_network(path: Path) -> None:
    for module, name in imports(ast.parse(path.read_text())):
        assert module in ALLOWED, f"{path.name} imports {module}"
        names = ALLOWED[module]
        assert names is None or name in names, f"{path.name} imports {name} from {module}"


@pytest.mark.parametrize("path", AGENTS, ids=lambda path: path.stem)
def test_an_agent_does_nothing_whose_result_may_differ(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        where = f"{path.name}, line {getattr(node, 'lineno', 0)}"
        assert called(node) not in FORBIDDEN_CALLS, f"{where}: {called(node)}()"
        assert not isinstance(node, ast.Global | ast.Nonlocal), f"{where}: state outside of tables"
        assert not isinstance(node, ast.Await), f"{where}: a decision waits for nothing"
        if isinstance(node, ast.For | ast.comprehension):
            is_set = isinstance(node.iter, ast.Set | ast.SetComp) or called(node.iter) in ("set", "frozenset")
            assert not is_set, f"{where}: the order of a set differs from process to process"


def called(node: ast.AST) -> str:
    """Name of the function that is called here, or empty."""
    return node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""


def test_the_agents_were_found() -> None:
    assert {path.stem for path in AGENTS} >= {"order", "inventory", "payment", "shipping", "notification"}

"""docs/guarantees.md: every promise has a test, and every test that it cites is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "guarantees.md"
CITED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def rows() -> list[list[str]]:
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]


def named(row: list[str]) -> str:
    found = re.match(r"\*\*(.+?)\*\*", row[0])
    return found[1] if found else row[0]


def found_in(file: Path) -> set[str]:
    """Functions and methods that pytest would collect, and would not skip without looking."""
    nodes = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.FunctionDef)]
    return {node.name for node in nodes if node.name.startswith("test_") and not skipped(node)}


def skipped(node: ast.FunctionDef) -> bool:
    return any("mark.skip(" in ast.unparse(decorator) + "(" for decorator in node.decorator_list)


def missing_of(row: list[str]) -> list[str]:
    cited = CITED.findall(row[2]) if len(row) == 3 else []
    if not cited:
        return ["no test is cited"]
    return [
        f"{file}::{test}" for file, test in cited if not (ROOT / file).exists() or test not in found_in(ROOT / file)
    ]


@pytest.mark.parametrize("row", rows(), ids=named)
def test_a_promise_is_held_by_tests_that_exist(row: list[str]) -> None:
    assert not missing_of(row)


def test_the_page_has_its_promises() -> None:
    promised = {named(row).rstrip(".").lower() for row in rows()}
    for subject in ("delivery", "order per saga", "atomicity", "one ending per order", "compensation is complete"):
        assert subject in promised


@pytest.mark.parametrize(
    "row",
    [
        ["**A promise.**", "", ""],
        ["**A promise.**", "", "`tests/test_guarantees.py::test_that_nobody_wrote`"],
        ["**A promise.**", "", "`tests/test_of_nothing.py::test_something`"],
    ],
    ids=["no test", "no such test", "no such file"],
)
def test_a_row_without_a_test_is_noticed(row: list[str]) -> None:
    assert missing_of(row)

"""What `flows list` says, with a cluster and without."""

from __future__ import annotations

import json

import pytest

from farandole.cli import flows as command
from farandole.errors import BrokerError
from farandole.flow import load_flows
from farandole.inflight import asking
from farandole.inflight.counting import Count, Standing


def none(progress: object) -> Count:
    raise BrokerError("there is no Kafka", mend="farandole kafka start")


def some(progress: object) -> Count:
    first = Standing(left={"o-1": ["payment waits for gateway/void"], "o-2": ["a row"]}, waiting={"o-2"})
    return Count(
        {"order/1": first, "order/12": Standing(parked={"o-3": ["parked in payment"]}), "restock/1": Standing()},
        gone=Standing(left={"o-4": ["a row"]}),
        notes=["a note"],
    )


def test_without_a_cluster_the_column_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(asking, "ask", none)
    command.list_(as_json=False)
    said = capsys.readouterr()
    assert said.out.count("no cluster") == len(load_flows())
    assert "sagas are not counted: there is no Kafka" in said.err
    command.list_(as_json=True)
    listed = json.loads(capsys.readouterr().out)
    assert [each["left"] for each in listed["flows"]] == [None] * len(load_flows())
    assert listed["notes"] == ["there is no Kafka"]


def test_flows_of_the_checkout_and_others_with_what_is_left_of_each(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    flows = {key: flow for key, flow in load_flows().items() if key in ("order/1", "restock/1")}
    monkeypatch.setattr("farandole.flow.load_flows", lambda: flows)
    monkeypatch.setattr(asking, "ask", some)
    command.list_(as_json=True)
    listed = json.loads(capsys.readouterr().out)
    rows = {each["flow"]: each for each in listed["flows"]}
    assert list(rows) == ["order/1", "order/12", "restock/1"]
    assert [(each["left"], each["waiting"], each["parked"]) for each in rows.values()] == [
        (2, 1, 0), (0, 0, 1), (0, 0, 0),
    ]  # fmt: skip
    assert (rows["order/1"]["known"], rows["order/1"]["version"], rows["order/1"]["bindings"]) == (True, 1, 43)
    assert (rows["order/12"]["known"], rows["order/12"]["version"], rows["order/12"]["services"]) == (False, 12, None)
    assert rows["order/1"]["sagas"]["o-1"] == ["payment waits for gateway/void"]
    assert listed["past_retention"]["left"] == 1
    command.list_(as_json=False)
    said = capsys.readouterr()
    assert "unknown: not in this checkout" in said.out
    assert "past retention" in said.out
    assert "note: a note" in said.err

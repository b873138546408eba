"""The picture of a flow: it shows what is bound, nothing lies on anything, and docs/ holds what the code draws."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from agents import inventory, notification, order, shipping
from events import CancelOrder, OrderCancelRequested, OrderCompleted, OrderPlaced, PlaceOrder, StockHoldRequested
from farandole.errors import ConfigError
from farandole.flow import Flow, chosen, load_flows
from farandole.picture import pages
from farandole.picture.depth import layers
from farandole.picture.graph import ANSWER, CLIENTS, COMMAND, TIMER, Graph, effects, graph_of, names_of
from farandole.picture.layout import BOX, CHAR, SMALL, Sheet, label_width, sheet_of, under
from farandole.picture.svg import svg
from farandole.picture.terminal import WIDTH, drawn
from tests.inflight.stepwise import order_2

ROOT = Path(__file__).parents[2]
FLOWS = load_flows()
NAMES = names_of(ROOT / "schemas")
EVERY = pytest.mark.parametrize("key", sorted(FLOWS))


def graph(flow: Flow) -> Graph:
    return graph_of(flow, NAMES, FLOWS.values())


# ---- what it shows


@EVERY
def test_it_shows_what_is_bound_and_nothing_else(key: str) -> None:
    flow, found = FLOWS[key], graph(FLOWS[key])
    bound = {(NAMES[event.__name__][0], decision.name) for (_, event), decision in flow.bindings.items()}
    assert {(a.name, hearer) for a in found.arrows.values() for hearer in a.hearers} == bound
    assert {(name, node.name) for node in found.nodes.values() for name in node.hears} == bound
    published = {(d.name, NAMES[e.__name__][0]) for d in flow.bindings.values() for e in effects(d)}
    assert {(p, a.name) for a in found.arrows.values() for p in a.publishers} == published
    assert {(node.name, name) for node in found.nodes.values() for name in node.publishes} == published
    assert found.unreachable == ()
    assert found.bindings == len(flow.bindings)


def test_where_order_1_begins_and_how_it_comes_out() -> None:
    found = graph(FLOWS["order/1"])
    commands = {arrow.label: arrow.begins for arrow in found.arrows.values() if arrow.kind == COMMAND}
    assert commands == {"place_order": True, "cancel_order": False, "write_off": False}
    assert {a.name for a in found.arrows.values() if a.ends} == {"order.completed", "order.cancelled", "order.refused"}
    assert found.services == ("order", "inventory", "payment", "shipping", "notification")
    assert found.lanes[0] == CLIENTS


def test_calls_timers_and_compensations_are_told_apart() -> None:
    found = graph(FLOWS["order/1"])
    outside = {arrow.name: arrow.outside for arrow in found.arrows.values() if arrow.kind == ANSWER}
    assert outside == {
        "payment.calls.authorise_answered": ("gateway",),
        "payment.calls.void_answered": ("gateway",),
        "payment.calls.capture_answered": ("gateway",),
        "shipping.calls.book_answered": ("carrier",),
        "shipping.calls.cancel_answered": ("carrier",),
        "notification.calls.mail_answered": ("mail",),
    }
    assert [arrow.name for arrow in found.arrows.values() if arrow.kind == TIMER] == [
        "inventory.timers.reservation_expired"
    ]
    assert {name: node.takes_back for name, node in found.nodes.items() if node.takes_back} == {
        "inventory.request_releases": ("inventory.request_holds",),
        "inventory.release": ("inventory.hold",),
        "payment.void": ("payment.authorise",),
    }
    assert {node.name for node in found.nodes.values() if node.backward} == {
        "inventory.request_releases", "inventory.release", "inventory.line_released", "payment.void",
    }  # fmt: skip
    assert {arrow.name for arrow in found.arrows.values() if arrow.backward} == {
        "stock.release_requested", "inventory.line_released",
    }  # fmt: skip


def test_what_nothing_leads_to_is_told_and_not_drawn() -> None:
    """`order.completed` happens in order/1 alone; here nobody will ever hear it."""
    flow = Flow("greeting", 1)
    flow.on(OrderPlaced, inventory.request_holds)
    flow.on(PlaceOrder, order.place)
    flow.on(StockHoldRequested, inventory.hold)
    flow.on(OrderCompleted, notification.tell_completed)
    found = graph(flow)
    assert found.unreachable == ("notification.tell_completed",)
    assert found.services == ("inventory", "order"), "as the flow names them"
    assert "notification.tell_completed" in drawn(found)
    assert "nothing leads there" in svg(sheet_of(found))
    refused = found.arrows["order.refused"]
    assert refused.hearers == ()


def test_causes_lie_above_their_effects() -> None:
    found = graph(FLOWS["order/1"])
    layer = layers(found)
    for arrow in found.arrows.values():
        assert all(layer.nodes[name] < layer.arrows[arrow.name] for name in arrow.publishers)
        assert all(layer.nodes[name] >= layer.arrows[arrow.name] for name in arrow.hearers)
    assert layer.nodes["order.cancel"] > 4, "a command on the way is drawn where it matters"


def test_a_circle_is_drawn_all_the_same() -> None:
    flow = Flow("circle", 1)
    flow.on(CancelOrder, order.cancel)
    flow.on(OrderCancelRequested, again)
    flow.on(PlaceOrder, order.place)
    found = graph(flow)
    assert set(layers(found).nodes) == {"order.cancel", "shipping.again", "order.place"}
    assert drawn(found)
    check_sheet(sheet_of(found))


def again(event: OrderCancelRequested) -> CancelOrder | None:
    return None


again.__module__ = shipping.__name__


# ---- nothing lies on anything


def check_sheet(sheet: Sheet) -> None:
    for rail in sheet.rails:
        lane = sheet.lanes[rail.lane]
        assert label_width(rail.arrow) <= lane.end - lane.begin + 1
        assert max(len(rail.arrow.label) * CHAR, len(under(rail.arrow)) * SMALL) <= lane.end - lane.begin
        for box in sheet.boxes:
            crosses = rail.begin < box.x + box.width and box.x < rail.end
            assert not (crosses and box.y - 8 < rail.y < box.y + BOX + 16), f"{rail.arrow.name} on {box.node.name}"
    for one, other in itertools.combinations(sheet.rails, 2):
        apart = one.end <= other.begin or other.end <= one.begin
        assert apart or abs(one.y - other.y) >= 30, f"{one.arrow.name} on {other.arrow.name}"
    for trunk in sheet.trunks:
        for lane in sheet.lanes:
            assert not lane.begin < trunk.x < lane.end, "a trunk runs through a column, where labels are"
    for left, right in itertools.combinations(sheet.trunks, 2):
        assert left.x != right.x or left.bottom < right.top or right.bottom < left.top
    for box_one, box_other in itertools.combinations(sheet.boxes, 2):
        assert box_one.lane != box_other.lane or abs(box_one.y - box_other.y) > BOX


@EVERY
def test_no_label_and_no_line_lies_on_another(key: str) -> None:
    check_sheet(sheet_of(graph(FLOWS[key])))


def test_a_rail_meets_the_trunks_of_all_who_publish_and_hear_it() -> None:
    sheet = sheet_of(graph(FLOWS["order/1"]))
    for rail in sheet.rails:
        hearers = {n.name for t in sheet.trunks if t.inward and t.x in rail.drops for n in t.bundle.nodes}
        publishers = {n.name for t in sheet.trunks if not t.inward and t.x in rail.joins for n in t.bundle.nodes}
        assert set(rail.arrow.hearers) <= hearers
        assert set(rail.arrow.publishers) <= publishers
        assert len(rail.drops) == len(rail.arrow.hearers)


# ---- the forms


@EVERY
def test_the_svg_is_well_formed_whole_and_names_everything(key: str) -> None:
    found = graph(FLOWS[key])
    text = svg(sheet_of(found))
    tree = ElementTree.fromstring(text)
    words = {element.text for element in tree.iter("{http://www.w3.org/2000/svg}text")}
    assert {node.label for node in found.nodes.values()} <= words
    assert {arrow.label for arrow in found.arrows.values()} <= words
    assert {lane for lane in found.lanes if lane != CLIENTS} <= words
    assert "prefers-color-scheme:dark" in text
    assert not re.search(r"href|url\(|<script", text), "nothing comes from elsewhere"
    assert text == svg(sheet_of(graph(FLOWS[key])))


@EVERY
def test_the_terminal_has_a_hundred_columns_and_names_everything(key: str) -> None:
    found = graph(FLOWS[key])
    text = drawn(found)
    assert max(map(len, text.splitlines())) <= WIDTH == 100
    for node in found.nodes.values():
        sign = "┤↩" if node.takes_back else "┊ " if node.backward else "┤ "
        assert f"{sign}{node.label} " in text
    for arrow in found.arrows.values():
        assert f"{arrow.label} · {arrow.topic}" in text
        assert f"◆ {arrow.label} ·" in text or not arrow.ends
    assert text.isprintable() or all(line.isprintable() for line in text.splitlines())


def test_versions_differ_where_they_differ() -> None:
    first, second = graph(FLOWS["order/1"]), graph(order_2(FLOWS["order/1"]))
    assert first.nodes.keys() - second.nodes.keys() == {"notification.tell_refused"}
    assert second.arrows["order.refused"].hearers == ()


# ---- docs/


def test_the_pictures_in_docs_are_current() -> None:
    assert pages.stale(ROOT, FLOWS) == [], "run: farandole flows draw"


def test_the_page_says_every_flow_in_words_too() -> None:
    headings = [line for line in (ROOT / pages.PAGE).read_text().splitlines() if line.startswith("## ")]
    assert [key for key in FLOWS if not any(f"`{key}`" in line for line in headings)] == []


def test_drawing_changes_what_differs_and_leaves_what_people_wrote(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "schemas", tmp_path / "schemas")
    (tmp_path / "docs/pictures").mkdir(parents=True)
    (tmp_path / "docs/pictures/gone-1.svg").write_text("old")
    page = tmp_path / "docs/flows.md"
    page.write_text("# Flows\n\nWords.\n")
    names = sorted(f"docs/pictures/{pages.file_of(key)}" for key in FLOWS)
    assert sorted(map(str, pages.draw(tmp_path, FLOWS))) == sorted(
        [*names, "docs/pictures/gone-1.svg", "docs/flows.md"]
    )
    assert pages.draw(tmp_path, FLOWS) == []
    text = page.read_text()
    assert text.startswith("# Flows\n\nWords.\n")
    assert all(f"(pictures/{pages.file_of(key)})" in text for key in FLOWS)
    page.write_text(text.replace(pages.END, f"{pages.END}\n\nMore words.").replace("Words.", "Other words."))
    assert pages.draw(tmp_path, FLOWS) == []
    second = {**FLOWS, "order/2": order_2(FLOWS["order/1"])}
    assert [str(each) for each in pages.stale(tmp_path, second)] == ["docs/pictures/order-2.svg", "docs/flows.md"]
    pages.draw(tmp_path, second)
    assert page.read_text().endswith("More words.\n")
    assert "Other words." in page.read_text()
    page.write_text(pages.BEGIN)
    with pytest.raises(ConfigError, match="markers"):
        pages.draw(tmp_path, FLOWS)


def test_json_holds_all_of_it() -> None:
    said = json.loads(json.dumps(graph(FLOWS["order/1"]).to_dict()))
    assert said["flow"] == "order/1"
    assert len(said["decisions"]) == 39
    assert {"name", "topic", "kind", "publishers", "hearers", "begins", "ends", "backward"} <= said["events"][0].keys()


def test_a_flow_that_is_not_there_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ConfigError, match="no flow 'nope'") as error:
        chosen("nope", load_flows())
    assert error.value.exit_code == 2

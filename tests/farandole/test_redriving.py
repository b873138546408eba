"""What an operator's commands make of the topics: how letters stand, what is asked for, shown and edited."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from agents import inventory
from events import OrderLine, OrderPlaced, StockReceived
from farandole.cli.dead_letters import _check_due, _the_one
from farandole.errors import BrokerError, CodecError, ConfigError, FarandoleError
from farandole.event import Meta
from farandole.redrive import asking
from farandole.redrive.asking import Asking, Result, Task
from farandole.redrive.choosing import Choice, moment
from farandole.redrive.editing import edited
from farandole.redrive.queue import Book, Letter
from farandole.redrive.report import as_dict, told
from farandole.redrive.showing import words
from tests.farandole.bench_of_letters import RESTOCK, Bench, broken_until_mended
from tests.farandole.test_operations import park

SECRET = "tok_visible_nowhere"


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench(inventory.app)
    yield made
    made.processor.rollback()
    made.processor.drop_partition(0)


@pytest.fixture
def mended(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    return broken_until_mended(monkeypatch)


class Desk:
    """The operator's, over what the bench has written. works: whether the service takes operations"""

    def __init__(self, bench: Bench, kept: Callable[[Letter], bool] = lambda letter: False) -> None:
        self.bench, self.book, self._read = bench, Book(bench.codec, ["inventory"], kept), 0
        self.read(None, "")

    def read(self, progress: Any, what: str) -> None:
        news = self.bench.log[self._read :]
        self._read = len(self.bench.log)
        for queues in (False, True):
            for record in news:
                if record.topic.endswith(".dlq") is queues:
                    self.book.take(record)

    def close(self) -> None: ...


class Wire:
    """Stands for a producer: an operation is in the topic at once, and the service takes it, unless it is away."""

    bench: Bench
    away = False
    breaks_after: int | None = None
    written = 0

    def __init__(self, config: Any) -> None: ...

    def produce(self, topic: str, value: bytes, key: bytes, partition: int, on_delivery: Any) -> None:
        if self.breaks_after is not None and Wire.written >= self.breaks_after:
            raise KeyboardInterrupt
        Wire.written += 1
        message = self.bench.message(topic, key, value)
        if self.away:
            self.bench._write(topic, message.offset(), key, value)
        else:
            self.bench.take(message)
        on_delivery(None, message)

    def flush(self, seconds: float) -> None: ...

    def __len__(self) -> int:
        return 0


@pytest.fixture
def wire(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> type[Wire]:
    made = type("OneWire", (Wire,), {"bench": bench})
    Wire.written = 0
    monkeypatch.setattr(asking, "Producer", made)
    monkeypatch.setattr(asking, "LOOK_EVERY", 0.001)
    return made


def ask(bench: Bench, action: str = "redrive", choice: Choice | None = None, **task: Any) -> Result:
    desk: Any = Desk(bench)
    chosen = (choice or Choice()).sequences(desk.book)
    return Asking({}, "", desk, Task(action, "anna", **task), lambda what, done, total: None).carry_out(chosen)


def states(bench: Bench) -> list[str]:
    book = Desk(bench).book
    return [book.state(letter) for letters in book.letters.values() for letter in letters]


def the_letter(bench: Bench, number: int = 0) -> Letter:
    return next(iter(Desk(bench).book.letters.values()))[number]


def test_a_saga_is_redriven_whole_and_in_order(bench: Bench, mended: list[bool], wire: type[Wire]) -> None:
    park(bench, 1, 2, 3)
    assert states(bench) == ["parked"] * 3
    mended.append(True)
    result = ask(bench)
    assert (result.ok, result.counts, result.gone) == (True, {"redriven": 3}, 1)
    assert [outcome.number for outcome in bench.outcomes] == [0, 1, 2]
    assert states(bench) == ["redriven"] * 3
    assert bench.parked() == {}


def test_what_comes_behind_meanwhile_is_redriven_too(bench: Bench, mended: list[bool], wire: type[Wire]) -> None:
    park(bench, 1)
    mended.append(True)
    take = bench.take

    def and_more(*messages: Any) -> None:
        bench.take = take  # type: ignore[method-assign]
        take(bench.received(7, "d-1", "sku-7"), *messages)

    bench.take = and_more  # type: ignore[method-assign]
    result = ask(bench)
    assert result.counts == {"redriven": 2}
    assert bench.parked() == {}
    assert bench.level("sku-7") == 7


def test_a_saga_that_fails_again_waits_at_its_letter_and_the_others_go_on(bench: Bench, wire: type[Wire]) -> None:
    bench.take(bench.received(0, "bad"), bench.received(5, "bad", "sku-5"))
    bench.take(bench.message("stock", b"sku-1", b"nobody can read this"))
    result = ask(bench)
    assert [(course.outcome, course.error[:10]) for course in result.failed] == [
        ("failed-again", "AssertionE"),
        ("failed-again", "Unreadable"),
    ]
    assert states(bench) == ["parked", "parked", "open"]
    assert bench.parked()["bad"].tries == 1
    assert bench.level("sku-5") == 0


def test_a_command_that_was_killed_is_repeated_and_asks_for_nothing_twice(
    bench: Bench, mended: list[bool], wire: type[Wire]
) -> None:
    for number in range(4):
        park(bench, 1, 2, saga=f"d-{number}")
    mended.append(True)
    wire.breaks_after = 3
    with pytest.raises(KeyboardInterrupt):
        ask(bench)
    wire.breaks_after = None
    assert Wire.written == 3
    result = ask(bench)
    assert (result.ok, Wire.written) == (True, 8)
    assert [outcome.outcome for outcome in bench.outcomes] == ["redriven"] * 8


def test_what_was_asked_for_while_the_worker_was_away_waits_and_is_not_asked_for_again(
    bench: Bench, mended: list[bool], wire: type[Wire]
) -> None:
    park(bench, 1, 2)
    mended.append(True)
    wire.away = True
    with pytest.raises(BrokerError, match="nothing became of 2 operations"):
        ask(bench, patience=0.01)
    assert states(bench) == ["waiting", "waiting"]
    wire.away = False
    asked = [record for record in bench.log if record.topic == "inventory.operations"]
    bench.log = [record for record in bench.log if record not in asked]
    from tests.farandole.bench_of_letters import Incoming

    bench.take(*(Incoming(each.topic, each.offset, each.key, each.value, each.time) for each in asked))
    result = ask(bench)
    assert (Wire.written, result.courses) == (2, [])
    assert states(bench) == ["redriven", "redriven"]


def test_a_discard_is_of_the_letter_that_is_due_unless_the_rest_is_meant(
    bench: Bench, mended: list[bool], wire: type[Wire]
) -> None:
    park(bench, 1, 2, 3)
    result = ask(bench, "discard", why="a test", most=1)
    assert (result.counts, result.gone) == ({"discarded": 1}, 0)
    assert states(bench) == ["discarded", "parked", "parked"]
    assert (bench.outcomes[0].who, bench.outcomes[0].why) == ("anna", "a test")
    result = ask(bench, "discard", why="a test")
    assert (result.counts, result.gone) == ({"discarded": 2}, 1)


def test_letters_are_chosen_by_service_saga_reason_time_and_place(bench: Bench, mended: list[bool]) -> None:
    park(bench, 1, saga="d-1")
    park(bench, 2, saga="d-2")
    bench.take(bench.message("stock", b"sku-1", b"nobody can read this"))
    book = Desk(bench).book
    second = next(letter for letter in book.letters["inventory", ("inventory.dlq", 0)] if letter.saga == "d-2")

    def chosen(**choice: Any) -> list[str]:
        return [each.saga for each in Choice(**choice).sequences(book)]

    assert chosen() == ["d-1", "d-2", ""]
    assert chosen(sagas=("d-2",)) == ["d-2"]
    assert chosen(reasons=("unreadable",)) == [""]
    assert chosen(services=("payment",)) == []
    assert chosen(since=second.time) == ["d-2", ""]
    assert chosen(until=second.time) == ["d-1"]
    assert chosen(letters=(str(second.source),)) == ["d-2"]


def test_times_are_ago_or_dates() -> None:
    assert moment("90m", 10_000_000) == 10_000_000 - 90 * 60_000
    assert moment("1970-01-01T01:00+01:00", 5) == 0
    with pytest.raises(ConfigError, match="'soon' is no time"):
        moment("soon", 0)


# ---- shown


def placed(bench: Bench, saga: str = "o-1") -> bytes:
    line = OrderLine(line=1, sku="sku-1", quantity=1, price=1)
    event = OrderPlaced(
        customer="c", lines=(line,), amount=1, currency="EUR", ship_to="x", card_token=SECRET, reserve_for=9
    )
    return bench.codec.encode(event, Meta("t/1", saga, "order/1", ""))


@pytest.mark.parametrize("cut", [0, 1, 5, 20, 25, 40])
def test_bytes_are_shown_as_far_as_they_go_and_never_a_secret(bench: Bench, cut: int) -> None:
    whole = placed(bench)
    for value in (whole[: len(whole) - cut], whole[cut:], b"\0\0\0\1\1" + whole[5:], whole + b"x", whole[:5] + whole):
        bench.take(bench.message("order", b"o-1", value))
    desk = Desk(bench, lambda letter: True)
    letters = [letter for letters in desk.book.letters.values() for letter in letters]
    assert letters
    for letter in letters:
        said = json.dumps(told(desk.book, letter))
        assert SECRET not in said
        assert SECRET.encode().hex() not in said.replace(" ", "")
        assert SECRET.encode().hex(" ") not in said


def test_a_letter_is_shown_by_its_schema_else_its_metadata_else_in_hex(bench: Bench) -> None:
    bench.take(bench.received(0, "bad"))
    bench.take(bench.message("stock", b"sku-1", b"\0\0\0\xff\xff" + (bench.received(1, "d-9").value() or b"")[5:]))
    bench.take(bench.message("stock", b"sku-1", b"nobody"))
    bench.take(bench.message("order", b"o-1", placed(bench)[:-1]))
    readable, unknown, bytes_, torn = (words(bench.codec, the_letter(bench, n)) for n in range(4))
    assert (readable["type"], readable["fields"]) == ("stock.received", {"sku": "sku-1", "quantity": 0})
    assert (readable["meta"]["saga"], unknown["meta"]["saga"]) == ("bad", "d-9")
    assert bytes_["hex"] == b"nobody".hex(" ")
    assert torn["fields"]["customer"] == "c"
    assert torn["fields"].get("card_token", "***") == "***"
    assert "order.placed" in torn["note"]


def test_a_letter_says_where_it_stands_and_what_was_done(bench: Bench, wire: type[Wire]) -> None:
    bench.take(bench.received(0, "bad"), bench.received(5, "bad", "sku-5"))
    ask(bench)
    desk = Desk(bench)
    said = told(desk.book, the_letter(bench))
    assert [each["source"] for each in said["sequence"]] == ["stock/0/0", "stock/0/1"]
    assert [(each["outcome"], each["who"]) for each in said["operations"]] == [("failed-again", "anna")]
    row = as_dict(desk.book, the_letter(bench), "parked")
    assert (row["letters_of_saga"], row["tries"], row["reason"]) == (2, 1, "decision-failed")


def test_a_saga_means_its_letter_that_is_due(bench: Bench, mended: list[bool]) -> None:
    park(bench, 1, 2)
    book = Desk(bench).book
    assert str(_the_one(book, Choice(sagas=("d-1",))).source) == "stock/0/0"
    later = _the_one(book, Choice(letters=("stock/0/1",)))
    with pytest.raises(ConfigError, match="stock/0/0 is due first"):
        _check_due(book, later)
    with pytest.raises(ConfigError, match="no such letter"):
        _the_one(book, Choice(sagas=("d-2",)))


# ---- edited


def test_an_edited_letter_goes_through_its_schema(bench: Bench, wire: type[Wire]) -> None:
    bench.take(bench.received(0, "bad"))
    letter = the_letter(bench)
    value = edited(bench.codec, letter, "sku", ["quantity=5"])
    meta, event = bench.codec.decode(value)
    assert (meta, event.quantity) == (bench.codec.decode(letter.value)[0], 5)
    assert ask(bench, edited=value, most=1).ok
    assert bench.level() == 5
    assert bench.outcomes[0].edited


def test_what_is_masked_stays_and_what_is_further_in_may_change(bench: Bench) -> None:
    bench.take(bench.message("order", b"o-1", placed(bench)[:-1]))  # torn: what is behind it is parked as it is
    bench.take(bench.message("order", b"o-1", placed(bench)))
    letter = the_letter(bench, 1)
    document = words(bench.codec, letter)
    document["fields"]["lines"][0]["quantity"] = 3
    _, event = bench.codec.decode(edited(bench.codec, letter, "saga", ["lines[0].sku=sku-2"], document))
    assert (event.card_token, event.lines[0].quantity, event.lines[0].sku) == (SECRET, 3, "sku-2")


REFUSED: list[tuple[str, list[str], Any]] = [
    ("there is no field", ["quantities=5"], None),
    ("no field=value", ["quantity"], None),
    ("Expected `int`", ["quantity=many"], None),
    ("Expected `int`", ["quantity=1.5"], None),
    ("beyond int", ["quantity=9223372036854775808"], None),
    ("the record's key would have to be 'sku-2'", ["sku=sku-2"], None),
    ("there is no field colour", [], {"fields": {"sku": "sku-1", "quantity": 1, "colour": "red"}}),
    ("there is no field saga", [], {"fields": {"sku": "sku-1", "quantity": 1, "saga": "d-2"}}),
    ("missing required field", [], {"fields": {"sku": "sku-1"}}),
    ("no record of stock", [], {"type": "order.completed", "fields": {}}),
    ("stays of its type", [], {"type": "stock.commit_requested"}),
    ("stays as it is", [], {"meta": {"id": "x", "saga": "bad", "flow": RESTOCK, "cause": ""}}),
    ("would be d-2's", [], {"meta": {"id": "x", "saga": "d-2", "flow": RESTOCK, "cause": ""}}),
    ("four texts", [], {"meta": {"id": "x"}}),
    ("it is not known what kind", [], {"type": "stock.lost"}),
    ("`fields` is a JSON object", [], {"fields": [1]}),
]


@pytest.mark.parametrize(("what", "settings", "document"), REFUSED)
def test_an_edit_that_does_not_fit_is_refused(bench: Bench, what: str, settings: list[str], document: Any) -> None:
    bench.take(bench.received(0, "bad"))
    with pytest.raises(FarandoleError) as refusal:
        edited(bench.codec, the_letter(bench), "sku", settings, document)
    assert what in str(refusal.value)


def test_what_nobody_can_read_is_written_anew(bench: Bench, wire: type[Wire]) -> None:
    bench.take(bench.message("stock", b"sku-1", b"nobody can read this"))
    letter = the_letter(bench)
    with pytest.raises(CodecError, match="what kind of record"):
        edited(bench.codec, letter, "sku", ["quantity=5"])
    document = {
        "type": "stock.received",
        "meta": {"id": "anna/1", "saga": "d-1", "flow": RESTOCK, "cause": ""},
        "fields": {"sku": "sku-1", "quantity": 5},
    }
    value = edited(bench.codec, letter, "sku", [], document)
    assert bench.codec.decode(value)[1] == StockReceived(sku="sku-1", quantity=5, saga="d-1")
    assert ask(bench, edited=value, most=1).ok
    assert bench.level() == 5
    assert states(bench) == ["redriven"]


def test_a_rate_is_kept(bench: Bench, mended: list[bool], wire: type[Wire]) -> None:
    made = Asking({}, "", Desk(bench), Task("redrive", "anna", rate=10.0), lambda what, done, total: None)  # type: ignore[arg-type]
    assert made._allowed(0.0) == 1
    assert made._allowed(0.5) == 6
    assert made._allowed(60.0) == 10, "what was not used is not made up for"
    made._tokens -= 10
    made._in_flight = 10
    assert made._allowed(60.0) == 0
    assert made._allowed(61.0) == 0, "a second's worth waits for its outcome"
    made._in_flight = 0
    assert made._allowed(61.0) == 10


def test_with_a_rate_nobody_waits_longer_for_a_service_that_is_away(
    bench: Bench, mended: list[bool], wire: type[Wire]
) -> None:
    for number in range(40):
        park(bench, 1, saga=f"d-{number}")
    wire.away = True
    with pytest.raises(BrokerError, match="nothing became of 20 operations"):
        ask(bench, rate=20.0, patience=1.2)
    assert Wire.written == 20


def test_letters_that_were_written_before_letters_named_their_saga_belong_to_it_all_the_same(
    bench: Bench, mended: list[bool], wire: type[Wire]
) -> None:
    park(bench, 1, 2)
    bench.take(bench.message("order", b"o-1", placed(bench)[:-1]))
    bench.log = [
        each._replace(headers=[header for header in each.headers if header[0] != "__dlq.saga"]) for each in bench.log
    ]
    assert [letter.saga for letters in Desk(bench).book.letters.values() for letter in letters] == ["d-1", "d-1", "o-1"]
    mended.append(True)
    assert ask(bench, choice=Choice(sagas=("d-1",))).counts == {"redriven": 2}

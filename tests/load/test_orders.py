"""Which orders are placed."""

from __future__ import annotations

from collections import Counter

import pytest

from agents.order import order_id, validate
from farandole.demo.plan import Kinds
from farandole.errors import ConfigError
from farandole.load.orders import POSSIBLE, Between, Mix, Order, Orders, kinds_of, parse_mix


def made(count: int = 500, seed: int = 0, run: str = "r", **mix: object) -> list[Order]:
    orders = Orders(Mix(**mix), run, seed)  # type: ignore[arg-type]
    return [orders.next() for _ in range(count)]


def test_the_same_seed_gives_the_same_orders_of_another_run() -> None:
    one, other = made(run="a"), made(run="b")
    assert [each.command.lines for each in one] == [each.command.lines for each in other]
    assert not {each.saga for each in one} & {each.saga for each in other}
    assert [each.command.lines for each in made(seed=1)] != [each.command.lines for each in one]


def test_every_order_is_valid_but_the_bad_ones_and_its_id_is_the_services() -> None:
    share = 1 / len(POSSIBLE)
    orders = made(kinds={kind: share for kind in POSSIBLE if kind is not Kinds.PLAIN}, lines=Between(1, 4))
    assert {each.kind for each in orders} == set(POSSIBLE)
    for each in orders:
        assert bool(validate(each.command)) == (each.kind is Kinds.BAD)
        assert each.saga == order_id(each.command.customer, each.command.idempotency_key)
        assert (each.cancel_after is not None) == each.kind.startswith("cancelled")


def test_kinds_come_as_often_as_their_shares_say() -> None:
    counts = Counter(each.kind for each in made(5_000, kinds={Kinds.DECLINED: 0.1, Kinds.SOLD_OUT: 0.05}))
    assert counts[Kinds.DECLINED] == pytest.approx(500, rel=0.2)
    assert counts[Kinds.SOLD_OUT] == pytest.approx(250, rel=0.3)


def test_all_that_is_asked_for_is_delivered_but_what_is_sold_out() -> None:
    orders = Orders(Mix(kinds={Kinds.SOLD_OUT: 0.2}, lines=Between(2, 3), skus=5), "r", prefix="x/")
    stock = dict(orders.stock())
    for each in (orders.next() for _ in range(300)):
        missing = [line.sku for line in each.command.lines if line.sku not in stock]
        assert missing == (["x/sold-out"] if each.kind is Kinds.SOLD_OUT else [])


def test_by_zipf_the_first_sku_is_wanted_as_often_as_its_rank_says() -> None:
    def popularity(zipf: float) -> Counter[str]:
        return Counter(line.sku for each in made(20_000, skus=100, zipf=zipf) for line in each.command.lines)

    even, hot = popularity(0.0), popularity(1.0)
    assert max(even.values()) < 2 * min(even.values())
    assert hot["sku-00001"] / hot["sku-00010"] == pytest.approx(10, rel=0.25)


def test_lines_and_quantities_are_within_their_bounds() -> None:
    orders = made(lines=Between(2, 4), quantity=Between(3, 5))
    assert {len(each.command.lines) for each in orders} == {2, 3, 4}
    assert {line.quantity for each in orders for line in each.command.lines} == {3, 4, 5}


@pytest.mark.parametrize("text", ["declined", "declined=x", "nobody=0.1", "declined=2", "declined=0.6,sold_out=0.6"])
def test_a_mix_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_mix(text)


def test_a_mix_is_read() -> None:
    assert parse_mix("declined=0.03, plain=0.9,sold_out=0") == {Kinds.DECLINED: 0.03}
    assert kinds_of({"bad": 0.1}, "") == {Kinds.BAD: 0.1}
    with pytest.raises(ConfigError, match="HTTP lets no bad order in"):
        Mix(kinds={Kinds.BAD: 0.1}).check(over_http=True)


@pytest.mark.parametrize("text", ["0", "3-1", "a", "1-101", "-1", "1-2-3"])
def test_a_range_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="not a number or two"):
        Between.parse(text, 100, "--lines")

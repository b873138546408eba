"""What a shadow replay found, for people and for scripts."""

from __future__ import annotations

import json

from farandole.replay.differing import Differing, Shadow, Side

SHOWN = 20
"""Sagas that are shown to people."""

KEYS = 3
"""Keys of a table's rows that are shown to people."""

ORDER = ("completed", "cancelled", "refused", "parked", "open")


def show(found: Shadow, as_json: bool) -> None:
    """On standard output."""
    if as_json:
        print(json.dumps(found.to_dict()), flush=True)
        return
    rate = found.records / found.seconds if found.seconds else 0.0
    print(
        f"{found.records:,} records, {found.messages:,} messages decided in {found.lines:,} transactions: "
        f"{found.seconds:.1f} s, {rate:,.0f} records/s"
    )
    print(f"\n{'chosen' if found.chosen else 'orders':<12}{'then':>10}{'now':>10}")
    for ending in ORDER:
        if found.before[ending] or found.after[ending]:
            print(f"{ending:<12}{found.before[ending]:>10,}{found.after[ending]:>10,}")
    if found.differing:
        _differences(found)
    elif found.left:
        print(
            f"\nno saga differs{' of those that were chosen' if found.chosen else ''}; {found.left:,} left the record"
        )
    elif found.rows_differing:
        print("\nno saga differs, but rows do")
    else:
        print("\nnothing differs: today's rules would have done the same")
    if found.rows_differing:
        _rows(found)
    if found.moving:
        print(f"\nnot compared, because they never stood still: the tables of {', '.join(found.moving)}")
    if found.partial:
        print(f"\nnot compared, because their beginning is past retention: the events in {', '.join(found.partial)}")


def _differences(found: Shadow) -> None:
    otherwise = found.ended_otherwise
    print(f"\n{len(found.differing):,} differ, {len(otherwise):,} would have ended otherwise")
    before, after = (sum(side(each).charged for each in found.differing) for side in (_before, _after))
    print(f"charged by those that differ: {before:,} then, {after:,} now (minor units)")
    unasked = sum(len(each.unasked) for each in found.differing)
    if unasked:
        print(f"{unasked:,} outside calls were never made then: what follows from them rests on --unasked")
    for each in (otherwise or found.differing)[:SHOWN]:
        print(f"  {each.saga}: {_ending(each.before)} → {_ending(each.after)}; first {_first(each)}")
    if len(otherwise or found.differing) > SHOWN:
        print(f"  and {len(otherwise or found.differing) - SHOWN:,} more (--out FILE writes all of them)")


def _rows(found: Shadow) -> None:
    """Of all sagas: a row need not be of one of them."""
    print("\nrows that differ in the end, of all sagas:")
    for service, tables in found.tables.items():
        for table in tables:
            if table.count:
                keys = ", ".join(f"{each['key']} [{each['partition']}]" for each in table.samples[:KEYS])
                print(f"  {service} {table.table}: {table.count:,}, {'such as ' * (table.count > KEYS)}{keys}")


def _before(each: Differing) -> Side:
    return each.before


def _after(each: Differing) -> Side:
    return each.after


def _ending(side: Side) -> str:
    return f"{side.ending} ({side.cause})" if side.cause else side.ending


def _first(each: Differing) -> str:
    if not each.first:
        return "that it is parked or not"
    then, now = (each.first[which] for which in ("before", "after"))
    names = ["nothing" if side is None else side["type"] or "unreadable bytes" for side in (then, now)]
    return f"{names[0]} → {names[1]}" if names[0] != names[1] else f"another {names[0]}"

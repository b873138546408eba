"""`farandole audit`: the report as tables for people, as one JSON object for scripts."""

from __future__ import annotations

import json
import sys
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from farandole.cli.progress import shown

if TYPE_CHECKING:
    from rich.console import Console

    from farandole.audit import Report

FOUND = 1
"""Exit code when something is wrong; 4 (AuditError) when the audit could not be carried out."""

ENTRIES = 20
"""Entries of each list that are shown to people."""


def command(
    settled: Annotated[
        bool,
        typer.Option(
            "--settled",
            help="The system is at rest: what has not ended, and is neither parked nor a live challenge, fails.",
        ),
    ] = False,
    open_for: Annotated[
        float,
        typer.Option(help="Seconds that an order or a transfer may take before it fails, if not --settled.", min=0),
    ] = 3_600.0,
    gateway: Annotated[
        str | None, typer.Option(help="Compare with what the payment gateway at this URL says in /state.")
    ] = None,
    mail: Annotated[
        str | None, typer.Option(help="Look in all topics for the passcodes that the mail sink at this URL has sent.")
    ] = None,
    patience: Annotated[
        float, typer.Option(help="Seconds without a record after which the reading is given up.", min=1)
    ] = 60.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Read every topic as an outsider would and say whether every promise held.

    Orders, transfers and logins are judged alike. It joins no consumer group, commits nothing and writes nothing, so it
    may be run at any time, on any cluster that KAFKA_BOOTSTRAP_SERVERS names. Exit code 0: all is well. 1: something is
    wrong. 4: it could not be carried out.

    Example: farandole audit --settled --gateway http://127.0.0.1:7801
    """
    from farandole import audit

    with shown() as progress:
        report = audit.run(
            settled=settled, open_for=open_for, gateway=gateway, mail=mail, patience=patience, progress=progress
        )
    if as_json:
        print(json.dumps(report.to_dict()))
    else:
        show(report)
    if not report.ok:
        raise typer.Exit(FOUND)


def show(report: Report, console: Console | None = None) -> None:
    """Tables for people, on standard output."""
    from rich.console import Console as RichConsole

    console = console or RichConsole(soft_wrap=True, highlight=False)
    _read(report, console)
    _orders(report, console)
    _figures(report, console)
    _stock(report, console)
    _money(report, console)
    _bank(report, console)
    _services(report, console)
    _parked(report, console)
    _list(console, "notes", report.notes)
    _findings(report, console)


def _table(*columns: str) -> Any:
    """First column left, the others right."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    return table


def _read(report: Report, console: Console) -> None:
    reading = report.reading
    named = f" of {reading.namespace!r}" if reading.namespace else ""
    rate = f", {reading.records / reading.seconds:,.0f}/s" if reading.seconds > 1 else ""
    console.print(f"{reading.records:,} records in {reading.topics} topics{named} in {reading.seconds:.1f} s{rate}")


def _orders(report: Report, console: Console) -> None:
    orders = report.orders
    table = _table("orders", "")
    table.add_row("accepted", f"{orders.accepted:,}")
    table.add_row("  completed", f"{orders.completed:,}")
    table.add_row("  cancelled", f"{orders.cancelled:,}")
    for cause, count in sorted(orders.cancelled_by.items()):
        table.add_row(f"    {cause}", f"{count:,}")
    table.add_row("  parked", f"{orders.parked:,}")
    table.add_row("  open", f"{orders.open:,}")
    table.add_row("refused", f"{orders.refused:,}")
    for name, count in (("asked for, not answered", orders.unanswered), ("older than the topics", orders.older)):
        if count:
            table.add_row(name, f"{count:,}")
    table.add_row("ids used twice", f"{report.duplicate_ids:,}")
    console.print("", table)
    if orders.open_ids and not report.settled:
        _list(console, "open", orders.open_ids, orders.open)


def _figures(report: Report, console: Console) -> None:
    for flow, figures in sorted(report.figures.items()):
        table = _table(flow, "")
        for how, count in sorted(figures.items()):
            table.add_row(how, f"{count:,}")
        console.print("", table)


def _stock(report: Report, console: Console) -> None:
    drift = report.stock_drift
    total = {name: sum(getattr(sku, name) for sku in report.skus.values()) for name in ("received", "held", "sold")}
    table = _table("stock", "received", "available", "held", "sold", "drift")
    available = total["received"] - total["held"] - total["sold"]
    name = f"{len(report.skus):,} skus"
    differing = f"{len(drift):,} skus" if report.stock_compared else "not compared"
    numbers = (total["received"], available, total["held"], total["sold"])
    table.add_row(
        name, *(f"{number:,}" for number in numbers), differing if drift or not report.stock_compared else "0"
    )
    for sku in list(drift)[:ENTRIES]:
        figures = report.skus[sku]
        row = (figures.received, figures.available, figures.held, figures.sold)
        difference = " ".join(f"{value:+} {what}" for what, value in drift[sku].items() if value)
        table.add_row(f"  {sku}", *(f"{number:,}" for number in row), difference)
    console.print("", table)


def _money(report: Report, console: Console) -> None:
    if not report.accounts:
        return
    table = _table("ledger (minor units)", "posted", "implied", "drift")
    for (currency, account), figures in sorted(report.accounts.items()):
        drift = figures.posted - figures.implied
        table.add_row(f"{currency} {account}", f"{figures.posted:,}", f"{figures.implied:,}", f"{drift:,}")
    console.print("", table)
    if report.gateway_operations is not None:
        console.print(f"compared with {report.gateway_operations:,} operations of the gateway")


def _bank(report: Report, console: Console) -> None:
    if report.transfers:
        table = _table("transfers", "")
        for end, count in sorted(report.transfers.items()):
            table.add_row(f"  {end}", f"{count:,}")
        console.print("", table)
    bank = report.bank
    if bank.accounts:
        table = _table(f"{bank.accounts:,} bank accounts (minor units)", "paid in", "held", "in flight")
        for currency, figures in bank.to_dict()["money"].items():
            table.add_row(currency, *(f"{figures[name]:,}" for name in ("funded", "held", "in_flight")))
        console.print("", table)


def _services(report: Report, console: Console) -> None:
    waiting = Counter(call.service for call in report.waiting)
    parked = report.parked_by_service
    names = sorted({*waiting, *parked, *report.timers, *(service for service, _ in report.letters)})
    if names:
        table = _table("service", "parked", "calls waiting", "timers set", "dead letters")
        for name in names:
            letters = sum(count for (service, _), count in report.letters.items() if service == name)
            counts = (parked.get(name, 0), waiting[name], report.timers.get(name, 0), letters)
            table.add_row(name, *(f"{count:,}" for count in counts))
        console.print("", table)
    letters_by_reason = [f"{service}: {count:,} {why}" for (service, why), count in sorted(report.letters.items())]
    _list(console, "dead letters", letters_by_reason, counted=False)
    became = [f"{service}: {count:,} {outcome}" for (service, outcome), count in sorted(report.operations.items())]
    _list(console, "operations on dead letters", became, counted=False)
    unreadable = [f"{bad.where}: {bad.why}" for bad in report.undecodable]
    _list(console, "records that are no events", unreadable, report.undecodable_count)


def _parked(report: Report, console: Console) -> None:
    lines = [
        f"{each.saga}: {each.service} has {each.messages} of its messages in {each.letter or each.service + '.dlq'}, "
        f"since {each.source}: {each.error or each.reason}"
        for each in report.parked
    ]
    _list(console, "parked", lines)


def _findings(report: Report, console: Console) -> None:
    if report.ok:
        console.print("\nall is well", style="bold green")
        return
    console.print(f"\n{sum(report.counts.values()):,} findings", style="bold red")
    for check, count in sorted(report.counts.items()):
        found = [finding for finding in report.findings if finding.check == check]
        console.print(f"\n{check} ({count:,}): {found[0].means if found else ''}", markup=False, style="bold")
        for finding in found[:ENTRIES]:
            console.print(f"  {finding.place}: {finding.what}", markup=False)
        if count > ENTRIES:
            console.print(f"  and {count - ENTRIES:,} more (--json shows more)")


def _list(console: Console, title: str, entries: list[str], count: int | None = None, counted: bool = True) -> None:
    if not entries:
        return
    count = len(entries) if count is None else count
    console.print(f"\n{title} ({count:,})" if counted else f"\n{title}", markup=False, style="bold")
    for entry in entries[:ENTRIES]:
        console.print(f"  {entry}", markup=False)
    if count > ENTRIES:
        console.print(f"  and {count - ENTRIES:,} more (--json shows more)")
    sys.stdout.flush()

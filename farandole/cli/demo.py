"""`farandole demo`: what `make demo` runs."""

from __future__ import annotations

import importlib
import json
import signal
from typing import Annotated, Any

import typer

from farandole.cli.progress import show_outcome, shown, terminated, until_interrupted
from farandole.errors import ConfigError, FarandoleError

WAYS = {"http": ("http",), "kafka": ("kafka",), "both": ("http", "kafka")}


def command(
    orders: Annotated[
        int, typer.Option(help="Orders to place, transfers or logins; bad ones come in addition.")
    ] = 1_000,
    flow: Annotated[
        list[str] | None,
        typer.Option(
            help="Flows in which orders are placed, with commas: order (unless said otherwise), order-pay-first, …, or "
            "all of these. Or transfer alone, or login alone."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Which orders, and what goes wrong with which.")] = 0,
    failures: Annotated[bool, typer.Option(help="Whether anything is to go wrong on purpose.")] = True,
    kill: Annotated[
        list[str] | None,
        typer.Option(
            help="SERVICE@N: kill -9 its worker at N accepted orders (transfers, logins), start it again. Repeatable."
        ),
    ] = None,
    workers: Annotated[
        list[str] | None, typer.Option(help="SERVICE=N: so many workers of it instead of one. Repeatable.")
    ] = None,
    transport: Annotated[
        str | None, typer.Option(help="How orders or transfers are placed: http, kafka or both (the default).")
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(
            help="Orders or transfers placed per second (100), or visitors (40, also the most).", min=0.1, max=10_000
        ),
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(help="Seconds for the last orders or transfers to end (120).", min=1, max=86_400),
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave it all running, to look at, until Ctrl-C.")] = False,
    use_running: Annotated[
        bool,
        typer.Option(
            "--use-running", help="Start nothing: use the system that the environment names (docker compose)."
        ),
    ] = False,
    order_url: Annotated[
        str | None,
        typer.Option(help="With --use-running: address of the order service; ORDER_URL, or http://127.0.0.1:6066."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object; the audit is under `audit`.")] = False,
) -> None:
    """Place orders against a whole system on this machine, move money or log in; break some; audit the end.

    Starts Kafka (or uses the one that runs, or KAFKA_BOOTSTRAP_SERVERS), a payment gateway, a carrier, a mail sink and
    the services of the flows; everything that it starts it stops. Exit code 0 if every order and transfer ended or is
    parked, as it may, every visitor was answered as he may be, and the audit holds; 130 after Ctrl-C.

    Example: farandole demo --orders 5000 --kill payment@2000
             farandole demo --flow order,order-pay-first
             farandole demo --flow transfer --kill accounts@200
             farandole demo --flow login
    """
    from farandole.demo.flows import show
    from farandole.demo.mischief import Kill, parse_workers
    from farandole.demo.run import Options

    if transport is not None and transport not in WAYS:
        raise ConfigError(f"no such transport: {transport}", where="--transport", mend="http, kafka or both")
    chosen = show(flow or ())
    demos: Any = importlib.import_module(chosen.module)
    given = {"--transport": transport, "--timeout": timeout, "--order-url": order_url}
    for name in demos.UNUSED:
        if given[name] is not None:
            raise ConfigError(f"{name} means nothing to the demo of {chosen.flows[0]}", where=name, mend="leave it out")
    options = Options(
        orders=orders,
        seed=seed,
        failures=failures,
        kills=tuple(Kill.parse(text) for text in kill or ()),
        workers=tuple(parse_workers(text) for text in workers or ()),
        ways=WAYS[transport or "both"],  # type: ignore[arg-type]
        rate=demos.RATE if rate is None else rate,
        timeout=Options.timeout if timeout is None else timeout,
        use_running=use_running,
        order_url=order_url,
        flows=chosen.flows,
    )
    try:
        ok = _play(demos, options, keep, as_json)
    except FarandoleError as error:
        if as_json:
            print(json.dumps({"ok": False, "problems": [str(error)], "audit": None}), flush=True)
        raise
    raise typer.Exit(0 if ok else 1)


def _play(demos: Any, options: Any, keep: bool, as_json: bool) -> bool:
    signal.signal(signal.SIGTERM, terminated)
    with shown() as progress, demos.prepared(options, progress) as demo:
        outcome = demo.play(progress)
        outcome.next_steps = demo.next_steps(keep)
        if keep:
            progress("it all runs until Ctrl-C", 0, 0)
            show_outcome(outcome, as_json, demos.print_outcome)
            until_interrupted()
    if not keep:
        show_outcome(outcome, as_json, demos.print_outcome)
    return bool(outcome.ok)

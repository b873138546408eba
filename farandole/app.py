"""A service: a Faust App whose agents get batches, and whose tables change in the transaction of the outcome.

    app = App("inventory")
    levels = app.Table("levels", value=StockLevel, help="...")

    @app.agent(app.inbox)
    async def inventory(batches):
        async for batch in batches:
            batch.decide()

What is Faust's stays Faust's: lifecycle, worker command line, supervision, web views, timers, ordinary
`@app.agent(topic)` for side work that needs no guarantee. The engine comes in by the public extension points:
`BootStrategy`, `mode.Service`, a `Channel` and a `Table` of ours.
"""

from __future__ import annotations

import contextlib
import importlib
import socket
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import faust
from faust.app.base import BootStrategy
from faust.channels import Channel
from faust.exceptions import AlreadyConfiguredWarning
from yarl import URL

from farandole import answers, config
from farandole import table as tables
from farandole.answers import MAX_BODY
from farandole.errors import ConfigError, FarandoleError
from farandole.table import RowT, UndoLog


class Inbox(Channel[Any]):
    """Where batches come from: the channel of the agent that decides them. Fed by the engine, not by Faust's
    consumer.
    """

    def get_topic_name(self) -> str:
        """What `faust agents` shows as the agent's topic: all that the service hears."""
        return "<inbox>"


class _Boot(BootStrategy):
    """Starts the engine; Faust's own Kafka client only when there are ordinary agents."""

    app: App

    def server(self) -> Iterable[Any]:
        try:
            engine = self.app.engine_services()
        except FarandoleError as error:
            # What its user can mend is told, not traced; nothing has been started yet.
            print(f"error: {error}", file=sys.stderr)
            raise SystemExit(error.exit_code) from error
        self.enable_kafka = bool(self.app.ordinary_agents)
        if self.enable_kafka:
            self.app.use_faust_client()
        for module in filter(None, ["farandole.views", self.app.views]):
            importlib.import_module(module).add_views(self.app)
        return [*super().server(), *engine]

    def agents(self) -> Iterable[Any]:
        return super().agents() if self.app.ordinary_agents else []


class App(faust.App):
    """A service of the system.

    id:    the service's name; its consumer group, journal, dead letter queue and changelogs are called after it
    views: module with HTTP views (`@app.page`), imported when a worker starts
    intake: topic with which clients begin sagas; paused while too many are open, as its tables' `ended` tells
            (FARANDOLE_OPEN_SAGAS)
    flows: package whose flows bind this service's decisions
    discreet: its figures are for who has FARANDOLE_METRICS_KEY, as strangers could learn from them
    """

    BootStrategy = _Boot

    def __init__(
        self,
        id: str,
        *,
        views: str | None = None,
        intake: str | None = None,
        flows: str = "flows",
        discreet: bool = False,
        **options: Any,
    ) -> None:
        options.setdefault("topic_disable_leader", True)
        options.setdefault("worker_redirect_stdouts", False)
        options.setdefault("autodiscover", False)
        options.setdefault("broker", _broker_urls())
        options.setdefault("datadir", _datadir(id))
        options.setdefault("web_application_options", {"middlewares": [answers.guard()], "client_max_size": MAX_BODY})
        # Faust's own pages about tables know nothing of the engine's: they would answer 500.
        options.setdefault("web_router_enabled", False)
        options.setdefault("web_tables_enabled", False)
        super().__init__(id, **options)
        self.service_name = id
        self.views, self.intake, self.flows_package = views, intake, flows
        self.discreet = discreet
        self.outsides: dict[str, str] = {}
        self.fills: dict[str, str] = {}
        self.undo_log: UndoLog = []
        self.rows: dict[str, tables.Table[Any]] = {}
        self.inbox = Inbox(self)
        self.engine: Any = None
        self.doors: list[Any] = []

    def Table(  # type: ignore[override]
        self,
        name: str,
        *,
        value: type[RowT],
        ended: Callable[[RowT], bool] | None = None,
        keep: tables.Keep | None = None,
        help: str = "",
        **options: Any,
    ) -> tables.Table[RowT]:
        """A table of the service: string keys, values of class `value`; changelog topic `<id>-<name>-changelog`.

        ended: tells of a row that its saga has ended, so that it may go a week later (FARANDOLE_KEEP_SECONDS)
        keep: seconds of that week → seconds for which an ended row of this table stays, where that is another time
        """
        table = tables.Table(
            self,
            name=name,
            value=value,
            log=self.undo_log,
            ended=ended,
            keep=keep,
            help=help,
            beacon=self.tables.beacon,
            **options,
        )
        self.rows[name] = table
        self.tables.add(table)
        return table

    def outside(self, name: str, env: str, *, fill: str = "") -> str:
        """Declare a system that this service calls; its base URL is the environment variable `env`. Returns `name`.

        fill: `module:function` that gives, when a worker starts, what fills in the bodies of calls when they are sent
              (farandole.outside.Fill): for secrets that no topic may hold
        """
        self.outsides[name] = env
        if fill:
            self.fills[name] = fill
        return name

    @property
    def ordinary_agents(self) -> list[Any]:
        return [agent for agent in self.agents.values() if not isinstance(agent.channel, Inbox)]

    def use_faust_client(self) -> None:
        """Faust's own Kafka client, for ordinary agents: another consumer group than the engine's."""
        with warnings.catch_warnings():
            # Faust warns because the setting has been read; its consumer, which the group is for, is made after this.
            warnings.simplefilter("ignore", AlreadyConfiguredWarning)
            self.conf.id = f"{self.engine.processor.group}-side"

    def batch_agent(self) -> Any:
        """The one agent of `app.inbox`. ConfigError if there is none, or more."""
        agents = [agent for agent in self.agents.values() if isinstance(agent.channel, Inbox)]
        if len(agents) != 1:
            raise ConfigError(
                f"{self.service_name} has {len(agents)} agents of app.inbox, it needs one",
                where=f"agents/{self.service_name}.py",
                mend="@app.agent(app.inbox)\nasync def NAME(batches): async for batch in batches: batch.decide()",
            )
        return agents[0]

    def address(self) -> str:
        """URL under which this worker answers HTTP, or empty if it does not."""
        return str(self.conf.canonical_url).rstrip("/") if self.conf.web_enabled else ""

    def serve_http(self, port: int | None, host: str = "127.0.0.1") -> None:
        """Answer HTTP on `port` (0: any free one), reachable for others under `host`; None: not at all."""
        self.conf.web_enabled = port is not None
        if port is not None:
            self.conf.web_port = port or _free_port()
            self.conf.web_host = host
            self.conf.canonical_url = URL(f"http://{host}:{self.conf.web_port}")

    def check_port(self, patience: float = 0.0) -> None:
        """ConfigError if the HTTP port is taken: found before the group is joined, not after.

        patience: seconds for a predecessor to close it
        """
        end = time.monotonic() + patience
        while self.conf.web_enabled and (taken := self._try_port()):
            if time.monotonic() >= end:
                raise ConfigError(
                    f"the HTTP port of {self.service_name} cannot be used: {taken.strerror}",
                    where=f"{self.conf.web_bind}:{self.conf.web_port}",
                    mend="choose another with --web-port, or run without HTTP: --without-web",
                ) from taken
            time.sleep(0.01)

    def _try_port(self) -> OSError | None:
        """What stands against listening there."""
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((self.conf.web_bind, self.conf.web_port))
            except OSError as error:
                return error
        return None

    def engine_services(self) -> list[Any]:
        """The engine of this app, as a service that Faust starts and stops. Imported late: decisions are tested
        without Kafka.
        """
        runtime = importlib.import_module("farandole.runtime")
        return [runtime.EngineService(self, loop=self.loop, beacon=self.beacon)]


def _broker_urls() -> list[str]:
    """The cluster as Faust wants it said; Faust's default where there is none yet, so that decisions can be tested."""
    try:
        return [f"kafka://{server.strip()}" for server in config.bootstrap_servers().split(",")]
    except FarandoleError:
        return ["kafka://localhost:9092"]


def _datadir(id: str) -> str:
    """A directory for Faust, which wants one although the engine's tables are in memory."""
    try:
        home = config.home()
    except FarandoleError:
        home = Path(".farandole")
    path = home / "faust" / id
    with contextlib.suppress(OSError):  # a read-only container; Faust says so itself if it needs it
        path.mkdir(parents=True, exist_ok=True)
    return str(path)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

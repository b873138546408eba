"""The audit from beginning to end: read, judge, look again where it matters, read once more for the words.

Invariant: whatever keeps the audit from being carried out is an AuditError, never a report. So a report that says
that all is well rests on every record that was there when it began.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import events
from farandole import config as settings
from farandole.audit.chain import Witness
from farandole.audit.findings import Finding, Findings
from farandole.audit.fold import Fold
from farandole.audit.gateway import Gateway
from farandole.audit.judging import History, Judgement, Persistence, Terms, compare_gateway, judge
from farandole.audit.passcodes import Passcodes
from farandole.audit.reading import PATIENCE, Offsets, Progress, Reader, Source
from farandole.audit.records import LogRecord, Place
from farandole.audit.report import Reading, Report
from farandole.codec import Codec
from farandole.config import ClientConfig
from farandole.errors import AuditError, FarandoleError
from farandole.registry import configured
from farandole.topics import Topic, Topics

OPEN_FOR: Final = 3_600.0
"""Seconds that an order may take before it counts as stuck, unless the system is said to be at rest."""

ROUNDS: Final = 3
"""Times that what may be a matter of the moment is judged, at ends asked for later each time."""

PAUSE: Final = 0.5
"""Seconds between two of them: many transactions long, so that the same cut is not made twice."""

DAY_MS: Final = 24 * 60 * 60 * 1000


def silent(what: str, done: int, total: int) -> None:
    """Reports progress to nobody."""


@dataclass(frozen=True)
class Options:
    """How strict the audit is.

    settled:  the system is said to be at rest: every order has ended or is parked, nothing is merely late
    open_for: seconds that an order may take otherwise
    pause:    seconds between two looks at what may be a matter of the moment
    """

    settled: bool = False
    open_for: float = OPEN_FOR
    pause: float = PAUSE


def run(
    config: ClientConfig | None = None,
    namespace: str | None = None,
    root: Path | None = None,
    *,
    settled: bool = False,
    open_for: float = OPEN_FOR,
    gateway: str | None = None,
    mail: str | None = None,
    patience: float = PATIENCE,
    progress: Progress = silent,
) -> Report:
    """Audit one installation. AuditError if that cannot be done.

    config:    bootstrap servers and security, for librdkafka; None: as the environment says
    namespace: prefix of its topics; None: as the environment says
    root:      directory of topics.yaml and schemas/; None: the project's
    settled, open_for: see Options
    gateway:   URL under which the payment gateway answers /state; None: it is not asked
    mail:      URL under which the mail sink tells which passcodes it sent; None: none is looked for
    patience:  seconds without a record after which the reading is given up
    """
    try:
        config = settings.kafka_client_config() if config is None else config
        namespace = settings.namespace() if namespace is None else namespace
        root = settings.project_root() if root is None else Path(root)
        topics = Topics.load(root / "topics.yaml")
        codec = Codec.load(root / "schemas", events, configured(namespace))
        asked = Gateway(gateway) if gateway else None
        settings.check_broker(config)
        if asked:
            asked.ask()
        passcodes = Passcodes.of_mail(mail) if mail else None
        reader = Reader(config, namespace, topics.topics, patience)
        try:
            return audit(reader, codec, topics, Options(settled, open_for), asked, progress, namespace, passcodes)
        finally:
            reader.close()
    except AuditError:
        raise
    except FarandoleError as error:
        raise AuditError(error.what, where=error.where, mend=error.mend) from error


def audit(
    source: Source,
    codec: Codec,
    topics: Topics,
    options: Options,
    gateway: Gateway | None = None,
    progress: Progress = silent,
    namespace: str = "",
    passcodes: Passcodes | None = None,
) -> Report:
    """Audit a source. gateway: asked once already, before the source's ends; passcodes: to be looked for"""
    return _Audit(source, codec, topics, options, gateway, progress, namespace, passcodes).run()


class _Audit:
    def __init__(
        self,
        source: Source,
        codec: Codec,
        topics: Topics,
        options: Options,
        gateway: Gateway | None,
        progress: Progress,
        namespace: str,
        passcodes: Passcodes | None,
    ) -> None:
        self.source, self.topics, self.options, self.gateway = source, topics, options, gateway
        self.progress = progress
        self.fold = Fold(codec, topics, source.partitions, passcodes)
        self.persistence = Persistence()
        self.first = _FirstTimes(self.fold.take, {place for place, start in source.starts.items() if start > 0})
        self.reading = Reading(namespace, len(source.partitions), len(source.starts))

    def run(self) -> Report:
        began = time.monotonic()
        ends = self._read(self.source.starts, self.first.take, "reading the topics")
        self.reading.seconds = time.monotonic() - began
        judgement = self._judge()
        while self.persistence.doubtful and self.reading.rounds < ROUNDS:
            time.sleep(self.options.pause)
            ends = self._read(ends, self.fold.take, "looking once more")
            judgement = self._judge()
        findings = self._findings(judgement)
        self._explain(ends, findings)
        self.reading.events = self.fold.counts["events"]
        return self._report(judgement, findings)

    def _read(self, first: Offsets, take: Callable[[LogRecord], None], what: str) -> Offsets:
        """Read from `first` to where the topics end now; returns those ends."""
        ends = self.source.ends()
        self.reading.records += self.source.read(first, ends, take, self.progress, what)
        return ends

    def _judge(self) -> Judgement:
        self.fold.settle()
        now = time.time_ns() // 1_000_000
        history = History(self.source.starts, horizon(self.topics.topics, self.source.starts, self.first.times, now))
        judgement = judge(self.fold, Terms(self.options.settled, self.options.open_for, now), history)
        self.persistence.add(judgement)
        self.reading.rounds += 1
        return judgement

    def _findings(self, judgement: Judgement) -> Findings:
        """What is certain, what was there each time, and what the gateway says."""
        findings = Findings()
        certain = [finding for finding in judgement.findings if not finding.momentary]
        for finding in (*self.fold.findings, *certain, *self.persistence.confirmed):
            _keep(finding, findings)
        for check, subject in self.persistence.moving:
            if self.options.settled:
                what = "it is wrong, each time in another way, while the system is said to be at rest"
                findings.add(check, what, saga=subject)
            else:
                judgement.notes.append(f"{check} of {subject}: it moves too much to be judged; audit when it is quiet")
        if self.gateway:
            self.gateway.ask()
            compare_gateway(self.gateway, self.fold, judgement.moment, findings)
        return findings

    def _explain(self, ends: Offsets, findings: Findings) -> None:
        """Read it all a second time, if an id or a cause is wrong, to say what it is."""
        suspects = self.fold.chain.suspects | self.persistence.missing
        if suspects:
            witness = Witness(suspects)
            hear = self.fold.witness(witness)
            self.source.read(self.source.starts, ends, hear, self.progress, "looking for what is behind it")
            witness.testify(findings)

    def _report(self, judgement: Judgement, findings: Findings) -> Report:
        fold, notes = self.fold, judgement.notes
        if fold.counts["wrong_keys"]:
            notes.append(
                f"{fold.counts['wrong_keys']} records of clients lie under a wrong key: services put them aside"
            )
        if discarded := fold.services.discarded:
            first = discarded[0]
            whose = f"of {first.saga} " if first.saga else ""
            notes.append(
                f"operators have discarded {len(discarded)} dead letters: {first.service}'s {first.source} {whose}"
                f"({first.who}: {first.why}){' and others' if len(discarded) > 1 else ''}; "
                "what would have come of them never comes"
            )
        if fold.unchecked:
            unknown = ", ".join(sorted(fold.unchecked))
            notes.append(f"no audit knows the flows {unknown}: ids and causes alone were checked")
        return Report(
            reading=self.reading,
            findings=list(findings),
            counts=findings.counts,
            notes=notes,
            orders=judgement.moment.orders,
            figures=judgement.moment.figures,
            skus=dict(judgement.moment.skus),
            accounts=judgement.accounts,
            transfers=judgement.moment.transfers,
            bank=judgement.bank,
            duplicate_ids=fold.chain.duplicates,
            parked=judgement.parked,
            waiting=judgement.waiting,
            timers=fold.services.timers,
            letters=fold.services.letter_counts,
            operations=fold.services.outcomes,
            discarded=fold.services.discarded,
            undecodable=fold.bad,
            undecodable_count=fold.counts["undecodable"],
            unchecked_flows=dict(fold.unchecked),
            stock_compared=not judgement.moment.horizon,
            settled=self.options.settled,
            gateway_operations=self.gateway.operations if self.gateway else None,
        )


def _keep(finding: Finding, findings: Findings) -> None:
    findings.add(finding.check, finding.what, where=finding.where, saga=finding.saga)


class _FirstTimes:
    """Hands records on, and notes the time of the first one in partitions that have lost some."""

    def __init__(self, take: Callable[[LogRecord], None], shortened: set[Place]) -> None:
        self.times: dict[Place, int] = {}
        self._then, self._open = take, shortened
        self.take = self._look if shortened else take

    def _look(self, record: LogRecord) -> None:
        place = (record.topic, record.partition)
        if place in self._open:
            self.times[place] = record.time
            self._open.discard(place)
        self._then(record)


def horizon(
    topics: Mapping[str, Topic], starts: Mapping[Place, int], first_times: Mapping[Place, int], now: int
) -> int:
    """Record time (ms) from which no event is missing; 0 if none has been deleted.

    What is gone is older than the first record that is left; and, where the topic keeps records for days, older than
    that, which says more about topics in which little happens.
    """
    latest = 0
    for (name, partition), start in starts.items():
        topic = topics[name]
        if start > 0 and topic.events:
            bounds = [first_times.get((name, partition), now)]
            days, _, unit = topic.retention.partition(" ")
            if unit == "days":
                bounds.append(now - int(days) * DAY_MS)
            latest = max(latest, min(bounds))
    return latest

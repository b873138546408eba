"""A shadow replay that was stopped or killed anywhere goes on to the same end, and reads nothing twice."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from agents import order as orders
from events import PlaceOrder, StockHoldRequested
from farandole import config
from farandole.audit.records import Place
from farandole.errors import ConfigError, FarandoleError, ReplayError
from farandole.replay import playstate, shadowing
from farandole.replay.chain import Chain
from farandole.replay.differing import Shadow
from farandole.replay.history import Log, Replayed, Spool
from farandole.replay.moments import Moments
from farandole.replay.readstate import State, look
from farandole.replay.resuming import Kept
from farandole.replay.rules import digest
from farandole.replay.shadowing import plan, shadow
from farandole.replay.world import World
from farandole.simulation.workers import Workshop
from tests.replay.maker import Maker, order, ordered
from tests.replay.model import ModelSource, played, quiet
from tests.replay.test_shadow import ACCEPTED, changed, few_pieces_only, made, replicas_of, single_pieces_only

HISTORIES = ((0, "sparing"), (55, "strict"), (58, "strict"))
"""Seeds, and rules with which they are played: together they have in them all that a play can carry along, but one."""


@pytest.fixture(scope="module")
def workshop() -> Workshop:
    return Workshop()


@pytest.fixture(scope="module")
def rules() -> dict[str, Workshop]:
    return {
        "strict": changed("order", PlaceOrder, few_pieces_only),
        "sparing": changed("inventory", StockHoldRequested, single_pieces_only),
    }


def told(found: Shadow) -> dict[str, Any]:
    """All of it but how long it took."""
    return {name: said for name, said in found.to_dict().items() if "seconds" not in name}


def resumed(source: Any, rules: Workshop, path: Path, digest: str = "then", moments: Moments | None = None) -> Shadow:
    """By a new process: nothing but the directory is what it was."""
    with Kept(path, "", "", digest, moments) as kept:
        return shadow(source, rules.topics, replicas_of(rules, source.partitions["order"]), quiet, kept=kept)


def fresh(source: Any, rules: Workshop) -> Shadow:
    return shadow(source, rules.topics, replicas_of(rules, source.partitions["order"]), quiet)


def interrupted() -> None:
    raise KeyboardInterrupt


class Killed(BaseException):
    """kill -9: nothing is done any more."""


def killed() -> None:
    raise Killed


def never() -> Moments:
    return Moments(1e9)


def at(count: int, what: Callable[[], None], then: Callable[..., Any]) -> Callable[..., Any]:
    """The function, which does something else before its n-th call."""
    left = [count]

    def counting(*arguments: Any, **options: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            what()
        return then(*arguments, **options)

    return counting


# ---- the play


class Watched(World):
    """Remembers what it was when it began to play."""

    worlds: list[Watched]

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        Watched.worlds.append(self)

    def run(self, *arguments: Any, **options: Any) -> None:
        self.begun = everything(self)
        super().run(*arguments, **options)


def everything(world: World) -> dict[str, Any]:
    """Every attribute that may change, found by looking and not by name: what is added later is looked at, too."""
    same = {"replicas", "chains", "tracks", "begun", "_codec", "_origins", "_homes", "_inside"}
    found: dict[str, Any] = {name: plain(said) for name, said in vars(world).items() if name not in same}
    same = {"replica", "processor", "tracks", "_journal", "_decode"}
    for chain in world.chains.values():
        found |= {f"{chain.name} {name}": plain(said) for name, said in vars(chain).items() if name not in same}
    for place, track in world.tracks.items():
        found |= {f"{place} {name}": plain(getattr(track, name)) for name in track.__slots__ if name != "log"}
    for service, replica in world.replicas.items():
        processor = replica.processor
        for name in processor.tables:
            for p in range(replica.partitions):
                found[f"{service} {name} {p}"] = list(replica.encoded(name, p).items())
        found[f"{service} under way"] = plain([processor.events, processor.records, processor.log])
        found[f"{service} condemned"] = plain(processor._condemned)
    return found


def plain(said: Any) -> Any:
    if isinstance(said, Replayed):
        return said.topic(), said.partition(), said.offset(), said.timestamp(), said.key(), said.value()
    if isinstance(said, Chain):
        return said.name
    if isinstance(said, Mapping):
        return {key: plain(each) for key, each in said.items() if each != 0}
    if isinstance(said, (list, tuple)):
        return [plain(each) for each in said]
    if isinstance(said, set):
        return sorted(said)
    return bytes(said) if isinstance(said, bytearray) else said


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> list[Watched]:
    Watched.worlds = []
    monkeypatch.setattr(shadowing, "World", Watched)
    return Watched.worlds


@pytest.mark.parametrize(("seed", "name"), HISTORIES)
def test_a_play_that_is_stopped_between_any_two_lines_goes_on_to_the_same_end(
    workshop: Workshop, rules: dict[str, Workshop], seed: int, name: str, watched: list[Watched], tmp_path: Path
) -> None:
    source, today = ModelSource(played(workshop, seed)), rules[name]
    whole = told(fresh(source, today))
    assert whole["differing"]
    lines = watched[0].lines
    assert lines > 40
    resumed(source, workshop, tmp_path / "read", "others")
    for stop in range(1, lines, 2):
        path = tmp_path / str(stop)
        shutil.copytree(tmp_path / "read", path)
        moments = never()
        with pytest.MonkeyPatch.context() as planted:
            # In the middle of a line: it is played to its end.
            planted.setattr(World, "_decide", at(stop, partial(moments.interrupt, interrupted), World._decide))
            with pytest.raises(KeyboardInterrupt):
                resumed(source, today, path, moments=moments)
        left = everything(watched[-1])
        found = told(resumed(source, today, path))
        differing = {what for what, said in watched[-1].begun.items() if said != left.get(what)}
        assert (differing, found) == (set(), whole), f"stopped at line {stop} of {lines}"
        assert left.keys() == watched[-1].begun.keys()
        shutil.rmtree(path)


def test_these_histories_have_in_them_what_a_play_carries_along(workshop: Workshop, rules: dict[str, Workshop]) -> None:
    """Or the test above could not see that something is forgotten."""
    seen: set[str] = set()

    class Looking(World):
        def _next(self, heads: Any, chains: Any) -> None:
            super()._next(heads, chains)
            seen.update(name.split()[-1] for name, said in everything(self).items() if said)

    with pytest.MonkeyPatch.context() as planted:
        planted.setattr(shadowing, "World", Looking)
        for seed, name in HISTORIES:
            fresh(ModelSource(played(workshop, seed)), rules[name])
    assert seen > {"answers", "unused", "due", "ahead", "timers", "floor", "cursor", "news_at", "_line", "taken"}
    assert seen > {"state", "replaced", "news", "missed", "frontier", "_next", "_skipped"}
    assert seen > {"left", "unasked", "messages", "lines", "now", "heads"}


def test_what_is_stopped_behind_the_end_of_the_play_does_that_again(
    workshop: Workshop, rules: dict[str, Workshop], watched: list[Watched], tmp_path: Path
) -> None:
    source, today = ModelSource(played(workshop, 55)), rules["strict"]
    whole = told(resumed(source, today, tmp_path / "whole"))
    assert told(resumed(source, today, tmp_path / "whole")) == whole
    begun = watched[-1].begun
    for turn in (15, 50):
        path = tmp_path / str(turn)
        with pytest.MonkeyPatch.context() as planted:
            planted.setattr(World, "_turn", at(turn, interrupted, World._turn))
            with pytest.raises(KeyboardInterrupt):
                resumed(source, today, path)
        assert told(resumed(source, today, path)) == whole
        assert watched[-1].begun == begun


def test_what_came_too_late_for_its_stretch_is_carried_along_too(workshop: Workshop, watched: list[Watched]) -> None:
    """No history here has such a thing at the end of a line."""
    source = made(workshop)
    fresh(source, workshop)
    old = watched[-1]
    chain = next(iter(old.chains.values()))
    chain.pending = [Replayed("order", 3, 1 << 50, 7, None, b"\0bytes"), Replayed("order", 4, 8, 9, b"key", None)]
    lines = [json.loads(json.dumps(line)) for line in playstate.dump(old)]
    new = copy.copy(old)
    new.chains = {where: copy.copy(each) for where, each in old.chains.items()}
    for each in new.chains.values():
        each.pending = []
    playstate.restore(new, [line for line in lines if line[0] in ("chain", "pending")])
    assert everything(new) == everything(old)


# ---- killed


def test_what_is_killed_goes_on_behind_its_last_note(
    workshop: Workshop, rules: dict[str, Workshop], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading and playing, several times; what was written behind the note is there, and does not count."""
    source, today = ModelSource(played(workshop, 36)), rules["sparing"]
    whole = told(fresh(source, today))
    kills = 0
    while True:
        clock = iter(range(1_000_000))
        moments = Moments(10, partial(next, clock))  # a note after so many pieces
        with pytest.MonkeyPatch.context() as planted:
            for kind, name, many in ((Log, "add", 60), (World, "_decide", 25)):
                planted.setattr(kind, name, at(many, killed, getattr(kind, name)))
            try:
                found = told(resumed(source, today, tmp_path / "kept", moments=moments))
                break
            except Killed:
                kills += 1
                assert kills < 50
    assert kills > 5
    assert found == whole


@pytest.mark.parametrize("of", ["read", "play"])
def test_what_is_killed_while_it_takes_a_note_has_the_one_before(workshop: Workshop, tmp_path: Path, of: str) -> None:
    maker = made(workshop)
    whole = told(fresh(maker, workshop))
    path = tmp_path / "kept"

    def cut(world: World, dump: Any = playstate.dump) -> Any:
        for count, line in enumerate(dump(world)):
            if count == 200 and world.lines > 30:
                raise Killed
            yield line

    with pytest.MonkeyPatch.context() as planted:
        if of == "read":  # what was added to the spool and to the index is there, and nothing says so
            planted.setattr(State, "to_text", at(20, killed, State.to_text))
        else:
            planted.setattr(playstate, "dump", cut)
        with pytest.raises(Killed):
            resumed(maker, workshop, path, moments=Moments(10, partial(next, iter(range(1_000_000)))))
    state = look(path, "", "")
    assert state is not None
    if of == "read":
        assert 0 < state.index[0] < (path / "index").stat().st_size
    else:
        with Kept(path, "", "", "then") as kept:
            assert 0 < kept.played <= 30
    for rules in ("then", "others"):
        assert told(resumed(maker, workshop, path, rules)) == whole


def test_reading_goes_on_behind_what_was_read(workshop: Workshop, tmp_path: Path) -> None:
    maker = made(workshop)
    whole = told(fresh(maker, workshop))
    path, adds, stops = tmp_path / "kept", 0, 0

    def added(log: Log, record: Any, add: Any = Log.add) -> None:
        nonlocal adds
        adds += 1
        add(log, record)

    while True:
        moments = never()
        with pytest.MonkeyPatch.context() as planted:
            planted.setattr(Log, "add", at(250, partial(moments.interrupt, interrupted), added))
            try:
                found = told(resumed(maker, workshop, path, moments=moments))
                break
            except KeyboardInterrupt:
                stops += 1
                assert look(path, "", "").records == 250 * stops  # type: ignore[union-attr]
    assert stops > 3
    assert adds == whole["records"], "nothing is read twice"
    assert found == whole


def test_history_is_that_of_the_moment_when_it_was_begun(workshop: Workshop, tmp_path: Path) -> None:
    """The system goes on while the replay stands still."""
    maker = made(workshop)
    whole = told(fresh(maker, workshop))
    moments = never()
    with pytest.MonkeyPatch.context() as planted:
        planted.setattr(Log, "add", at(1_000, lambda: moments.interrupt(interrupted), Log.add))
        with pytest.raises(KeyboardInterrupt):
            resumed(maker, workshop, tmp_path / "kept", moments=moments)
    assert look(tmp_path / "kept", "", "").fixed == ["journals", "topics"]  # type: ignore[union-attr]
    ordered(maker, [order(n, "tea", 1) for n in range(100, 150)], orders.order_id)
    maker.settle(lambda saga, step: ACCEPTED)
    assert told(resumed(maker, workshop, tmp_path / "kept")) == whole
    assert told(fresh(maker, workshop))["records"] > whole["records"]


# ---- rules


def test_history_is_read_once_and_played_with_several_rules(
    workshop: Workshop, rules: dict[str, Workshop], tmp_path: Path
) -> None:
    maker = made(workshop, pieces=5)
    path = tmp_path / "kept"
    before = told(resumed(maker, workshop, path, "then"))
    maker.read = None  # type: ignore[assignment]  # nothing is read again
    with Kept(path, "", "", "now") as kept:
        assert any("it begins anew" in note for note in kept.notes())
    now = told(resumed(maker, rules["strict"], path, "now"))
    with pytest.MonkeyPatch.context() as planted:
        planted.setattr(World, "_next", None)  # nor played again
        assert told(resumed(maker, rules["strict"], path, "now")) == now
        with Kept(path, "", "", "now") as kept:
            assert list(kept.notes()) == [
                f"{now['records']:,} records were read before, and {now['journal_lines']:,} journal lines were played"
            ]
    del maker.read
    assert (before, now) == (told(fresh(maker, workshop)), told(fresh(maker, rules["strict"])))
    assert (before["ended_otherwise"], now["ended_otherwise"]) == (0, 20)


def test_whatever_decides_is_in_the_digest(workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    codec = workshop.project.codec
    seen = {digest(codec, "unknown"), digest(codec, "refused")}
    monkeypatch.setenv("FARANDOLE_FAIL", "inventory.hold@o-1")
    seen.add(digest(codec, "unknown"))
    monkeypatch.delenv("FARANDOLE_FAIL")
    assert len(seen) == 3
    assert digest(codec, "unknown") in seen
    read, root = Path.read_bytes, config.project_root()
    for name in ("agents/payment.py", "flows/order.py", "events.py", "farandole/processor.py", "topics.yaml"):
        with pytest.MonkeyPatch.context() as planted:
            planted.setattr(Path, "read_bytes", lambda p: read(p) + b"#" * (p == root / name))  # noqa: B023
            seen.add(digest(codec, "unknown"))
    assert len(seen) == 8


# ---- what does not fit


@pytest.mark.parametrize("name", ["read", "spool", "index", "play.gz", "live-order.gz"])
@pytest.mark.parametrize("harm", ["cut", "flipped", "gone"])
def test_a_damaged_directory_is_told(workshop: Workshop, tmp_path: Path, name: str, harm: str) -> None:
    maker, path = made(workshop), tmp_path / "kept"
    resumed(maker, workshop, path)
    file = path / name
    raw = file.read_bytes()
    middle = len(raw) // 2
    if harm == "gone":
        file.unlink()
    else:
        file.write_bytes(raw[:middle] if harm == "cut" else raw[:middle] + bytes([raw[middle] ^ 1]) + raw[middle + 1 :])
    if (name, harm) == ("play.gz", "gone"):
        assert resumed(maker, workshop, path).lines > 0
        return
    with pytest.raises(FarandoleError) as failure:
        resumed(maker, workshop, path)
    assert str(path) in failure.value.where
    assert "delete" in failure.value.mend or (name, harm) == ("read", "gone")


def test_a_play_of_which_a_byte_is_another_is_told_and_not_gone_on_with(workshop: Workshop, tmp_path: Path) -> None:
    maker, path = made(workshop), tmp_path / "kept"
    whole, refused = told(resumed(maker, workshop, path)), 0
    file = path / "play.gz"
    raw = file.read_bytes()
    for where in range(40, len(raw) - 40, len(raw) // 25):
        file.write_bytes(raw[:where] + bytes([raw[where] ^ 4]) + raw[where + 1 :])
        try:
            assert told(resumed(maker, workshop, path)) == whole, where
        except ReplayError as error:
            assert error.where == str(file)  # noqa: PT017
            assert "delete this file: what was read stays" in error.mend  # noqa: PT017
            refused += 1
        file.write_bytes(raw)
    assert refused > 20


def test_a_play_of_another_history_is_refused(workshop: Workshop, tmp_path: Path) -> None:
    maker = made(workshop)
    for name in ("one", "other"):
        resumed(maker, workshop, tmp_path / name)
    shutil.copy(tmp_path / "one" / "play.gz", tmp_path / "other" / "play.gz")
    with pytest.raises(ReplayError, match="it is of another history"):
        resumed(maker, workshop, tmp_path / "other")


def test_what_is_no_directory_of_a_shadow_replay_is_left_as_it_is(workshop: Workshop, tmp_path: Path) -> None:
    maker = made(workshop)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter").write_text("mine")
    (tmp_path / "empty").mkdir()
    for name, said in (("file", "a file, not"), ("full", "something else"), ("file/below", "cannot be used")):
        with pytest.raises(ConfigError, match=said) as failure:
            resumed(maker, workshop, tmp_path / name)
        assert str(tmp_path / name) in failure.value.where
    assert [each.name for each in (tmp_path / "full").iterdir()] == ["letter"]
    assert resumed(maker, workshop, tmp_path / "empty").lines > 0


def test_another_installation_and_another_process_are_refused(workshop: Workshop, tmp_path: Path) -> None:
    path = tmp_path / "kept"
    with Kept(path, "mine-", "cluster", "then"):
        with pytest.raises(ConfigError, match="another shadow replay uses the directory"):
            Kept(path, "mine-", "cluster", "then")
        with pytest.raises(ConfigError, match="of another namespace: 'mine-', not 'yours-'"):
            Kept(path, "yours-", "cluster", "then")
        with pytest.raises(ConfigError, match="of another cluster"):
            Kept(path, "mine-", "elsewhere", "then")
    Kept(path, "mine-", "cluster", "then").__exit__()


def test_what_was_not_there_when_it_was_read_is_told(workshop: Workshop, tmp_path: Path) -> None:
    maker, path = made(workshop), tmp_path / "kept"
    with Kept(path, "", "", "then") as kept:
        shadow(maker, workshop.topics, replicas_of(workshop), quiet, kept=kept)
        kept.state.tables["order"].remove("orders")
        kept._write_state()
    with pytest.raises(ConfigError, match="the table orders of order was not part of the system"):
        resumed(maker, workshop, path)
    with Kept(path, "", "", "then") as kept:
        kept.state.tables["order"].append("orders")
        for state in (kept.state.end, kept.state.first, kept.state.position):
            del state["stock", 2]
        kept._write_state()
    with pytest.raises(ConfigError, match="stock/2 was not part of the system"):
        resumed(maker, workshop, path)


def test_what_passed_retention_while_it_stood_still_is_told(workshop: Workshop, tmp_path: Path) -> None:
    maker, path = made(workshop), tmp_path / "kept"
    moments = never()
    with pytest.MonkeyPatch.context() as planted:
        planted.setattr(Log, "add", at(1_000, lambda: moments.interrupt(interrupted), Log.add))
        with pytest.raises(KeyboardInterrupt):
            resumed(maker, workshop, path, moments=moments)
    state = look(path, "", "")
    assert state is not None
    done = next(place for place, end in state.end.items() if state.position[place] == end > 5)
    left = next(place for place, end in state.end.items() if state.position[place] < end - 5)
    maker.starts[done] = 5  # it was read: nobody needs it any more
    maker.starts[left] = state.position[left] + 3
    for attempt in (lambda: resumed(maker, workshop, path), lambda: planned(maker, workshop, state)):
        with pytest.raises(ReplayError, match=r"3 offsets that .* history rests on are past retention") as failure:
            attempt()
        assert failure.value.where.startswith("{}/{}: needed from".format(*left))
        assert "delete the directory" in failure.value.mend
    maker.starts[left] = 0
    assert resumed(maker, workshop, path).lines > 0
    maker.log[done].clear()
    with pytest.raises(ReplayError, match="it was made anew"):
        resumed(maker, workshop, path)


def planned(source: Any, workshop: Workshop, state: State | None) -> dict[str, int]:
    return plan(source, workshop.topics, workshop.project.codec, quiet, state)


def test_a_dry_run_tells_what_is_left_and_touches_nothing(workshop: Workshop, tmp_path: Path) -> None:
    maker, path = made(workshop), tmp_path / "kept"
    assert look(path, "", "") is None
    everything_there = planned(maker, workshop, None)
    moments = never()
    with pytest.MonkeyPatch.context() as planted:
        planted.setattr(Log, "add", at(1_000, lambda: moments.interrupt(interrupted), Log.add))
        with pytest.raises(KeyboardInterrupt):
            resumed(maker, workshop, path, moments=moments)
    before = {each.name: (each.stat().st_mtime_ns, each.read_bytes()) for each in path.iterdir()}
    assert planned(maker, workshop, look(path, "", ""))["offsets"] == everything_there["offsets"] - 1_000
    assert {each.name: (each.stat().st_mtime_ns, each.read_bytes()) for each in path.iterdir()} == before
    resumed(maker, workshop, path)
    assert planned(maker, workshop, look(path, "", "")) == {"topics": 0, "offsets": 0}


def test_a_directory_without_room_keeps_what_it_had(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    maker, path = made(workshop), tmp_path / "kept"

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as planted:
        planted.setattr(Spool, "write", at(500, full, Spool.write))
        with pytest.raises(ConfigError, match="No space left on device"):
            resumed(maker, workshop, path)
    assert told(resumed(maker, workshop, path)) == told(fresh(maker, workshop))


# ---- topics that no service hears


@pytest.mark.parametrize("topic", ["payment.ledger"])
def test_where_the_head_of_a_topic_that_nobody_hears_is_gone_only_its_events_are_not_compared(
    workshop: Workshop, rules: dict[str, Workshop], topic: str
) -> None:
    maker: Maker = made(workshop, pieces=5)
    otherwise = fresh(maker, rules["strict"]).ended_otherwise
    cut: set[Place] = {place for place, log in maker.log.items() if place[0] == topic and len(log) > 4}
    for place in cut:
        maker.starts[place] = 3
    found = fresh(maker, workshop)
    assert (found.differing, found.left, found.rows_differing) == ([], 0, 0)
    assert found.partial == sorted("{}/{}".format(*place) for place in cut)
    assert found.to_dict()["not_compared"] == found.partial
    assert [each.saga for each in fresh(maker, rules["strict"]).ended_otherwise] == [each.saga for each in otherwise]


def test_a_journal_whose_head_is_past_retention_is_refused(workshop: Workshop) -> None:
    """Whatever was taken then is there: but nobody knows what came of it."""
    maker = made(workshop)
    place = next(place for place, log in maker.log.items() if place[0] == "order.journal" and len(log) > 1)
    maker.starts[place] = 1
    for attempt in (lambda: fresh(maker, workshop), lambda: planned(maker, workshop, None)):
        with pytest.raises(ReplayError, match="1 offsets that order's history rests on are past retention"):
            attempt()

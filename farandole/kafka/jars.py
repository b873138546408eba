"""The jars of Apache Kafka: fetched once per user, checked against the lock file, never half there.

Invariant: a directory that `fetch` returns holds every jar of `jgo.lock.toml` with the locked SHA-256. Jars are
gathered in a `.part` directory beside it, which is renamed when it is complete; an interrupted fetch is taken up where
it stopped, and a file lock lets one process fetch while the others wait.

`jgo.toml` and `jgo.lock.toml` are in jgo's own format and hold no addresses: repositories come from the user's jgo
settings (`~/.config/jgo.conf`), Maven Central otherwise. `python -m farandole.kafka.jars` writes the lock file anew.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
import tomllib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farandole.errors import EmbeddedKafkaError
from farandole.kafka.locking import exclusive

if TYPE_CHECKING:
    from jgo.maven import MavenContext

HERE = Path(__file__).parent
SPEC, LOCK = HERE / "jgo.toml", HERE / "jgo.lock.toml"

# Four connections take the fetch from 9 s to 4 s; more would only load the repository.
CONNECTIONS = 4
READ_TIMEOUT_SECONDS = 30

Report = Callable[[str, int, int], None]
"""Progress: what is being done, how much of it is done, how much there is (0 when that is not known)."""


def silent(what: str, done: int, total: int) -> None:
    """The progress report of those who do not look."""


@dataclass(frozen=True)
class Jar:
    """One locked artifact."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def name(self) -> str:
        return f"{self.artifact}-{self.version}.jar"


class Interrupted(Exception):
    """Another download failed, or the user pressed Ctrl-C: this one stops too."""


def locked() -> list[Jar]:
    """The jars of the lock file, in class path order."""
    return [
        Jar(entry["groupId"], entry["artifactId"], entry["version"], entry["sha256"])
        for entry in tomllib.loads(LOCK.read_text())["dependencies"]
    ]


def version() -> str:
    """The version of Apache Kafka in the lock file."""
    return next(jar.version for jar in locked() if jar.artifact.startswith("kafka_"))


def cache_dir() -> Path:
    """Where downloads are kept: FARANDOLE_CACHE, else the user's cache directory."""
    if chosen := os.environ.get("FARANDOLE_CACHE"):
        return Path(chosen).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser().absolute() / "farandole"


def fetch(finish: Callable[[Path], None], report: Report = silent) -> Path:
    """The directory with all jars, fetched now if they are not there yet.

    finish: adds to the directory, before anybody sees it, what takes the jars to make.
    """
    jars = locked()
    digest = hashlib.sha256("".join(jar.sha256 for jar in jars).encode()).hexdigest()
    final = cache_dir() / f"kafka-{version()}-{digest[:12]}"
    if _complete(final, jars):
        return final
    _make(final.parent)
    with exclusive(_beside(final, ".lock"), waiting=lambda: report("waiting for another download of Kafka", 0, 0)):
        if not _complete(final, jars):
            _fill(final, jars, finish, report)
    return final


def class_path(directory: Path) -> str:
    """The class path over the jars of `directory`, always in the same order (an AOT cache depends on it)."""
    return os.pathsep.join(str(directory / jar.name) for jar in locked())


def _complete(directory: Path, jars: list[Jar]) -> bool:
    return all((directory / jar.name).exists() for jar in jars)


def _beside(directory: Path, ending: str) -> Path:
    return directory.with_name(directory.name + ending)


def _make(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EmbeddedKafkaError(
            f"the download cache cannot be made: {error.strerror}",
            where=str(directory),
            mend="name a directory that you may write to in FARANDOLE_CACHE",
        ) from error


def _fill(final: Path, jars: list[Jar], finish: Callable[[Path], None], report: Report) -> None:
    part = _beside(final, ".part")
    part.mkdir(exist_ok=True)
    missing = [jar for jar in jars if not _intact(part / jar.name, jar)]
    _download(missing, part, _counted(report, len(jars), len(jars) - len(missing)))
    shutil.rmtree(part / "incoming", ignore_errors=True)
    finish(part)
    if final.exists():  # a jar was taken out of it since
        shutil.rmtree(final)
    part.rename(final)


def _intact(path: Path, jar: Jar) -> bool:
    return path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() == jar.sha256


def _counted(report: Report, total: int, done: int) -> Callable[[int], None]:
    """A report of whole jars, from several threads."""
    what, lock = f"downloading Apache Kafka {version()} (45 MB, once)", threading.Lock()
    report(what, done, total)

    def count(jars: int) -> None:
        nonlocal done
        with lock:
            done += jars
            report(what, done, total)

    return count


def _download(jars: list[Jar], part: Path, count: Callable[[int], None]) -> None:
    """Fetch `jars` into `part`. The first failure, Ctrl-C included, ends the other downloads at their next block."""
    stop = threading.Event()
    incoming = part / "incoming"
    shutil.rmtree(incoming, ignore_errors=True)  # jgo takes whatever lies there for whole
    context = _maven(incoming, stop)

    def get(jar: Jar) -> None:
        if stop.is_set():
            raise Interrupted
        os.replace(_checked(_resolve(context, jar), jar), part / jar.name)
        count(1)

    with ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="download") as pool:
        futures = [pool.submit(get, jar) for jar in jars]
        try:
            for future in futures:
                future.result()
        except BaseException as error:
            stop.set()
            pool.shutdown(cancel_futures=True)
            if isinstance(error, Interrupted):  # the cause is another future's
                raise next(f.exception() for f in futures if _failed(f)) from None  # type: ignore[misc]
            raise


def _failed(future: Any) -> bool:
    return (
        future.done()
        and not future.cancelled()
        and future.exception() is not None
        and not isinstance(future.exception(), Interrupted)
    )


def _maven(incoming: Path, stop: threading.Event) -> MavenContext:
    from jgo.config import GlobalSettings
    from jgo.constants import MAVEN_CENTRAL_URL
    from jgo.maven import MavenContext, PythonResolver

    @contextmanager
    def watched(filename: str, size: int) -> Iterator[Callable[[int], None]]:
        def block(size: int) -> None:
            if stop.is_set():
                raise Interrupted

        yield block

    return MavenContext(
        resolver=PythonResolver(progress_callback=watched),
        repo_cache=incoming,
        remote_repos={"central": MAVEN_CENTRAL_URL, **GlobalSettings.load().repositories},
        timeout=READ_TIMEOUT_SECONDS,
    )


def _resolve(context: MavenContext, jar: Jar) -> Path:
    try:
        return context.project(jar.group, jar.artifact).at_version(jar.version).artifact().resolve()
    except (OSError, RuntimeError) as error:  # requests' exceptions are OSErrors
        raise EmbeddedKafkaError(
            f"{jar.name} could not be downloaded: {error}",
            where=", ".join(context.remote_repos.values()),
            mend="check the network (HTTPS_PROXY if there is a proxy, ~/.config/jgo.conf [repositories] if there is "
            "a mirror) and run the same command again; what is already here is kept",
        ) from error


def _checked(path: Path, jar: Jar) -> Path:
    if _intact(path, jar):
        return path
    path.unlink()
    raise EmbeddedKafkaError(
        f"{jar.name} is not the file that the lock file names (SHA-256 differs)",
        where=str(LOCK),
        mend="run the same command again; if it stays, whatever serves the jars has changed or broken them",
    )


def relock() -> None:
    """Resolve `jgo.toml` afresh and write `jgo.lock.toml` (for whoever upgrades Kafka)."""
    import tempfile

    from jgo.env import EnvironmentSpec, LockFile, compute_spec_hash

    with tempfile.TemporaryDirectory() as scratch:
        context = _maven(Path(scratch), threading.Event())
        wanted = [context.create_dependency(text) for text in EnvironmentSpec.load(SPEC).coordinates]
        named, implied = context.resolver.resolve(wanted)
        chosen = named + [dependency for dependency in implied if dependency.scope in ("compile", "runtime")]
        LockFile.from_resolved_dependencies(chosen, spec_hash=compute_spec_hash(SPEC)).save(LOCK)


if __name__ == "__main__":
    relock()

"""The images that docker-compose.yml builds on and runs beside: fetched, or built where none can be pulled.

    python -m tests.compose.base_images pull     what is not here yet, by docker pull
    python -m tests.compose.base_images build    stand-ins, from Debian's packages, Maven Central and PyPI; as root

Stand-ins are for tests: the programs are those of the real images, in the same versions, on a Debian of debootstrap's.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from farandole.kafka import embedded, jars
from tests.compose.engine import ROOT, base_images, docker, is_here

DEBIAN = "bookworm"
STAND_INS = {
    "PYTHON_IMAGE": f"farandole-base/python:{DEBIAN}",
    "KAFKA_IMAGE": f"farandole-base/kafka:{jars.version()}",
    "REGISTRY_IMAGE": "farandole-base/registry",
}
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


def pull() -> None:
    """Fetch what is not here."""
    for variable, image in base_images().items():
        if is_here(image) or subprocess.run(["docker", "pull", image], check=False).returncode == 0:
            continue
        raise SystemExit(
            f"error: {image} is not here and cannot be pulled\n"
            f"  where: {variable}\n"
            f"  mend:  name an image that is here in {variable}, or build stand-ins: make compose-images"
        )


def build() -> None:
    """Build the stand-ins that are not here, and say how to use them."""
    registry = _registry_version()
    STAND_INS["REGISTRY_IMAGE"] += f":{registry}"
    with tempfile.TemporaryDirectory(prefix="farandole-images-") as scratch:
        here = Path(scratch)
        if not is_here(STAND_INS["PYTHON_IMAGE"]):
            _debian(here / "debian")
        if not is_here(STAND_INS["KAFKA_IMAGE"]):
            _kafka(here / "kafka")
        if not is_here(STAND_INS["REGISTRY_IMAGE"]):
            _registry(here / "registry", registry)
    for variable, image in STAND_INS.items():
        print(f"export {variable}={image}")
    print(f"export FARANDOLE_KAFKA_IMAGE={STAND_INS['KAFKA_IMAGE']} TESTCONTAINERS_RYUK_DISABLED=true")


def _debian(root: Path) -> None:
    """Debian with Python and pip. It trusts whom this machine trusts: a proxy may have a certificate of its own."""
    if os.geteuid() or not shutil.which("debootstrap"):
        raise SystemExit("error: a Debian image is made by root with debootstrap (apt install debootstrap)")
    _say("debootstrap: some minutes")
    packages = "--include=python3,python3-venv,python3-pip,ca-certificates"
    with Path(f"{root}.log").open("wb") as log:
        done = subprocess.run(["debootstrap", "--variant=minbase", packages, DEBIAN, root], stdout=log, check=False)
    if done.returncode:
        raise SystemExit(f"error: debootstrap failed\n{Path(f'{root}.log').read_text()[-2000:]}")
    if CERTIFICATES.exists():
        shutil.copy(CERTIFICATES, root / CERTIFICATES.relative_to("/"))
    apt = ("--exclude=./var/cache/apt/archives/*.deb", "--exclude=./var/lib/apt/lists/*")
    with subprocess.Popen(["tar", *apt, "-cC", root, "."], stdout=subprocess.PIPE) as archive:
        command = ["docker", "import", "-", STAND_INS["PYTHON_IMAGE"]]
        # What it prints is not for stdout, which holds what a shell can take over.
        subprocess.run(command, stdin=archive.stdout, stdout=sys.stderr, check=True)


def _kafka(context: Path) -> None:
    distribution = embedded.prepare(lambda what, done, total: _say(what) if not done else None)
    (context / "jars").mkdir(parents=True)
    for jar in distribution.class_path.split(os.pathsep):
        shutil.copy(jar, context / "jars")
    _build(context, distribution.java, "KAFKA_IMAGE")


def _registry(context: Path, version: str) -> None:
    from jgo.config import GlobalSettings
    from jgo.constants import MAVEN_CENTRAL_URL
    from jgo.maven import MavenContext

    _say("downloading Apicurio Registry (160 MB)")
    remote = {"central": MAVEN_CENTRAL_URL, **GlobalSettings.load().repositories}
    maven = MavenContext(repo_cache=context.parent / "maven", remote_repos=remote, timeout=60)
    program = maven.project("io.apicurio", "apicurio-registry-app").at_version(version).artifact("all", "tar.gz")
    (context / "registry").mkdir(parents=True)
    subprocess.run(["tar", "-xzf", program.resolve(), "-C", context / "registry"], check=True)
    _build(context, embedded.prepare().java, "REGISTRY_IMAGE")


def _registry_version() -> str:
    """The version that docker-compose.yml names where no variable does."""
    text = (ROOT / "docker-compose.yml").read_text()
    return text.partition("apicurio/apicurio-registry:")[2].partition("}")[0]


def _build(context: Path, java: Path, variable: str) -> None:
    images = Path(__file__).parent / "images"
    name = variable.removesuffix("_IMAGE").lower()
    shutil.copy(images / f"{name}.Dockerfile", context / "Dockerfile")
    if (start := images / f"start-{name}").exists():
        shutil.copy(start, context)
    shutil.copytree(java.parent.parent, context / "java")
    _say(f"docker build: {STAND_INS[variable]}")
    arguments = ["--build-arg", f"PYTHON_IMAGE={STAND_INS['PYTHON_IMAGE']}", "--tag", STAND_INS[variable]]
    # The classic builder is in every engine; BuildKit needs a component that some installations lack.
    done = docker("build", *arguments, str(context), timeout=900, DOCKER_BUILDKIT="0")
    if done.returncode:
        raise SystemExit(f"error: docker build failed\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


if __name__ == "__main__":
    {"pull": pull, "build": build}[sys.argv[1]]()

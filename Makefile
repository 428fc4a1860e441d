# Pokegen. Everything runs from here: `make help`.
export PORT ?= 8080
export HOST ?= 127.0.0.1
export VENV ?= .venv

.DEFAULT_GOAL := help
.PHONY: help run test lint types image lock clean system server-python test-python

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: system server-python ## start the service: http://127.0.0.1:8080 (PORT=, HOST=); Ctrl-C stops it
	@exec scripts/run

test: lint types ## the linters and every test
	@"$(VENV)/bin/python" -m pytest

lint: system test-python ## ruff
	@"$(VENV)/bin/ruff" check
	@"$(VENV)/bin/ruff" format --check

types: system test-python ## mypy --strict
	@"$(VENV)/bin/mypy"

image: ## the Docker images pokegen-server and pokegen-nginx (DOCKER_BUILD_FLAGS=)
	docker build $(DOCKER_BUILD_FLAGS) --target server --tag pokegen-server .
	docker build $(DOCKER_BUILD_FLAGS) --target nginx --tag pokegen-nginx .

lock: ## compile requirements/*.in again (UPGRADE=1 takes newer versions)
	@scripts/lock

clean: ## remove what was installed and what the tools left
	rm -rf "$(VENV)" build dist run .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

system:
	@scripts/install-system

server-python: system
	@scripts/install-python server

test-python: system
	@scripts/install-python test

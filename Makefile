# Pokegen. Everything runs from here: `make help`.
export PORT ?= 8080
export HOST ?= 127.0.0.1
export VENV ?= .venv

.DEFAULT_GOAL := help
.PHONY: help audit run reload test test-image lint types image checkpoint lock clean \
  system test-system server-python pipeline test-python loadtest

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: system server-python ## start the service: http://127.0.0.1:8080 (PORT=, HOST=); Ctrl-C stops it
	@exec scripts/run

reload: ## load the checkpoint of the service on PORT again, if it can be loaded
	@scripts/reload

# Two at once, for much of their time is waiting. A file's tests stay together, for they share a service.
test: test-system lint types ## the linters and every test; those of the images where a Docker engine answers
	@"$(VENV)/bin/python" -m pytest --numprocesses 2 --dist loadfile
	@docker info >/dev/null 2>&1 || echo "The Docker images were NOT tested: no Docker engine answers. Start one, then: make test-image"

test-image: test-python ## the tests of the Docker images alone
	@docker info >/dev/null || { echo "No Docker engine answers: start one, or set DOCKER_HOST." >&2; exit 1; }
	@"$(VENV)/bin/python" -m pytest tests/image

loadtest: system ## load on a box of a t2.medium's size, and the report (SHAPE= CHECKPOINT= PROFILE= READERS= MINUTES= BY= SERVICE=)
	@scripts/install-python loadtest
	@[ "$(SERVICE)" != seed ] || scripts/install-python finetune
	@scripts/build-native
	@"$(VENV)/bin/python" -m loadtest.run $(SERVICE:%=--service %) $(CHECKPOINT:%=--checkpoint %) \
	  $(PROFILE:%=--profile %) $(SHAPE:%=--shape %) $(READERS:%=--readers %) $(MINUTES:%=--minutes %) $(BY:%=--by %)
	@"$(VENV)/bin/python" -m loadtest.report

lint: system test-python ## ruff, clang-format
	@"$(VENV)/bin/ruff" check
	@"$(VENV)/bin/ruff" format --check
	@"$(VENV)/bin/clang-format" --dry-run -Werror $$(find server tests -name "*.cpp" -o -name "*.h")

types: system test-python ## mypy --strict
	@"$(VENV)/bin/mypy"

image: ## the Docker images pokegen-server and pokegen-nginx (DOCKER_BUILD_FLAGS=)
	docker build $(DOCKER_BUILD_FLAGS) --target server --tag pokegen-server .
	docker build $(DOCKER_BUILD_FLAGS) --target nginx --tag pokegen-nginx .

checkpoint: pipeline ## checkpoint/run2 from the corpus, in two hours; goes on where it was interrupted
	@scripts/make-checkpoint

lock: ## compile requirements/*.in again (UPGRADE=1 takes newer versions)
	@scripts/lock

audit: test-python ## a bill of materials of what is installed, and its known vulnerabilities (needs internet)
	@scripts/audit

clean: ## remove what was installed and built, and what the tools left; not run/, where registry, data and runs are
	rm -rf "$(VENV)" build dist run/bench run/sbom server/engine/native/*.so .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

system:
	@scripts/install-system

test-system:
	@scripts/install-system test

server-python: system
	@scripts/install-python server
	@scripts/build-native

pipeline: system ## what the pipeline needs: pokegen crawl, prepare, finetune ...
	@scripts/install-python finetune
	@scripts/build-native

test-python: system
	@scripts/install-python test
	@scripts/build-native

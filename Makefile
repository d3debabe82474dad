# Tidegate. `make help` lists what there is.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON := /usr/bin/python3
VENV := .venv
BIN := $(VENV)/bin
BPF_OBJECT := build/bpf/tidegate.bpf.o
DEBIAN_STAMP := build/stamps/debian
VENV_STAMP := $(VENV)/.installed
CLUSTER_STAMP := build/stamps/cluster
BENCH_STAMP := build/stamps/bench
VM_STAMP := build/stamps/vm

# What another kernel may judge, take or do otherwise; the rest is the same under every kernel.
VM_TESTS := $(addprefix tests/kernel/test_,datapath_rules.py cases_in_kernel.py attach_live.py wireguard_tunnels.py)

PYTEST = $(BIN)/python -m pytest -q $(AGAIN)

# Debian's BCC binding is for its own python3: the virtual environment sees the system's packages.
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help setup bpf cni proto lock format check test test-fast test-slow test-kernel test-cluster test-images test-vm test-restarts demo corpus fuzz clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z%A-Z-]+:.*## /{printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV_STAMP) bpf cni ## Install what is missing (apt, pip into .venv); compile the eBPF object and the CNI plugin

$(DEBIAN_STAMP): requirements/debian.txt
	@requirements/install_debian.sh $<
	@mkdir -p $(@D) && touch $@

$(VENV_STAMP): requirements/dev.lock pyproject.toml $(DEBIAN_STAMP)
	@echo "installing Python packages into $(VENV)"
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv --system-site-packages $(VENV)
	@$(BIN)/python -m pip install -qq --require-hashes -r requirements/dev.lock
	@$(BIN)/python -m pip install -qq --no-deps --no-build-isolation -e .
	@touch $@

bpf: $(DEBIAN_STAMP) ## Compile the eBPF object (clang, ahead of time)
	@$(MAKE) --no-print-directory -C bpf

cni: $(DEBIAN_STAMP) ## Compile the CNI plugin (clang, static)
	@$(MAKE) --no-print-directory -C cni

proto: $(VENV_STAMP) ## Regenerate the gRPC code under netpolicy/wire
	@$(BIN)/python -m netpolicy.wire.generate

lock: ## Pin the dependencies again (needs uv)
	uv pip compile pyproject.toml --group dev --extra kubernetes --generate-hashes --python-version 3.11 --python-platform x86_64-manylinux_2_36 --no-header --no-annotate -q -o requirements/dev.lock
	uv pip compile pyproject.toml --generate-hashes --python-version 3.11 --python-platform x86_64-manylinux_2_36 --no-header --no-annotate -q -o requirements/runtime.lock

format: $(VENV_STAMP) ## Format the code
	@$(BIN)/ruff format -q . && $(BIN)/ruff check -q --fix .

check: setup ## Format, lint, types, imports and fast tests; no root, under a minute
	@$(BIN)/ruff format -q --check .
	@$(BIN)/ruff check -q .
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports --no-logo >build/stamps/imports.log || { cat build/stamps/imports.log; exit 1; }
	@$(MAKE) --no-print-directory test-fast

test-fast: setup ## The tests that need no root and no patience
	@$(PYTEST) -n 2 -m 'not kernel and not slow and not cluster and not images'

test-slow: setup ## The tests that need no root, and patience
	@$(PYTEST) -n 2 --dist loadgroup -m 'slow and not kernel and not cluster and not images'

test-kernel: setup ## The tests that need root and eBPF
	@$(PYTEST) -n 2 --dist loadfile -m 'kernel and not alone'
	@$(PYTEST) -m 'kernel and alone'

test-cluster: setup $(CLUSTER_STAMP) ## The tests on a real kube-apiserver (built once, outside the tree)
	@$(PYTEST) -n 2 --dist loadfile -m cluster tests/cluster

test-images: setup $(CLUSTER_STAMP) ## Build both images and run both programs from them (not part of test: minutes)
	@$(PYTEST) -m images tests/cluster

$(VM_STAMP): requirements/debian-vm.txt
	@requirements/install_debian.sh $<
	@mkdir -p $(@D) && touch $@

test-vm: setup $(VM_STAMP) ## Tests under another kernel, in QEMU (not part of test: minutes): make test-vm [KERNEL=6.1] [TESTS=...]
	@$(BIN)/python -m tests.vm --kernel $(or $(KERNEL),6.1) $(or $(TESTS),$(VM_TESTS))

test-restarts: setup ## Kill, upgrade and replace an agent under live traffic (not part of test: minutes): make test-restarts [RESTARTS=200]
	@$(BIN)/python -m tests.support.restarts --restarts $(or $(RESTARTS),200)

$(CLUSTER_STAMP): requirements/debian-cluster.txt requirements/cluster-tools.lock $(VENV_STAMP)
	@requirements/install_debian.sh $<
	@$(BIN)/python -m tests.support.kube_tools
	@touch $@

test: setup $(CLUSTER_STAMP) ## All tests: check, then the slow ones, those on the kernel, and those on an API server
	@$(MAKE) --no-print-directory check test-slow test-kernel test-cluster AGAIN='--reruns 1 -raR'

demo: setup ## The main job, end to end, on this machine (root); KEEP=1 leaves it up
	@$(BIN)/python -m demo $(if $(KEEP),--keep)

fuzz: setup ## Feed hostile inputs to every reader: make fuzz [FUZZ_SECONDS=600]
	@$(BIN)/python -m tests.fuzz.run --seconds $(or $(FUZZ_SECONDS),600)

corpus: setup ## Judge the policy language by a folder of cases: make corpus CORPUS=DIR
	@test -n "$(CORPUS)" || { echo "say which folder: make corpus CORPUS=DIR" >&2; exit 2; }
	@$(BIN)/python -m tests.support.corpus $(CORPUS)

$(BENCH_STAMP): requirements/debian-bench.txt
	@requirements/install_debian.sh $<
	@mkdir -p $(@D) && touch $@

bench-%: setup $(BENCH_STAMP) ## Run one benchmark: prints a table, writes build/bench/NAME.json
	@$(BIN)/python -m benchmarks $*

clean: ## Remove what was built (not .venv)
	@rm -rf build

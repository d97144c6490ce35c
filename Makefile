# make help lists the targets.
#
# Each target installs what it needs the first time and notes that in a stamp
# under build/; a stamp is older than the file that says what to install when
# that file was changed, and then the installation is done again.

# The distribution's own interpreter: its bindings of libvirt and libnbd are
# built for it and importable from no other.
PYTHON ?= /usr/bin/python3
export PYTHON
export SXM_PYTHON_DIR := $(or $(patsubst %/,%,$(dir $(shell command -v $(PYTHON)))),/usr/bin)

BUILD := build
RESULTS := $(BUILD)/results
STAMPS := $(BUILD)/stamps
TOOLS := $(BUILD)/tools
# Environment of the unit tests, which the other suites use as well.
VENV := .tox/py3
export SXM_VENV := $(CURDIR)/$(VENV)

TOX := $(TOOLS)/bin/tox
SUITES := unit contract functional e2e

# pbr takes the version from git.  Where there is no commit to take it from
# (an unpacked archive, say), it has to be told.
ifeq ($(shell git -C '$(CURDIR)' rev-parse --quiet --verify HEAD 2>/dev/null),)
export PBR_VERSION ?= 0.0.1
endif

.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules --no-print-directory

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / \
		{ printf "make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

# ---------------------------------------------------------------- installing

$(STAMPS) $(RESULTS):
	@mkdir -p $@

# tox, uv and bindep.
$(STAMPS)/tools: tools/tool-requirements.txt constraints.txt tools/bootstrap.sh | $(STAMPS)
	@bash tools/bootstrap.sh tools $(TOOLS)
	@touch $@

# The distribution's packages.
$(STAMPS)/packages: bindep.txt $(STAMPS)/tools
	@bash tools/bootstrap.sh packages $(TOOLS)
	@touch $@

# The environment with everything: pinned packages, this one as editable.
$(STAMPS)/venv: requirements.txt test-requirements.txt constraints.txt \
		pyproject.toml setup.cfg tox.ini $(STAMPS)/packages
	$(TOX) run -q -e py3 --notest
	@touch $@

.PHONY: venv
venv: $(STAMPS)/venv ## install everything that the tests need

# ------------------------------------------------------------------- testing

.PHONY: test
test: ## lint, then all suites: unit, contract, functional, end to end
	@rm -f $(SUITES:%=$(RESULTS)/%.json)
	@$(MAKE) lint
	@failed=; \
	for suite in $(SUITES); do $(MAKE) $$suite || failed="$$failed $$suite"; done; \
	$(PYTHON) -m tools.summary $(RESULTS) $(SUITES) && test -z "$$failed"

.PHONY: lint
lint: $(STAMPS)/tools ## style, types, layers, security, spelling
	$(TOX) run -q -e pep8

.PHONY: format
format: $(STAMPS)/tools ## correct the style of every Python file
	$(TOX) run -q -e format

.PHONY: unit
unit: $(STAMPS)/venv | $(RESULTS) ## unit tests
	$(TOX) run -q -e py3

.PHONY: contract functional e2e failures operations
contract: ## the same tests against the fakes and the real QEMU
functional: ## two hosts with real QEMU and a writing guest
e2e: ## a whole OpenStack on this machine
failures: ## moves that are disturbed at every step (not part of make test)
operations: ## formats, drivers, kills in OpenStack (not part of make test)
contract functional e2e failures operations: $(STAMPS)/venv | $(RESULTS)
	$(PYTHON) -m tests.run $@

.PHONY: faults
faults: $(STAMPS)/venv ## every fault in every phase of a move (up to an hour)
	$(PYTHON) -m tests.faults

# ------------------------------------------------------- looking and measuring

.PHONY: demo
demo: $(STAMPS)/venv ## a server moves live with its disks, before your eyes
	$(PYTHON) -m tests.demo

.PHONY: bench
bench: $(STAMPS)/venv ## this and stock migration, workload by workload
	$(PYTHON) -m tests.bench

.PHONY: lab-up lab-down
lab-up: $(STAMPS)/venv ## start the lab and leave it running
	$(PYTHON) -m tests.lab up

lab-down: ## end the lab and remove what it left
	$(PYTHON) -m tests.lab down

.PHONY: docs
docs: $(STAMPS)/tools ## the manual, in doc/build/html
	$(TOX) run -q -e docs

.PHONY: clean
clean: ## remove what was built and installed here
	rm -rf $(BUILD) .tox .stestr .venv .mypy_cache .ruff_cache doc/build \
		releasenotes/build .coverage *.egg-info

# make demo | test | lint | bench: each makes .venv, installs what it needs, builds
# torchconv there (editable) and runs. Stamp files in .venv remember what is done, so
# only what changed is done again. python3, make and g++ are all it takes.

SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip --disable-pip-version-check install

# The workers are the parallelism of the tests: one thread of torch in each.
TEST_WORKERS ?= $(shell nproc)
TEST_THREADS ?= 1
PYTEST_ARGS ?=
BENCH_ARGS ?=

CXX_SOURCES := $(sort $(wildcard csrc/*/*.cpp csrc/*/*.h csrc/*/*.cu csrc/*/*.cuh))
TEST_SOURCES := $(sort $(foreach d,. include include/*,$(wildcard \
    tests/cuda_on_cpu/$(d)/*.cpp tests/cuda_on_cpu/$(d)/*.h \
    tests/cuda_on_cpu/$(d)/*.cu tests/cuda_on_cpu/$(d)/*.cuh)))

.PHONY: demo test lint bench gpu-check build format clean
.DELETE_ON_ERROR:

demo: build $(VENV)/.bench
	$(BIN)/python examples/demo.py

test: build $(VENV)/.test
	OMP_NUM_THREADS=$(TEST_THREADS) $(BIN)/python -m pytest -n $(TEST_WORKERS) \
	  $(PYTEST_ARGS)

bench: build $(VENV)/.bench
	$(BIN)/python -m benchmarks.refresh $(BENCH_ARGS)

# On a machine with an NVIDIA GPU, with the python3 there and no network.
gpu-check:
	$(PYTHON) tools/gpu_check.py $(GPU_CHECK_ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy torchconv
	$(BIN)/clang-format --dry-run -Werror $(CXX_SOURCES) $(TEST_SOURCES)

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CXX_SOURCES) $(TEST_SOURCES)

build: $(VENV)/.built

$(VENV)/.torch: requirements-dev.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) --quiet -r requirements-dev.txt
	@touch $@

# ninja, not make, knows which objects are out of date. Shows the build's decisions
# and progress; everything it said is in build/log.
$(VENV)/.built: $(VENV)/.torch setup.py pyproject.toml $(CXX_SOURCES) \
    $(wildcard csrc/*)
	@mkdir -p build
	@echo "Building torchconv (log: build/log)"
	@$(PIP_INSTALL) --verbose --no-build-isolation --no-deps -e . 2>&1 \
	  | tee build/log \
	  | sed -unE -e 's/^ *(torchconv: .*)/\1/p' \
	    -e 's/^ *(\[[0-9]+\/[0-9]+\]) .* -c [^ ]*\/(csrc\/[^ ]+) .*/\1 \2/p' \
	  || { cat build/log; exit 1; }
	@touch $@

$(VENV)/.test $(VENV)/.bench $(VENV)/.dev: $(VENV)/.%: pyproject.toml $(VENV)/.torch \
    | $(VENV)/.built
	$(PIP_INSTALL) --quiet --no-build-isolation -e '.[$*]'
	@touch $@

clean:
	rm -rf build dist *.egg-info torchconv/_C*.so $(VENV)/.built

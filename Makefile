# Two commands set everything up: `make demo` runs the main job, `make test` the tests.
PYTHON ?= python3
BIN := .venv/bin
# OpenMP threads that spin while they wait slow each other down on small machines.
export OMP_WAIT_POLICY ?= passive

.PHONY: install demo test check format bench bench-gpu clean

install: .venv/installed

.venv/installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "carpus needs Python 3.11 or newer, this is " + sys.version)'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

demo: install
	$(BIN)/carpus demo --out demo --overwrite

test: install
	$(BIN)/pytest -n 2

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: install
	$(BIN)/python -m benchmarks --json benchmarks.json

bench-gpu: install
	$(BIN)/python -m benchmarks.bench_gpu --json benchmarks-gpu.json

clean:
	rm -rf .venv demo benchmarks.json benchmarks-gpu.json

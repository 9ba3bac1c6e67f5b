# Everything runs in .venv, which is made and kept up to date here. Needs Python >= 3.11 and make; second runs
# reuse all of it and start in seconds.
#   make app     the chat on http://127.0.0.1:7860        make test      ruff, mypy, pytest
#   make demo    one question, no browser                 make bench     the measured results (needs DATA=folder)
# ARGS="..." passes options on: make app ARGS="--port 8000", make test ARGS="-k boxes"

PYTHON ?= python3
BIN := .venv/bin
ARGS ?=
DATA ?= $(MEDGLIP_DATA)
OUT ?= out

.DEFAULT_GOAL := help
.PHONY: help install weights app demo test lint typecheck unit format bench clean

help:
	@sed -n 's/^#   //p' Makefile

.venv/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "make: expected Python >= 3.11, got $$($(PYTHON) --version 2>&1); try: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

install: .venv/.installed

weights: .venv/.installed
	@$(BIN)/medglip fetch > /dev/null

app: weights
	$(BIN)/python app.py $(ARGS)

demo: weights
	@mkdir -p $(OUT)
	@image="$$($(BIN)/python -c 'from medglip_agent.examples import examples; print(examples()[0].path)')" && \
	  set -x && $(BIN)/medglip ask "$$image" "Where are the lungs?" --modality CR --out $(OUT)/demo.png $(ARGS)

test: weights lint typecheck unit

lint: .venv/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

typecheck: .venv/.installed
	$(BIN)/mypy

unit: .venv/.installed
	$(BIN)/python -m pytest --slow $(ARGS)

format: .venv/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: weights
	@test -d "$(DATA)/vqa" || { echo "make: expected DATA=folder with the data sets, got '$(DATA)'"; exit 1; }
	$(BIN)/python benchmarks/run_grounding.py --data-dir "$(DATA)" --out $(OUT)/grounding
	$(BIN)/python benchmarks/run_vqa.py --data-dir "$(DATA)" --split disjoint-test \
	  --boxes none predicted shuffled --out $(OUT)/vqa-disjoint
	$(BIN)/python benchmarks/run_latency.py --data-dir "$(DATA)" --out $(OUT)/latency.json

clean:
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache

# Every target sets up what it needs, from nothing but python3 (3.11 or newer) and the package index.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install -qq --disable-pip-version-check --constraint constraints.txt

.PHONY: explore test test-long check bench notebooks wheel-check ci-table
.DEFAULT_GOAL := explore

# The main job. SPACE=my-space.toml explores another space than those that come with the package; those end
# with one whose accuracy is measured by training runs, and its front is then trained again with new seeds.
explore: $(VENV)/.ready-run
	$(BIN)/dse explore $(SPACE)
	$(if $(SPACE),,$(BIN)/dse validate)

# The short mode, a process per core that takes whole files; ARGS goes to pytest.
test: $(VENV)/.ready-test
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile $(ARGS)

# The same, with more examples per property and the slow tests.
test-long: $(VENV)/.ready-test
	$(BIN)/python -m pytest --long $(ARGS)

check: $(VENV)/.ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.ready-test
	$(BIN)/python -m benchmarks $(ARGS)

# Run every notebook in place, so that what it shows is what this version computes.
notebooks: $(VENV)/.ready-test
	$(BIN)/jupyter-execute --inplace notebooks/*.ipynb

wheel-check: $(VENV)/.ready-dev
	bash .ci/wheel-check

# Add the minutes of the last .ci/run to docs/ci.md.
ci-table:
	$(PYTHON) .ci/minutes.py record

# Stamps: the environment is made once, and again when what it is made from changes.
$(VENV)/.ready-run: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) --editable '.[train,onnx,tflite]'
	@touch $@

$(VENV)/.ready-test $(VENV)/.ready-dev: $(VENV)/.ready-%: $(VENV)/.ready-run
	$(PIP) --editable '.[train,onnx,tflite,$*]'
	@touch $@

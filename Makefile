# Two commands: `make demo` shows the program at work, `make test` proves it.
# Both set up everything they need in .venv first.

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test lint benchmark clean

demo: $(READY)
	tools/with_display.sh $(BIN)/napari-qsm demo

test: $(READY) lint
	tools/with_display.sh --always-virtual $(BIN)/python -m pytest

lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/npe2 validate src/napari_qsm/napari.yaml

benchmark: $(READY)
	$(BIN)/python -m benchmarks

$(READY): pyproject.toml constraints.txt tools/setup.sh
	tools/setup.sh $(VENV)
	touch $@

clean:
	rm -rf $(VENV) demo-output

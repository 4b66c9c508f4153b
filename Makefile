# make demo   set up, train on built-in images, probe, open the dashboard   (make demo ARGS=--no-dashboard ends with a table)
# make test   set up, run the tests
# make check  what CI runs besides: lint, format, types, imports
# make docs   the documentation as a site on 127.0.0.1:8000   (make docs ARGS=--build builds it strictly and checks every link)
# make release   wheel and source distribution built, checked, installed afresh on the Pythons at hand, and tried
# make gpu    on a machine with a GPU: the tests that need one, and docs/gpu's tables of training steps and probes (a bare machine
#             that is lent for minutes: benchmarks/gpu and docs/gpu)
#
# uv sets everything up in .venv; where it is missing it goes into a folder of its own (.uv), whatever the system's pip allows.

UV := $(shell command -v uv 2>/dev/null || echo .uv/bin/uv)
RUN := $(UV) run --no-sync
# threads that spin while they wait make small models on shared machines many times slower
export OMP_WAIT_POLICY ?= PASSIVE
ARGS ?=

.PHONY: setup demo test check docs release gpu clean

# Bytecode is compiled here, once: where PYTHONDONTWRITEBYTECODE is set, as in many images, `import torch, timm` would else take
# 23 s in place of 8 in every process.
setup: $(UV)
	@$(UV) sync --quiet --compile-bytecode

demo: setup
	@$(RUN) lcmae demo $(ARGS)

test: setup
# three workers on two cores: many tests wait for processes of their own
	@$(RUN) pytest -n 3 --dist worksteal $(ARGS)

check: setup
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) pyright
	$(RUN) lint-imports

# --group docs adds to .venv what only the site needs; the next `make test` takes it out again
docs: setup
	@$(UV) run --quiet --group docs python docs/site/run.py $(ARGS)

release: $(UV)
	@PATH="$(dir $(UV)):$$PATH" python3 .ci/release.py $(ARGS)

TRAIN := $(RUN) python -m benchmarks.train --device cuda --out docs/gpu
gpu: setup
	$(RUN) pytest tests/lcmae/training/test_step.py -k cuda
	$(TRAIN) --batch 1024 4096
	for kernel in auto flash efficient cudnn written; do \
	  $(TRAIN) --objectives mae --variants graph --attention $$kernel --peers || exit; done
	$(TRAIN) --objectives mae --variants graph --batch 4096 --accumulate 8
	$(TRAIN) --shapes tiny2
	$(TRAIN) --shapes base16 --batch 256 512 1024 --variants eager compiled --rounds 5
	$(RUN) python -m benchmarks.probes --device cuda --out docs/gpu/probes.md

clean:
	rm -rf .venv .uv .pytest_cache .ruff_cache .hypothesis .import_linter_cache

.uv/bin/uv:
	@echo "uv is missing: installing it into .uv"
	@python3 -m venv .uv 2>/dev/null && .uv/bin/python -m pip install --quiet uv \
	  || { rm -rf .uv && python3 -m pip install --quiet --target .uv uv; }

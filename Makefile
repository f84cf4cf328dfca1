# make demo          the whole way once, from web pages to a talking model (about 10 minutes)
# make test          the test suite (under 10 minutes; needs Python 3.11+ and make, nothing else)
# make test-interop  what needs a browser (chromium) or a Ray cluster beside Python
# make check         format, lint, types, storeys, generated docs
# make docs          write docs/cli.md again        make format   write the code in one style
# make bench-NAME    a benchmark beside its peers, e.g. make bench-fetch BENCH="--json fetch.json"
# make clean         remove .venv and caches
#
# PYTHON=python3.12 picks a Python. TORCH_INDEX_URL=https://... picks another index for PyTorch, for machines where the
# default one would bring CUDA. DEMO="--minutes 1 --fresh" passes options to the demo.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt
DEMO ?=
BENCH ?=

.PHONY: help demo test test-interop check docs format clean

help:
	@sed -n 's/^# \{0,1\}//p' Makefile

demo: $(VENV)/.ready
	$(BIN)/gpt2lab demo $(DEMO)

test: $(VENV)/.ready-test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not interop" -n auto --maxprocesses 4 --dist loadfile

test-interop: $(VENV)/.ready-interop
	$(BIN)/python -m pytest -m interop

check: $(VENV)/.ready-check
	$(BIN)/ruff format --check src tests docs benchmarks
	$(BIN)/ruff check src tests docs benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/write_cli_reference.py --check

docs: $(VENV)/.ready-check
	$(BIN)/python docs/write_cli_reference.py

format: $(VENV)/.ready-check
	$(BIN)/ruff format src tests docs benchmarks
	$(BIN)/ruff check --fix src tests docs benchmarks

bench-%: $(VENV)/.ready
	$(BIN)/python -m benchmarks.$* $(BENCH)

bench-fetch: $(VENV)-scrapy/.ready

bench-dedup bench-build: $(VENV)-datatrove/.ready

bench-tokenize: $(VENV)-rustbpe/.ready

bench-weights: $(VENV)/.ready-test  # LLAMA_CPP=../llama.cpp adds its converter

bench-train: $(VENV)/.ready-test  # NANOGPT=../nanoGPT adds it

bench-speedrun: $(VENV)/.ready-test  # NANOGPT=../nanoGPT adds its seconds beside ours

bench-decode: $(VENV)/.ready-decode $(VENV)-llama-cpp/.ready $(VENV)-openvino/.ready

bench-evaluate: $(VENV)-lm-eval/.ready  # DATA=../shared/data: the folder with the evaluation sets

clean:
	rm -rf $(VENV) $(VENV)-* .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# PyTorch first: another package that asks for it may bring a build of several gigabytes.
$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "gpt2lab needs Python 3.11 or newer; try make PYTHON=python3.12")'
	@echo "setting up $(VENV) (once, a few minutes)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip --disable-pip-version-check install --quiet 'pip>=24.1'  # older ones trip over newspaper4k
	@$(PIP) $(if $(TORCH_INDEX_URL),--index-url $(TORCH_INDEX_URL)) torch
	@$(PIP) --editable .
	@touch $@

$(VENV)/.ready-test: $(VENV)/.ready
	@$(PIP) --editable '.[test]'
	@touch $@

$(VENV)/.ready-interop: $(VENV)/.ready-test $(VENV)-llama-cpp/.ready $(VENV)-lm-eval/.ready
	@$(PIP) --editable '.[test,interop,ray,tf,onnx,ctranslate2,trackio,wandb]'
	@touch $@

$(VENV)/.ready-decode: $(VENV)/.ready-test
	@$(PIP) --editable '.[test,ctranslate2]'
	@touch $@

$(VENV)/.ready-check: $(VENV)/.ready
	@$(PIP) --editable '.[test,check]'
	@touch $@

# Peers, each in an environment of its own.
# optimum-intel pins another transformers than ours, and brings a torchvision that does not fit the CPU's PyTorch.
$(VENV)-openvino/.ready:
	@echo "setting up $(VENV)-openvino (once)"
	@test -x $(VENV)-openvino/bin/python || $(PYTHON) -m venv $(VENV)-openvino
	@$(VENV)-openvino/bin/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt $(if $(TORCH_INDEX_URL),--index-url $(TORCH_INDEX_URL)) torch
	@$(VENV)-openvino/bin/python -m pip --disable-pip-version-check install --quiet 'torch==2.13.0' 'optimum-intel==2.2.0' 'openvino==2026.4.1' 'openvino-genai==2026.4.1.0' 'openvino-tokenizers==2026.4.1.0' 'nncf==3.4.0'
	@$(VENV)-openvino/bin/python -m pip --disable-pip-version-check uninstall --quiet --yes torchvision
	@touch $@

$(VENV)-scrapy/.ready:
	@echo "setting up $(VENV)-scrapy (once)"
	@test -x $(VENV)-scrapy/bin/python || $(PYTHON) -m venv $(VENV)-scrapy
	@$(VENV)-scrapy/bin/python -m pip --disable-pip-version-check install --quiet 'scrapy==2.19.0' 'warcio==1.8.1'
	@touch $@

# Its extra "inference" would bring PyTorch; what "io" and "processing" leave out, its blocks import all the same.
$(VENV)-datatrove/.ready:
	@echo "setting up $(VENV)-datatrove (once)"
	@test -x $(VENV)-datatrove/bin/python || $(PYTHON) -m venv $(VENV)-datatrove
	@$(VENV)-datatrove/bin/python -m pip --disable-pip-version-check install --quiet 'datatrove[io,processing]==0.10.1' lxml_html_clean spacy
	@touch $@

$(VENV)-rustbpe/.ready:
	@echo "setting up $(VENV)-rustbpe (once)"
	@test -x $(VENV)-rustbpe/bin/python || $(PYTHON) -m venv $(VENV)-rustbpe
	@$(VENV)-rustbpe/bin/python -m pip --disable-pip-version-check install --quiet 'rustbpe==0.1.0' 'pyarrow==25.0.1'
	@touch $@

# lm-evaluation-harness wants packages of its own; PyTorch first, as above.
$(VENV)-lm-eval/.ready: $(VENV)/.ready
	@echo "setting up $(VENV)-lm-eval (once)"
	@test -x $(VENV)-lm-eval/bin/python || $(PYTHON) -m venv $(VENV)-lm-eval
	@$(VENV)-lm-eval/bin/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt $(if $(TORCH_INDEX_URL),--index-url $(TORCH_INDEX_URL)) torch
	@$(VENV)-lm-eval/bin/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt 'lm-eval==0.4.13' transformers accelerate
	@touch $@

# llama.cpp is compiled, which takes minutes; pip keeps the result for the next environment on the same machine.
$(VENV)-llama-cpp/.ready:
	@echo "setting up $(VENV)-llama-cpp (once; compiles for some minutes)"
	@test -x $(VENV)-llama-cpp/bin/python || $(PYTHON) -m venv $(VENV)-llama-cpp
	@CMAKE_ARGS="-DLLAVA_BUILD=OFF -DLLAMA_BUILD_TOOLS=OFF -DLLAMA_BUILD_SERVER=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_TESTS=OFF" \
	  $(VENV)-llama-cpp/bin/python -m pip --disable-pip-version-check install --quiet 'llama-cpp-python==0.3.36' \
	  && touch $@ || echo "warning: llama.cpp could not be built here (no compiler?); its tests will be skipped"

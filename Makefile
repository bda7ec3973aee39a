# One entry for everything a contributor or CI runs. `make demo` and `make test` need only
# Python >= 3.10 with venv and headers, make and a C++17 compiler.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
SOURCES := $(shell find mafsar export csrc -type f ! -name '*.pyc') CMakeLists.txt pyproject.toml README.md

# Warnings are errors here and in CI, never for someone who installs the package.
export MAFSAR_WERROR := 1

.PHONY: help demo test fuzz kill test-slow test-edge test-oldest test-aarch64 test-processors test-live release figures lint format typecheck docs bench wheel starter clean preflight

help:  ## list the targets
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

# Runs a command and says on stderr what it does and, every ten seconds and at the end, for how long.
define step
@began=$$(date +%s); echo "$(1) ..." >&2; \
( while sleep 10 >/dev/null 2>&1; do echo "  ... $$(( $$(date +%s) - began )) s" >&2; done ) & clock=$$!; \
( $(2) ); status=$$?; kill $$clock; wait $$clock 2>/dev/null; \
[ $$status -ne 0 ] || echo "  done in $$(( $$(date +%s) - began )) s" >&2; exit $$status
endef

preflight:
	@command -v $(PYTHON) >/dev/null 2>&1 || { echo "error: $(PYTHON) is missing; install it: sudo apt-get install python3 python3-venv python3-dev" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "error: mafsar needs Python >= 3.10, $(PYTHON) is $$($(PYTHON) -V 2>&1); name another: make PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "error: python3-venv is missing; install it: sudo apt-get install python3-venv" >&2; exit 1; }
	@[ -n "$(RELEASED)" ] || $(PYTHON) -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' || { echo "error: the Python headers (Python.h) are missing; install them: sudo apt-get install python3-dev" >&2; exit 1; }
	@[ -n "$(RELEASED)" ] || command -v $${CXX:-c++} >/dev/null 2>&1 || { echo "error: no C++ compiler ($${CXX:-c++}); install one: sudo apt-get install g++" >&2; exit 1; }

$(BIN)/python: | preflight
	$(call step,making the environment $(VENV),$(PYTHON) -m venv $(VENV) && $(PIP) install --quiet --upgrade "pip>=25.1")

# The wheel of `make release` for this Python, where it is not older than the sources and this machine
# would not compile more than it has (the CUDA kernels): then nothing is compiled.
TAG = cp$(shell $(PYTHON) -c 'import sys; print("%d%d" % sys.version_info[:2])' 2>/dev/null)
RELEASED = $(shell command -v nvcc >/dev/null 2>&1 || for w in $$(ls dist/release/*-$(TAG)-*_$$(uname -m).whl 2>/dev/null); do \
	[ -n "$$(find $(SOURCES) -newer $$w 2>/dev/null | head -n 1)" ] || echo $$w; done | head -n 1)

dist/.built: $(SOURCES) | $(BIN)/python
	@mkdir -p dist && rm -f dist/*.whl
	@[ -z "$(RELEASED)" ] || { cp "$(RELEASED)" dist/ && echo "using $(RELEASED)" >&2; }
	$(call step,building mafsar (compiles the C++ kernels; about a minute),ls dist/*.whl >/dev/null 2>&1 || $(PIP) wheel --quiet --no-deps --wheel-dir dist .)
	@touch $@

$(VENV)/.edge: dist/.built
	$(call step,installing mafsar and its packages into $(VENV),$(PIP) install --quiet --force-reinstall --no-deps dist/*.whl && $(PIP) install --quiet "$$(ls $(CURDIR)/dist/*.whl)")
	@touch $@

$(VENV)/.test: $(VENV)/.edge
	$(call step,installing torch and what the tests need (several GB),$(PIP) install --quiet "$$(ls $(CURDIR)/dist/*.whl)[train]" --group test)
	@touch $@

$(VENV)/.lint: pyproject.toml | $(BIN)/python
	$(PIP) install --quiet --group lint
	@touch $@

$(VENV)/.docs: pyproject.toml | $(BIN)/python
	$(PIP) install --quiet --group docs
	@touch $@

wheel: dist/.built  ## build the wheel into dist/
	@ls dist/*.whl

demo: $(VENV)/.edge  ## render a support folder and queries, then name the queries; CLIPS=DIR (class folders): your clips too
	$(BIN)/python examples/demo.py demo
	$(BIN)/mafsar match demo/support demo/queries
	$(BIN)/python examples/order.py demo
ifdef CLIPS
	rm -rf demo-clips
	$(BIN)/python examples/demo.py demo-clips "$(CLIPS)"
	$(BIN)/mafsar match demo-clips/support demo-clips/queries
endif
	@echo "try your own clips: $(BIN)/mafsar match SUPPORT QUERY (SUPPORT/CLASS/clip.mp4)" >&2

# Each worker of a file of tests needs up to 3 GB.
test: $(VENV)/.test  ## run the tests on the built wheel
	$(BIN)/pytest -n auto --maxprocesses 4 --dist loadfile

# The native code is fuzzed by clang's libFuzzer (sudo apt-get install clang), the parsers by atheris.
FUZZ_MINUTES ?= 20
FUZZ_GUIDED ?= 30
fuzz: $(VENV)/.test  ## give thousands of damaged inputs to every door, and note what became of them in docs/reliability.md
	-$(PIP) install --quiet --group fuzz
	$(BIN)/python tests/fuzz/run.py --minutes $(FUZZ_MINUTES) --guided $(FUZZ_GUIDED) --write docs/reliability.md

kill: $(VENV)/.test  ## kill enroll, add, train, export, pack and watch at 200 random moments, noted in docs/reliability.md; goes on where it was stopped
	mkdir -p build
	$(BIN)/python -W ignore tests/faults/kill.py --kept build/kills.json --write docs/reliability.md

test-slow: $(VENV)/.test  ## run the tests that take minutes
	$(BIN)/pytest -m slow --timeout 3600
	PRECISIONS="fp16 int8" sh tests/edge/run.sh $(PYTHON) build/edge

# The Python of JetPack 6, where this machine has one; else the headers of $(PYTHON) stand in.
PYTHON310 ?= $(shell for p in python3.10 $$HOME/.pyenv/versions/3.10.*/bin/python3.10; do $$p -c '' 2>/dev/null && echo $$p && break; done)

test-edge: dist/.built  ## run the edge half where torch is not installed, also with ONNX Runtime 1.23 on Python 3.10
	sh tests/edge/run.sh $(PYTHON) build/edge
	@if [ -n "$(PYTHON310)" ]; then sh tests/edge/run.sh $(PYTHON310) build/edge310 "onnxruntime==1.23.*"; \
	else echo "no Python 3.10 here: ONNX Runtime 1.23 was not tried; name one: make test-edge PYTHON310=python3.10" >&2; fi

test-oldest: dist/.built  ## run the edge half with the lowest versions that pyproject.toml allows
	rm -rf build/oldest && $(PYTHON) -m venv build/oldest/venv
	$(BIN)/python release/oldest.py > build/oldest/needs.txt
	build/oldest/venv/bin/python -m pip install --quiet -r build/oldest/needs.txt
	build/oldest/venv/bin/python -m pip install --quiet --no-deps dist/*.whl
	cd build/oldest && MAFSAR_CACHE=$$PWD/cache venv/bin/python $(CURDIR)/tests/edge/verbs.py $$PWD/venv/bin/mafsar

release: $(BIN)/python  ## build wheels for glibc 2.28 and the source archive, check and try them (dist/release)
	$(BIN)/python release/release.py

figures: $(VENV)/.test  ## measure the figures of README and docs again; fails where one no longer holds
	$(BIN)/python benchmarks/figures.py

test-aarch64: $(VENV)/.test  ## cross-compile csrc and run its tests under qemu
	@command -v aarch64-linux-gnu-g++ >/dev/null 2>&1 || { echo "error: the cross compiler is missing; install it: sudo apt-get install g++-aarch64-linux-gnu" >&2; exit 1; }
	@command -v qemu-aarch64 >/dev/null 2>&1 || { echo "error: qemu-aarch64 is missing; install it: sudo apt-get install qemu-user" >&2; exit 1; }
	$(PIP) install --quiet --group aarch64
	PATH="$(CURDIR)/$(BIN):$$PATH" PYTHON310="$(PYTHON310)" $(BIN)/pytest -m aarch64 tests/edge/test_aarch64.py

test-processors: $(VENV)/.test  ## run fast tests on emulated processors with and without AVX2
	@command -v qemu-x86_64 >/dev/null 2>&1 || { echo "error: qemu-x86_64 is missing; install it: sudo apt-get install qemu-user" >&2; exit 1; }
	$(BIN)/pytest -m slow tests/edge/test_processors.py --timeout 3600

# Real servers and a real browser: gst-rtsp-server for RTSP, mosquitto for MQTT, Chromium for the studio.
# Installed where absent, as root or by sudo.
LIVE_PACKAGES := mosquitto mosquitto-clients python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad chromium

test-live: $(VENV)/.test  ## run the tests with an RTSP server, an MQTT broker and a browser, installed where absent
	@dpkg -s $(LIVE_PACKAGES) >/dev/null 2>&1 || { \
		root=$$([ "$$(id -u)" = 0 ] || echo sudo); \
		$$root apt-get update -qq && $$root apt-get install -y -qq --no-install-recommends $(LIVE_PACKAGES); } \
		|| { echo "error: cannot install $(LIVE_PACKAGES); install them: sudo apt-get install $(LIVE_PACKAGES)" >&2; exit 1; }
	$(PIP) install --quiet --group live
	$(BIN)/pytest -m live tests/live

lint: $(VENV)/.lint  ## ruff and clang-format, check only
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	find csrc -name '*.h' -o -name '*.cpp' -o -name '*.cu' | xargs $(BIN)/clang-format --dry-run --Werror

format: $(VENV)/.lint  ## rewrite the sources in the project's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	find csrc -name '*.h' -o -name '*.cpp' -o -name '*.cu' | xargs $(BIN)/clang-format -i

# mypy cannot follow the wheel's `export` -> `mafsar.export` mapping, so it reads a tree of links.
typecheck: $(VENV)/.lint $(VENV)/.test  ## mypy
	rm -rf build/typing && mkdir -p build/typing/mafsar
	ln -s $(CURDIR)/mafsar/* build/typing/mafsar/
	ln -s $(CURDIR)/export build/typing/mafsar/export
	MYPYPATH=build/typing $(BIN)/mypy --python-executable $(BIN)/python -p mafsar

# Docstrings are read from the sources by way of a tree of links, as in `typecheck`; nothing is
# imported. No --quiet: it hides the warnings from `strict`.
docs: $(VENV)/.docs  ## build the documentation as a site into build/site
	rm -rf build/docs build/site && mkdir -p build/docs/mafsar
	ln -s $(CURDIR)/mafsar/* build/docs/mafsar/
	ln -s $(CURDIR)/export build/docs/mafsar/export
	NO_MKDOCS_2_WARNING=1 PATH="$(abspath $(BIN)):$$PATH" mkdocs build
	@! grep -rnoE '<(script|link|img|iframe)[^>]* (src|href)="?https?:[^ >]*' build/site --include='*.html' \
		|| { echo "error: a page loads something from the network" >&2; exit 1; }
	@echo "wrote build/site: open build/site/index.html"

bench: $(VENV)/.test  ## run the benchmarks that need no data
	$(BIN)/python benchmarks/otam.py
	$(BIN)/python benchmarks/kernels.py
	$(BIN)/python benchmarks/evaluate.py
	$(BIN)/python benchmarks/encoders.py

POSE := 0.5.1675469404
starter: $(VENV)/.test  ## train the starter model again (about an hour and a half on two cores); goes on where it was stopped
	$(PIP) install --quiet --group starter
	mkdir -p build && cd build && npm pack --silent @mediapipe/pose@$(POSE) && \
	  tar xzf mediapipe-pose-$(POSE).tgz package/pose_landmark_lite.tflite && chmod u+r package/* && \
	  $(abspath $(BIN))/python -m mafsar.training.starter --pose package/pose_landmark_lite.tflite --work starter --out tiny.mafsar

clean:  ## remove what the other targets made
	rm -rf build dist demo demo-clips $(VENV)

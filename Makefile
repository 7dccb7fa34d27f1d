# `make demo` and `make test` install what they need into .venv; nothing has to be installed first.
PYTHON ?= python3
VENV := .venv
LOWEST := .venv-lowest
NEWEST := .venv-newest
PEERS := .venv-peers
BIN := $(VENV)/bin
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check

# Hide most of TensorFlow's start-up messages; a few lines are written before it reads this variable.
export TF_CPP_MIN_LOG_LEVEL ?= 3
# TensorFlow's import creates a folder for Keras in the home folder, or in "~" if that is unknown. It is unused.
export KERAS_HOME ?= /dev/null
# Let glibc use huge pages: ShallowNet's training step takes two thirds of the time (docs/performance.md).
export GLIBC_TUNABLES ?= glibc.malloc.hugetlb=1

.PHONY: demo test test-slow test-lowest test-newest test-peers lint clean

$(VENV)/.installed: setup.py
	$(PYTHON) .ci/check_install.py
	$(PYTHON) -m venv "$(VENV)"
	"$(BIN)/python" $(PIP_INSTALL) -e '.[test]'
	touch "$@"

# Build the toyfaces data set, train, evaluate, export, and name new faces.
DEMO := runs/demo
ANIMESION := "$(BIN)/python" -m animesion_jax.main

demo: $(VENV)/.installed
	mkdir -p "$(DEMO)"
	@echo "== 1/5 Draw the toyfaces data set"
	$(ANIMESION) build toyfaces --num_shards=4 --data_dir="$(DEMO)/data" \
		> "$(DEMO)/build.log" 2>&1 || { tail -20 "$(DEMO)/build.log"; exit 1; }
	@echo "== 2/5 Train ResNet-10"
	$(ANIMESION) --config=configs/demo.py --config.data_dir="$(DEMO)/data" --workdir="$(DEMO)/run"
	@echo "== 3/5 Evaluate the test split"
	$(ANIMESION) evaluate --workdir="$(DEMO)/run" --split=test
	@echo "== 4/5 Export a bundle"
	$(ANIMESION) export --workdir="$(DEMO)/run" --output="$(DEMO)/demo.msgpack"
	@echo "== 5/5 Draw new faces and name them; each file is named after its character"
	"$(BIN)/python" -m tfds_builders.toyfaces.draw --output="$(DEMO)/faces"
	$(ANIMESION) predict --bundle="$(DEMO)/demo.msgpack" --top_k=2 "$(DEMO)/faces"
	@echo "== Wrote $(DEMO)/run, $(DEMO)/demo.msgpack and $(DEMO)/faces. Next, name faces on a web page:"
	@echo "$(BIN)/animesion serve --bundle=$(DEMO)/demo.msgpack --examples $(DEMO)/faces  # http://127.0.0.1:7860"

# A worker uses a little more than one core.
WORKERS ?= 2

test: $(VENV)/.installed
	"$(BIN)/python" -m pytest -n $(WORKERS) --dist worksteal

# Data sets of full size, repeated kills, several processes: some minutes.
test-slow: $(VENV)/.installed
	"$(BIN)/python" -m pytest -n $(WORKERS) -m slow

# Run the tests, each with its first parameters, with the oldest releases that setup.py allows. pip cannot resolve to
# the oldest releases; uv can.
$(LOWEST)/.installed: setup.py
	$(PYTHON) .ci/check_install.py
	$(PYTHON) -m venv "$(LOWEST)"
	"$(LOWEST)/bin/python" $(PIP_INSTALL) 'uv>=0.9'
	VIRTUAL_ENV="$(LOWEST)" "$(LOWEST)/bin/uv" pip install --quiet --resolution=lowest-direct -e '.[test]'
	touch "$@"

test-lowest: $(LOWEST)/.installed
	"$(LOWEST)/bin/python" -m pytest -n $(WORKERS) --dist worksteal --one_of_each
	"$(LOWEST)/bin/python" -m pytest -m slow -k process tests/training/test_many_devices.py

# Run the tests with the newest releases under the newest Python, which .ci/newest_python.py finds: a release may need
# a newer Python than that of .venv. NEWEST_PYTHON names another.
$(NEWEST)/.installed: setup.py
	python="$${NEWEST_PYTHON:-$$($(PYTHON) .ci/newest_python.py)}" && "$$python" .ci/check_install.py && \
		"$$python" -m venv "$(NEWEST)"
	"$(NEWEST)/bin/python" $(PIP_INSTALL) -e '.[test]'
	touch "$@"

test-newest: $(NEWEST)/.installed
	"$(NEWEST)/bin/python" -m pytest -n $(WORKERS) --dist worksteal

# Compare with torchvision, timm and transformers. Install them without their requirements, which name another build of
# torch. Read everything else from .venv through a .pth file instead of installing it twice.
SITE_PACKAGES := import site; print(site.getsitepackages()[0])
WRITE_PTH := import pathlib, site, sys; folder = site.getsitepackages()[0]; \
	pathlib.Path(folder, "animesion.pth").write_text("import site; site.addsitedir(" + ascii(sys.argv[1]) + ")\n")

$(PEERS)/.installed: $(VENV)/.installed
	"$(BIN)/python" -m venv "$(PEERS)"
	"$(PEERS)/bin/python" -c '$(WRITE_PTH)' "$$("$(BIN)/python" -c '$(SITE_PACKAGES)')"
	"$(PEERS)/bin/python" $(PIP_INSTALL) torch==2.13.0
	"$(PEERS)/bin/python" $(PIP_INSTALL) --no-deps torchvision==0.28.0 timm==1.0.31 \
		transformers==5.24.0 tokenizers==0.23.3 regex==2026.11.19
	"$(PEERS)/bin/python" $(PIP_INSTALL) 'huggingface_hub>=1.31,<3' 'pyyaml>=6,<7'
	touch "$@"

test-peers: $(PEERS)/.installed
	"$(PEERS)/bin/python" -m pytest -m peers

lint: $(VENV)/.installed
	"$(BIN)/ruff" check .
	"$(BIN)/ruff" format --check .
	"$(BIN)/lint-imports"
	"$(BIN)/python" .ci/check_sizes.py
	"$(BIN)/python" .ci/check_prose.py README.md docs tfds_builders

clean:
	rm -rf "$(VENV)" "$(LOWEST)" "$(NEWEST)" "$(PEERS)" runs

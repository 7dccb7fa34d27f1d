# Every target makes its own environment when it is missing; nothing else has to be installed first.
PYTHON ?= python3
VENV := .venv
LOWEST := .venv-lowest
PEERS := .venv-peers
BIN := $(VENV)/bin
export TF_CPP_MIN_LOG_LEVEL ?= 2

.PHONY: demo test test-slow test-lowest test-peers lint clean

$(VENV)/.installed: setup.py
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "animesion_jax needs Python 3.11 or newer; say which with: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	touch $@

# The main job on the embedded data set: build it, train, evaluate, export, and name faces that it has never seen.
DEMO := runs/demo
demo: $(VENV)/.installed
	@mkdir -p $(DEMO)
	@echo "== 1/5 draw the toyfaces data set"
	cd tfds_builders/toyfaces && $(abspath $(BIN))/tfds build --num_shards=4 --data_dir=$(abspath $(DEMO))/data > $(abspath $(DEMO)).build.log 2>&1 || { tail -20 $(abspath $(DEMO)).build.log; exit 1; }
	@echo "== 2/5 train ShallowNet on it"
	$(BIN)/python -m animesion_jax.main --config=configs/demo.py --config.data_dir=$(DEMO)/data --workdir=$(DEMO)/run
	@echo "== 3/5 evaluate the test split"
	$(BIN)/python -m animesion_jax.main evaluate --workdir=$(DEMO)/run --split=test
	@echo "== 4/5 export one file that holds everything"
	$(BIN)/python -m animesion_jax.main export --workdir=$(DEMO)/run --output=$(DEMO)/demo.msgpack
	@echo "== 5/5 draw new faces, named after their characters, and recognise them"
	$(BIN)/python -m tfds_builders.toyfaces.draw --output=$(DEMO)/faces
	$(BIN)/python -m animesion_jax.main predict --bundle=$(DEMO)/demo.msgpack --top_k=3 $(DEMO)/faces
	@echo "== wrote: $(DEMO)/run (checkpoints, metrics.jsonl, curves.png, results.json), $(DEMO)/demo.msgpack, $(DEMO)/faces"

# Each worker is a process that uses a little more than one core.
WORKERS ?= 2
test: $(VENV)/.installed
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

# At the data sets' full size, killed over and over, and in several processes: some minutes.
test-slow: $(VENV)/.installed
	$(BIN)/python -m pytest -n $(WORKERS) -m slow

# The same tests, each with its first parameters, with the oldest releases that setup.py allows; uv is what can resolve
# to those.
$(LOWEST)/.installed: setup.py
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check 'uv>=0.9'
	VIRTUAL_ENV=$(LOWEST) $(LOWEST)/bin/uv pip install --quiet --resolution=lowest-direct -e '.[test]'
	touch $@

test-lowest: $(LOWEST)/.installed
	$(LOWEST)/bin/python -m pytest -n $(WORKERS) --dist worksteal --one_of_each

# Against torchvision and timm, whose own requirements are left out: they would pull another build of torch. All else is
# what the first environment has, by its Python, seen through a .pth file: no second copy of its 4 GB.
$(PEERS)/.installed: $(VENV)/.installed
	$(BIN)/python -m venv $(PEERS)
	echo "import site; site.addsitedir('$$($(abspath $(BIN))/python -c 'import site; print(site.getsitepackages()[0])')')" > \
	  "$$($(PEERS)/bin/python -c 'import site; print(site.getsitepackages()[0])')/animesion.pth"
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps torchvision==0.28.0 timm==1.0.31
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check 'huggingface_hub>=1,<3' 'pyyaml>=6,<7'
	touch $@

test-peers: $(PEERS)/.installed
	$(PEERS)/bin/python -m pytest -m peers

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

clean:
	rm -rf $(VENV) $(LOWEST) $(PEERS) runs

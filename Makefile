# make demo      install into .venv and make a video
# make app       install what it needs, too, and open a page to play with:  make app ARGS="--model me/lumos-1b --port 8000"
# make test      the whole test suite, in the same .venv;  make test-fast  what takes about a minute
# make test-faults  what killed processes, damaged files and broken code must not get past; not part of make test
# make demo-train  train the demo checkpoint again;  make demo-turbo  distill its turbo weights, which it needs afterwards;  make demo-score  measure it;  make demo-card  its model card
# make bench     speed and memory, into benchmarks/RESULTS.md; about half an hour
# make quality   formatting, lint and types, read only;  make style  formatting and lint, applied
# make lock      write requirements/ again after a change of pyproject.toml;  make lock-check  do the two fit?
# make upgrade   lock the newest versions, then run everything on them
# make test-versions  the suite with the lowest versions that pyproject.toml allows, and with the newest
PYTHON ?= python3
# Another build of PyTorch: make demo TORCH="torch --index-url https://download.pytorch.org/whl/cu130"
TORCH ?= --requirement requirements/torch.txt
TORCH_LOWEST ?= torch==2.13.0
TORCH_NEWEST ?= torch
UV ?= uv==0.13.9
VENV := .venv
BIN := $(VENV)/bin
OUTPUTS := outputs
# They start databases, servers and processes, so that the inner loop is quicker without them.
SERVERS := tests/app tests/cluster tests/parallel tests/serving
LOCKS := pyproject.toml setup.py scripts/check_lock.py $(wildcard requirements/*.txt)

.PHONY: demo app test test-fast test-faults quality style lock lock-check upgrade test-versions bench demo-train demo-turbo demo-score demo-card

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit("lumos_hf needs Python 3.11 or newer, as in: make demo PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet packaging
	touch $@

$(VENV)/.installed: $(LOCKS) | $(VENV)/.python
	$(BIN)/python scripts/check_lock.py
	$(BIN)/pip install --quiet $(TORCH)
	$(BIN)/pip install --quiet --no-deps --requirement requirements/base.txt
	$(BIN)/pip install --quiet --no-deps --editable .
	$(BIN)/pip check
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/pip install --quiet --no-deps --requirement requirements/dev.txt
	$(BIN)/pip check
	touch $@

demo: $(VENV)/.installed
	$(BIN)/lumos-hf generate "A purple heart floats up by the sea." --seed 0 --scale 3 -o $(OUTPUTS)/demo.mp4 -o $(OUTPUTS)/demo.png

$(VENV)/.installed-app: $(VENV)/.installed
	$(BIN)/pip install --quiet --no-deps --requirement requirements/app.txt
	$(BIN)/pip check
	touch $@

app: $(VENV)/.installed-app
	$(BIN)/lumos-hf app $(ARGS)

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n auto

test-fast: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n auto -m "not slow" $(SERVERS:%=--ignore %)

test-faults: $(VENV)/.installed-dev
	$(BIN)/python -m pytest tests/faults -n auto

quality: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python scripts/extract_examples.py $(OUTPUTS)/readme_examples.py
	$(BIN)/mypy src/lumos_hf scripts $(OUTPUTS)/readme_examples.py

style: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock-check: | $(VENV)/.python
	$(BIN)/python scripts/check_lock.py

lock: | $(VENV)/.python
	$(BIN)/pip install --quiet $(UV)
	scripts/resolve.sh $(BIN)/uv requirements/dev.txt --universal --python-version 3.11 --extra dev $(LOCK_OPTIONS)
	scripts/resolve.sh $(BIN)/uv requirements/base.txt --universal --python-version 3.11 --constraints requirements/dev.txt $(LOCK_OPTIONS)
	scripts/resolve.sh $(BIN)/uv requirements/app.txt --universal --python-version 3.11 --extra app --constraints requirements/dev.txt $(LOCK_OPTIONS)
	$(BIN)/python scripts/check_lock.py

upgrade:
	$(MAKE) lock LOCK_OPTIONS=--upgrade
	$(MAKE) quality test

test-versions: | $(VENV)/.python
	$(BIN)/pip install --quiet $(UV)
	scripts/test_versions.sh $(BIN)/uv lowest "$(TORCH_LOWEST)"
	scripts/test_versions.sh $(BIN)/uv newest "$(TORCH_NEWEST)"

bench: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/decode.py --height 128 --width 128
	$(BIN)/python benchmarks/train_step.py
	$(BIN)/python benchmarks/memory.py
	$(BIN)/python benchmarks/demo.py
	$(BIN)/python benchmarks/gpu.py

demo-train: $(VENV)/.installed-dev
	$(BIN)/python examples/demo_world/train_tokenizer.py --output $(OUTPUTS)/demo-training/vqvae-joint
	$(BIN)/python examples/demo_world/train_tokenizer.py --output $(OUTPUTS)/demo-training/vqvae-decoder \
		--refine $(OUTPUTS)/demo-training/vqvae-joint --steps 4000 --learning-rate 1.5e-3
	$(BIN)/python examples/demo_world/train_tokenizer.py --output $(OUTPUTS)/demo-training/vqvae \
		--refine $(OUTPUTS)/demo-training/vqvae-decoder --steps 2200 --learning-rate 1.5e-3
	$(BIN)/python examples/demo_world/train_generator.py --output $(OUTPUTS)/demo-training/transformer-text
	$(BIN)/python examples/demo_world/train_generator.py --output $(OUTPUTS)/demo-training/transformer-given \
		--refine $(OUTPUTS)/demo-training/transformer-text \
		--steps 660 --batch-size 8 --learning-rate 1.2e-3 --pair-share 0.1
	$(BIN)/python examples/demo_world/train_generator.py --refine $(OUTPUTS)/demo-training/transformer-given \
		--steps 850 --batch-size 8 --learning-rate 8e-4 --seed 1
	$(BIN)/python examples/demo_world/assemble.py

demo-turbo: $(VENV)/.installed-dev
	$(BIN)/python examples/demo_world/turbo.py

demo-card: $(VENV)/.installed-dev
	$(BIN)/python examples/demo_world/card.py

demo-score: $(VENV)/.installed-dev
	$(BIN)/lumos-hf evaluate demo

# make demo      install into .venv and make a video
# make test      the whole test suite, in the same .venv
# make demo-train  train the demo checkpoint again;  make demo-score  measure it;  make demo-card  its model card
# make bench     speed and memory, into benchmarks/RESULTS.md; about half an hour
# make quality   formatting and lint, read only;  make style  the same, applied
PYTHON ?= python3
# Another build of PyTorch: make demo TORCH="torch --index-url https://download.pytorch.org/whl/cu130"
TORCH ?= torch==2.13.0
VENV := .venv
BIN := $(VENV)/bin
OUTPUTS := outputs

.PHONY: demo test quality style bench demo-train demo-score demo-card

$(VENV)/.installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet $(TORCH)
	$(BIN)/pip install --quiet --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/pip install --quiet --editable ".[dev]"
	touch $@

demo: $(VENV)/.installed
	$(BIN)/lumos-hf generate "A purple heart floats up by the sea." --seed 0 --scale 3 -o $(OUTPUTS)/demo.mp4 -o $(OUTPUTS)/demo.png

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n auto

quality: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

style: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/decode.py --height 128 --width 128
	$(BIN)/python benchmarks/train_step.py
	$(BIN)/python benchmarks/memory.py
	$(BIN)/python benchmarks/demo.py
	$(BIN)/python benchmarks/gpu.py

demo-train: $(VENV)/.installed-dev
	$(BIN)/python examples/demo_world/train_tokenizer.py --output $(OUTPUTS)/demo-training/vqvae-joint
	$(BIN)/python examples/demo_world/train_tokenizer.py --output $(OUTPUTS)/demo-training/vqvae \
		--refine $(OUTPUTS)/demo-training/vqvae-joint --steps 4000 --learning-rate 1.5e-3
	$(BIN)/python examples/demo_world/train_generator.py
	$(BIN)/python examples/demo_world/assemble.py

demo-card: $(VENV)/.installed-dev
	$(BIN)/python examples/demo_world/card.py

demo-score: $(VENV)/.installed-dev
	$(BIN)/python -m lumos_hf.evaluation.score

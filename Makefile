# make test: lint and all tests.   make demo: a small real run, from synthetic words to an exported model.
# Both first install into a virtual environment here.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# Each takes up to about 3 GB. Tests of one file stay in one process, to build their shared fixtures once.
TEST_PROCESSES := 2

# Size and training time of the demo.
DEMO_TRAIN_WORDS := 4000
DEMO_TEST_WORDS := 300
DEMO_MINUTES := 4

.PHONY: test lint demo clean

test: $(VENV)/dev lint
	$(BIN)/python -m pytest --numprocesses $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder

lint: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/mypy

$(VENV)/dev: setup.py
	$(PYTHON) -c 'import sys; sys.exit("Python 3.10 or newer is needed; try make PYTHON=python3.11" if sys.version_info < (3, 10) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

$(VENV)/run: setup.py
	$(PYTHON) -c 'import sys; sys.exit("Python 3.10 or newer is needed; try make PYTHON=python3.11" if sys.version_info < (3, 10) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable .
	touch $@

demo: $(VENV)/run
	@rm -rf demo
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(MAKE) --no-print-directory demo-run

.PHONY: demo-run
demo-run:
	@mkdir -p demo
	aocr synth demo/train --count $(DEMO_TRAIN_WORDS) --seed 1 --log-path demo/aocr.log
	aocr synth demo/test --count $(DEMO_TEST_WORDS) --seed 2 --log-path demo/aocr.log
	aocr dataset demo/train/annotations.txt demo/train.tfrecords --log-path demo/aocr.log
	aocr dataset demo/test/annotations.txt demo/test.tfrecords --save-filename --log-path demo/aocr.log
	aocr train demo/train.tfrecords --model-dir demo/model --max-minutes $(DEMO_MINUTES) --log-path demo/aocr.log
	aocr test demo/test.tfrecords --model-dir demo/model --visualize --output-dir demo/pictures \
	  --log-path demo/aocr.log > demo/figures.txt 2> /dev/null
	aocr export demo/exported --model-dir demo/model --model-version 1 --log-path demo/aocr.log
	aocr export demo/frozen --model-dir demo/model --format frozengraph --log-path demo/aocr.log
	aocr predict --model-dir demo/model --log-path demo/aocr.log demo/test/000[0-4]-*.png 2> /dev/null
	@echo
	@cat demo/figures.txt
	@echo
	@echo "words          demo/train, demo/test (annotations.txt in each)"
	@echo "datasets       demo/train.tfrecords, demo/test.tfrecords"
	@echo "model          demo/model (tensorboard --logdir demo/model)"
	@echo "attention      demo/pictures/correct, demo/pictures/incorrect"
	@echo "SavedModel     demo/exported/1 (tensorflow_model_server --model_base_path=$(CURDIR)/demo/exported)"
	@echo "frozen graph   demo/frozen/frozen_graph.pb"
	@echo "log            demo/aocr.log"

clean:
	rm -rf $(VENV) demo build dist *.egg-info

# make run    a gate on 127.0.0.1:8080 with sample data; make test   everything that CI asks; make torture   what takes too long for CI;
# make mutants   changes of what decides that no test notices
# Needs Python 3.11, pip, git, make and gcc; `make test` also installs Redis, Kamailio and SIPp where apt-get can.
PYTHON ?= python3
DATA := .data
BIN := .venv/bin
SYSTEM := redis-server valkey-server kamailio kamailio-extra-modules kamailio-utils-modules kamailio-tls-modules kamailio-secsipid-modules sip-tester lua5.4 curl chromium \
  prometheus poppler-utils systemd openssl e2fsprogs
# What decides has tests of its own, which must take every branch of it; elsewhere no figure is demanded.
DECIDES := core/test_cases core/test_decision core/test_law lists/test_number_set lists/test_snapshot native/test_primitives
# They wait as often as they work: one more than there are processors.
WORKERS := $(shell echo $$(($$(nproc) + 1)))
# Of a hundred processes that a test run starts, each would read all of our code anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run sample demo test test-fast branches mutants torture watch lint docs reference bench failover fuzz kill clean forget system

run: sample
	exec $(BIN)/dialgate serve

# The sample answers are asked for anew each day, so that they never expire.
sample: .venv/installed
	@test -f $(DATA)/sample.key || $(BIN)/dialgate key sample --out $(DATA)/sample.key >/dev/null
	@test -n "$$(find $(DATA)/snapshots/manifest.json -mtime -1 2>/dev/null)" || \
	  $(BIN)/registry-sync import --registry rpo --controller acme --same-answer \
	    --request config/sample/rpo-request.txt --answer config/sample/rpo-answer.txt \
	    --consulted-at "$$(date +%Y-%m-%dT%H:%M:%S%:z)" --receipt "SAMPLE-$$(date +%s)"
	@$(BIN)/dialgate list show sample --json >/dev/null 2>&1 || \
	  $(BIN)/dialgate list load config/sample/list.csv --id sample --controller acme --campaign acme-fibre --basis directory \
	    --collected-by "the public directory (a sample)" --collected-on 2026-11-02 --yes

# Those that share the tests each take a file at a time. `make -j2 test` does what comes first side by side.
test: lint branches system
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

# What to run before each commit: no coverage, and none of the files that take longest.
test-fast: lint
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder -m "not slow and not torture"

branches: .venv/developing
	DIALGATE_INTERPRETED=1 $(BIN)/coverage run -m pytest -qq $(DECIDES:%=tests/%.py)
	$(BIN)/coverage report

# A whole file of damages takes minutes, so these targets set a limit of their own for each test.
HOURS := --timeout=7200 -o faulthandler_timeout=7500

# Mutants of the country files, and of what decides where it differs from SINCE (with ALL=1: of all of it). Judge a survivor in
# tests/mutants/survivors.yaml, or write the test that kills it.
SINCE ?= $(shell git merge-base HEAD origin/main 2>/dev/null || git rev-parse HEAD~1)
mutants: .venv/developing
	$(BIN)/python -m tests.mutants.countries
	$(BIN)/python -m tests.mutants.source $(if $(ALL),,--since $(SINCE))

# What takes too long for every change: developer benchmarks, the demonstration without a terminal, 300 kills under load, 1,000
# damages of a log and 300 of an index, 2,000 histories of faults, every byte of a bundle of evidence.
torture: .venv/developing
	$(BIN)/python -m pytest $(HOURS) -m torture
	DIALGATE_KILLS=300 DIALGATE_SIP_MESSAGES=20000 DIALGATE_DAMAGES=1000 DIALGATE_INDEX_DAMAGES=300 DIALGATE_FLIPS=0 DIALGATE_HISTORIES=500 \
	  $(BIN)/python -m pytest $(HOURS) \
	  tests/gate/test_pipeline.py tests/store/test_store_histories.py tests/gate/test_crash.py tests/decision_log/test_checkpoints.py tests/audit/test_evidence.py tests/deploy/test_kamailio_fuzz.py tests/decision_log/test_archive_index.py

# An hour of the demonstration, watched by a real Prometheus with the shipped rules: none may fire.
watch: .venv/developing system
	DIALGATE_WATCH=3600 $(BIN)/python -m pytest $(HOURS) tests/tools/test_demo.py

lint: .venv/developing
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

# The documentation site, in build/site: open build/site/index.html. A broken link is an error.
docs: .venv/developing
	$(BIN)/sphinx-build -q -W --keep-going -b html -c docs . build/site

# The reference pages that are generated from the code.
reference: .venv/developing
	$(BIN)/python -m docs.reference_pages

# Ten million inputs in all, most to the quickest targets. What it finds it leaves in .fuzz/.
FUZZ := listener=1000000 talk=1000000 form=4000000 authzen=4000000
fuzz: .venv/developing
	$(BIN)/pip install -qq --group fuzz
	for each in $(FUZZ); do $(BIN)/python -m tests.fuzz $${each%=*} $${each#*=} || exit 1; done

bench: .venv/installed
	$(BIN)/python -m tests.bench agi --json
	$(BIN)/dialgate bench decide --json
	$(BIN)/dialgate bench batch --json
	$(BIN)/dialgate bench http --json
	$(BIN)/python -m tests.bench console --json
	$(BIN)/dialgate bench numberset --json
	$(BIN)/python -m tests.bench registry --json
	$(BIN)/python -m tests.bench log --json
	$(BIN)/python -m tests.bench sip --json
	$(BIN)/python -m tests.bench redirect --json
	$(BIN)/python -m tests.bench reconcile --json
	$(BIN)/python -m tests.bench ship --json

# What CI does once: the master of a Cluster, and of a Sentinel trio, killed 200 times under load; `make failover CALLERS=24` asks more.
CALLERS := 6
failover: .venv/developing
	DIALGATE_FAILOVERS=200 DIALGATE_CALLERS=$(CALLERS) $(BIN)/python -m pytest $(HOURS) -s tests/store/test_failover.py

# What CI does a few times: the nightly job killed at 200 points.
kill: .venv/developing
	DIALGATE_REGISTRY_KILLS=200 $(BIN)/python -m pytest $(HOURS) tests/registry_sync/test_registry_kill.py

# Without ensurepip, which Debian puts in a package of its own: the system's pip installs one into the environment.
.venv/bin/pip:
	$(PYTHON) -m venv --without-pip .venv
	$(PYTHON) -m pip --python .venv/bin/python install --quiet 'pip>=25.1'

.venv/installed: pyproject.toml $(wildcard dialgate/native/*) | .venv/bin/pip
	$(BIN)/pip install -qq -e .
	@touch $@

# In one step. Modules are compiled when they are first imported: most of those of test tools never are.
.venv/developing: pyproject.toml $(wildcard dialgate/native/*) | .venv/bin/pip
	$(BIN)/pip install -qq --no-compile -e . --group dev
	@touch .venv/installed $@

# Calls apt-get only for missing packages. Without them tests are skipped, which is an error in CI.
system:
	@missing() { for package in $(SYSTEM); do \
	  dpkg-query -W -f='$${Status}' $$package 2>/dev/null | grep -q "ok installed" || printf " $$package"; done; }; \
	if test "$$(id -u)" = 0; then sudo=""; else sudo="sudo -n"; fi; \
	install() { $$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$$@" >/dev/null; }; \
	wanted="$$(missing)"; test -n "$$wanted" || exit 0; \
	if command -v apt-get >/dev/null && $$sudo true; then \
	  echo "installing$$wanted"; \
	  $$sudo apt-get update -qq; \
	  install $$wanted || for package in $$wanted; do install $$package; done; \
	fi; \
	wanted="$$(missing)"; test -n "$$wanted" || exit 0; \
	echo "could not install$$wanted; install these yourself" >&2; \
	test -z "$$CI"

# A gate at work on made-up numbers; nobody is called.
demo: .venv/installed
	$(BIN)/dialgate demo

clean:
	rm -rf .venv build dist *.egg-info .coverage* .mypy_cache .pytest_cache .ruff_cache .hypothesis

# The sample's decisions, keys and answers. Not part of clean: a decision log is not to be lost by the way.
forget:
	rm -rf $(DATA)

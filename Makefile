# make run        run a gate on 127.0.0.1:8080 with sample data
# make test       run all checks and tests; CI also runs `make package`
# make torture    run the tests that take too long for CI
# make mutants    change the country files, and list changes that no case detects
# make package    build wheel and sdist, and try them in a new environment
# Needs Python 3.11, pip, git and make. `make test` also installs Redis, Kamailio and SIPp with apt-get, if available.
PYTHON ?= python3
DATA := .data
BIN := .venv/bin
SYSTEM := redis-server valkey-server kamailio kamailio-extra-modules kamailio-utils-modules kamailio-tls-modules sip-tester lua5.4 curl chromium \
  prometheus poppler-utils systemd openssl e2fsprogs nodejs npm
# Tests of the code that decides. They must cover all of its branches; other code has no coverage target.
CORE := core/test_cases core/test_day_sets core/test_decision core/test_law core/test_periods core/test_vocabulary core/test_same_meaning
DECIDES := $(CORE) lists/test_number_set lists/test_snapshot registry_sync/test_registry_merging ledger/test_scrub_columns
# Two test processes more than processors, because tests often wait.
WORKERS := $(shell echo $$(($$(nproc) + 2)))
# A test run starts a hundred processes. Without compiled files, each would compile all modules again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run answers sample demo test test-fast branches mutants torture watch lint docs reference pictures bench soak failover fuzz kill dist package sbom lock clean forget system

run: sample
	exec $(BIN)/dialgate serve

# Only a gate writes to its data folder, so a gate runs while the list is loaded.
sample: answers
	@test -n "$$(ls $(DATA)/lists 2>/dev/null)" || { \
	  $(BIN)/dialgate serve >$(DATA)/sample.log 2>&1 & gate=$$!; \
	  until $(BIN)/dialgate list show >/dev/null 2>&1; do kill -0 $$gate 2>/dev/null || { cat $(DATA)/sample.log; exit 1; }; sleep 0.2; done; \
	  $(BIN)/dialgate list load config/sample/list.csv --id sample --controller acme --campaign acme-fibre --basis directory \
	    --origin public_directory --collected-by "the public directory (a sample)" --collected-on 2026-11-02 --yes; \
	  loaded=$$?; kill $$gate; wait $$gate; exit $$loaded; }

# Imports the sample answers again each day, so they never expire.
answers: .venv/installed
	@test -f $(DATA)/sample.key || $(BIN)/dialgate key sample --out $(DATA)/sample.key >/dev/null
	@test -n "$$(find $(DATA)/snapshots/manifest.json -mtime -1 2>/dev/null)" || \
	  $(BIN)/registry-sync import --registry rpo --controller acme --same-answer \
	    --request config/sample/rpo-request.txt --answer config/sample/rpo-answer.txt \
	    --consulted-at "$$(date +%Y-%m-%dT%H:%M:%S%:z)" --receipt "SAMPLE-$$(date +%s)"

# Each test process takes one file at a time. `make -j2 test` runs the prerequisites in parallel. The core's tests run in `branches`
# only.
test: lint branches system
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(CORE:%=--ignore=tests/%.py)

# For use before each commit: without coverage and without the slowest files.
test-fast: lint
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --fast

branches: .venv/developing
	$(BIN)/coverage run -m pytest -qq $(DECIDES:%=tests/%.py)
	$(BIN)/coverage report

# Some tests take minutes here, so these targets set a longer timeout.
HOURS := --timeout=7200 -o faulthandler_timeout=7500

# Mutants of the country files. For each survivor, write a case that detects it, or explain it in tests/mutants/survivors.yaml.
mutants: .venv/developing
	$(BIN)/python -m tests.mutants.countries

# Tests that take too long for every change: all mutants of country files, developer benchmarks, the demonstration without a terminal, 300 kills under load,
# 1,000 damaged logs and 300 damaged indexes, 500 histories of faults, 5,000 histories of two controllers on each store, every byte of an
# evidence bundle, every country case over HTTP, 1,000 writes by two commands at once, five minutes of `make soak`.
torture: mutants
	$(BIN)/python -m pytest $(HOURS) -m torture
	DIALGATE_KILLS=300 DIALGATE_SHIPPING_KILLS=20 DIALGATE_SIP_MESSAGES=20000 DIALGATE_DAMAGES=1000 DIALGATE_ARCHIVE_DAMAGES=300 DIALGATE_FLIPS=0 DIALGATE_HISTORIES=500 DIALGATE_WRITES=1000 DIALGATE_HTTP_CASES=all \
	  $(BIN)/python -m pytest $(HOURS) \
	  tests/gate/test_pipeline.py tests/store/test_store_histories.py tests/gate/test_crash.py tests/decision_log/test_checkpoints.py tests/audit/test_evidence.py tests/deploy/test_kamailio_fuzz.py tests/deploy/test_sip_redirect.py tests/decision_log/test_archive_index.py tests/shipping/test_shipping.py tests/shipping/test_streaming.py tests/gate/test_cases_over_http.py tests/interfaces/cli/test_one_way.py
	DIALGATE_HISTORIES=5000 $(BIN)/python -m pytest $(HOURS) -n 2 tests/properties/test_last_word.py

# An hour of the demonstration with a real Prometheus and the shipped rules; no alert may fire.
watch: .venv/developing system
	DIALGATE_WATCH=3600 $(BIN)/python -m pytest $(HOURS) tests/tools/test_demo.py

lint: .venv/developing
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

# Builds the documentation site: open build/site/index.html. A broken link is an error.
docs: .venv/developing
	$(BIN)/sphinx-build -q -W --keep-going -b html -c docs . build/site

# Generates reference pages from the code.
reference: .venv/developing
	$(BIN)/python -m tests.support.api_walk
	$(BIN)/python -m docs.reference_pages

# Records the moving picture of the README from the commands that it shows.
pictures: .venv/developing
	$(BIN)/python -m tests.support.moving_picture

# Ten million inputs in total, most of them for the fastest targets. Findings are written to .fuzz/.
FUZZ := listener=1000000 talk=1000000 form=8000000
fuzz: .venv/developing
	$(BIN)/pip install -qq --group fuzz
	for each in $(FUZZ); do $(BIN)/python -m tests.fuzz $${each%=*} $${each#*=} || exit 1; done

bench: .venv/developing
	$(BIN)/python -m tests.bench decide --json
	$(BIN)/python -m tests.bench batch --json
	$(BIN)/python -m tests.bench http --json
	$(BIN)/python -m tests.bench numberset --json
	$(BIN)/python -m tests.bench registry --json
	$(BIN)/python -m tests.bench log --json

# An hour of load on two gates and one Redis with Sentinels, beside reloads, stops, packing, removal and failovers. What it shows:
# docs/explanation/soak.md. Hours: `make soak MINUTES=600 RATE=1000`. `make torture` runs five minutes.
MINUTES := 60
RATE := 2000
soak: .venv/developing
	$(BIN)/python -m tests.bench soak --minutes $(MINUTES) --rate $(RATE) --json

# Kills the master of a Redis Cluster, and of a Sentinel trio, 200 times under load (CI: once). `make failover CALLERS=24` adds load.
CALLERS := 6
failover: .venv/developing
	DIALGATE_FAILOVERS=200 DIALGATE_CALLERS=$(CALLERS) $(BIN)/python -m pytest $(HOURS) -s tests/store/test_failover.py

# Kills the nightly job at 200 points (CI: a few).
kill: .venv/developing
	DIALGATE_REGISTRY_KILLS=200 $(BIN)/python -m pytest $(HOURS) tests/registry_sync/test_registry_kill.py

# Pinned, so that a new release changes nothing unseen. To renew: set the newest versions here, then `make lock` and the tests.
PIP := pip==26.3
UV := uv==0.13.9

# Does not need ensurepip, which Debian has in a separate package: the system's pip installs pip into the environment.
.venv/bin/pip:
	$(PYTHON) -m venv --without-pip .venv
	$(PYTHON) -m pip --python .venv/bin/python install --quiet $(PIP)
	-$(BIN)/pip install -qq $(UV)

# uv takes much less processor time than pip, which installs where there is no uv.
install = $(BIN)/uv pip install -q --python $(BIN)/python $(1) 2>/dev/null || $(BIN)/pip install -qq --no-compile $(1)

# `make run` and CI install every extra, in the versions and with the hashes of requirements/.
# --no-compile saves time: most modules are never imported, and others are compiled at their first import.
.venv/installed: pyproject.toml requirements/all.txt requirements/build.txt | .venv/bin/pip
	@echo "Installing Python packages into .venv"
	$(call install,--require-hashes -r requirements/all.txt -r requirements/build.txt)
	$(BIN)/pip install -qq --no-deps --no-build-isolation -e .
	@touch $@

.venv/developing: pyproject.toml requirements/dev.txt requirements/generators.txt | .venv/bin/pip
	@echo "Installing Python packages into .venv"
	$(call install,--require-hashes -r requirements/dev.txt)
	$(call install,--no-deps --require-hashes -r requirements/generators.txt)
	$(BIN)/pip install -qq --no-deps --no-build-isolation -e .
	@touch .venv/installed $@

# Runs apt-get only for missing packages. Without them tests are skipped, which is an error in CI.
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

# Builds wheel and sdist in dist/.
dist: .venv/developing
	$(BIN)/python -m build --outdir dist .

# Builds wheel and sdist, installs the wheel without extras in a new environment, and tries it. Needs the package index.
package: .venv/developing
	$(BIN)/python -m pytest $(HOURS) -m package tests/packaging

# Writes the bill of materials (CycloneDX) of what the container installs. uv runs the tool in an environment of its own.
sbom: .venv/developing
	@mkdir -p dist
	$(BIN)/pip install -qq $(UV)
	$(BIN)/uv tool run -q --from cyclonedx-bom cyclonedx-py requirements --pyproject pyproject.toml --output-reproducible -o dist/sbom.json requirements/all.txt

# Updates all locked versions, and the table of telephone areas. Run it after a change of dependencies, or to upgrade them;
# then read the diff and run the tests.
LOCK := uv pip compile -q --upgrade --universal --generate-hashes --python-version 3.11 --custom-compile-command "make lock"
lock: | .venv/bin/pip
	$(BIN)/pip install -qq $(UV)
	$(BIN)/$(LOCK) --extra all --group dev pyproject.toml -o requirements/dev.txt
	$(BIN)/$(LOCK) --extra all -c requirements/dev.txt pyproject.toml -o requirements/all.txt
	$(BIN)/$(LOCK) --group build -o requirements/build.txt
	$(BIN)/$(LOCK) --group generators --no-deps -o requirements/generators.txt
	$(MAKE) .venv/developing
	$(BIN)/python -m tests.packaging.phone_areas

# A demonstration with invented numbers. No calls are placed.
demo: .venv/installed
	$(BIN)/dialgate demo

clean:
	rm -rf .venv build dist *.egg-info .coverage* .mypy_cache .pytest_cache .ruff_cache .hypothesis

# Deletes the sample's decisions, keys and answers. Not part of clean, so a decision log is not deleted by accident.
forget:
	rm -rf $(DATA)

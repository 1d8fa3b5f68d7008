# `make demo` shows it at work, `make test` runs every test, `make bench` measures. Each installs
# what is missing.

ARGS ?=
BUILT = $(or $(CARGO_TARGET_DIR),target)/debug

.PHONY: demo test chaos bench check setup

demo: setup ## Everything at work on a throwaway database; ARGS="--once --events 100" ends by itself
	cargo run -p outbox-bin -- demo $(ARGS)

test: setup ## Every test, on one throwaway PostgreSQL
	cargo build --workspace --all-features --all-targets
	$(BUILT)/outbox-sandbox exec -- cargo test --workspace --all-features

chaos: setup ## Breaks everything at random for five minutes; ARGS="--duration 30m --seed 7"
	cargo build --quiet -p outbox-chaos
	cargo run --quiet -p outbox-chaos -- $(ARGS)

bench: setup ## Performance beside baselines and other queues; ARGS=--quick shows in minutes that it works
	cargo build --quiet --release --locked --manifest-path outbox-bench-peers/Cargo.toml --target-dir target/peers
	cargo run --quiet --release -p outbox-bench -- $(ARGS)

check: setup ## All that .ci/run checks beside the tests
	ci/check

setup:
	@ci/setup

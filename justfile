# The commands of this project. `just` lists them.

default:
    @just --list

# What lands a change.
ci:
    bash .ci/run

# The built-in system, live.
demo *ARGS:
    cargo run --release -- demo {{ARGS}}

fmt:
    cargo fmt --all

# Format and lints, as strict as CI.
lint:
    cargo fmt --all -- --check
    cargo clippy --workspace --all-targets -- -D warnings

docs:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

# All tests; with nextest where it is installed.
test *ARGS:
    if cargo nextest --version >/dev/null 2>&1; then cargo nextest run --workspace {{ARGS}}; else cargo test --workspace {{ARGS}}; fi
    cargo test --workspace --doc

# Tests with servers, clients and languages that nobody here wrote; installs them below target/peers.
peers *ARGS:
    tests/peers/run {{ARGS}}

# The container images, from this tree alone (deploy/image/README.md).
image *ARGS:
    deploy/image/build {{ARGS}}

# Tests of what stands in deploy/; installs their tools and builds the image.
deploy *ARGS:
    tests/deploy/run {{ARGS}}

# Licences, duplicates, sources and (with network) advisories of all dependencies.
deny:
    cargo deny check

# Micro benches of what stands on the request path.
bench *ARGS:
    cargo bench --workspace {{ARGS}}

# One fuzz target (fuzz/README.md), ten minutes unless told otherwise.
fuzz TARGET *ARGS:
    bash fuzz/run {{TARGET}} {{ARGS}}

# All fuzz targets, one after another, so many seconds each.
fuzz-all SECONDS="600":
    bash fuzz/run-all {{SECONDS}}

# Couplet beside HAProxy, nginx and Envoy (benches/load/install gets them): processor time, latency, memory.
bench-load *ARGS:
    cargo bench --workspace --bench load -- {{ARGS}}

# The analyzer before fleets of which everything is known: what it finds, what it predicts, how much it takes in.
bench-fleet *ARGS:
    cargo bench --workspace --bench fleet -- {{ARGS}}

# Instructions and system calls of one request (needs valgrind and strace); `--check` compares with a budget.
bench-cost *ARGS:
    cargo bench --workspace --profile cost --bench cost -- {{ARGS}}

.PHONY: demo test lint

# The main job on a real PostgreSQL: 200 clients of 24 tenants over 5 server connections.
demo:
	cargo build --release --quiet
	./target/release/tenantry demo $(ARGS)

# Installs what is missing, then runs every test on PostgreSQL 15 and 18.
test:
	scripts/test

lint:
	cargo fmt --all -- --check
	cargo clippy --workspace --all-targets --quiet -- -D warnings

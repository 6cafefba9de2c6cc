# What a newcomer types: make demo, make test, make bench. Each does its own set-up and asks nothing.
#
#   make demo                  the main job for real: containers in a container in a container
#   make test                  every test
#   make test-against-docker   the API's contract on the Docker that DROSTE_TEST_DOCKER_HOST names
#   make bench                 Droste against the Docker that BENCH_DOCKER_HOST names
#   make fuzz                  each fuzz target for SECONDS (60)
#   make install               PREFIX/bin/droste, shell completions, units for systemd
#   make completions           shell completions in target/completions

HOST        := $(shell rustc -vV | sed -n 's/^host: //p')
TARGET      ?= $(HOST)
TARGET_DIR  := $(abspath $(or $(CARGO_TARGET_DIR),target))
DROSTE      := $(TARGET_DIR)/$(TARGET)/release/droste
CLIENTS     := $(TARGET_DIR)/clients
PREFIX      ?= /usr/local
ROOT        := $(if $(filter 0,$(shell id -u)),,sudo -n -E)
FOR_TARGET  := CARGO_TARGET_$(shell echo $(TARGET) | tr a-z- A-Z_)
RUNNER_NAME := $(FOR_TARGET)_RUNNER
# For another processor, the linker that Debian and Ubuntu have for it, unless the environment names one.
LINKER      := $(if $(filter $(HOST),$(TARGET)),,$(or $($(FOR_TARGET)_LINKER),$(subst -unknown,,$(TARGET))-gcc))
UNITS       := $(PREFIX)/lib/systemd/system

.PHONY: all build demo test test-against-docker bench fuzz install completions setup-build setup-test clean
all: build

# With an explicit target the flags do not reach proc macros, which can't be static.
build: setup-build
	$(if $(LINKER),$(FOR_TARGET)_LINKER=$(LINKER)) RUSTFLAGS="-C target-feature=+crt-static" cargo build --quiet --release --target $(TARGET) -p droste-cli --bin droste

setup-build:
	@scripts/setup build $(TARGET)

setup-test: setup-build
	@scripts/setup test
	@scripts/clients $(CLIENTS)
	@scripts/kernel $(TARGET_DIR)/vm >/dev/null

demo: build
	@scripts/setup demo
	@$(ROOT) env TARGET_DIR=$(TARGET_DIR) scripts/demo $(DROSTE)

test: build setup-test
	$(if $(ROOT),env $(RUNNER_NAME)="$(ROOT)") DROSTE_BIN=$(DROSTE) DROSTE_TEST_CLIENTS=$(CLIENTS) DROSTE_TEST_KERNEL=$(TARGET_DIR)/vm scripts/cargo-test --workspace

test-against-docker: setup-test
	@test -n "$$DROSTE_TEST_DOCKER_HOST" || { echo "set DROSTE_TEST_DOCKER_HOST=unix://PATH to a real dockerd" >&2; exit 1; }
	$(if $(ROOT),env $(RUNNER_NAME)="$(ROOT)") DROSTE_TEST_CLIENTS=$(CLIENTS) scripts/cargo-test -p droste-test-api -p droste-test-clients

bench: build
	@scripts/setup test
	@scripts/clients $(CLIENTS)
	@$(ROOT) python3 bench/bench.py --droste $(DROSTE) --docker-client $(CLIENTS)/bin/docker --clients $(CLIENTS)

fuzz: setup-build
	@scripts/fuzz $(SECONDS)

completions: build
	@mkdir -p $(TARGET_DIR)/completions
	@for shell in bash zsh fish; do $(DROSTE) completion $$shell >$(TARGET_DIR)/completions/droste.$$shell; done
	@echo "completions are in $(TARGET_DIR)/completions"

install: completions
	$(ROOT) install -D -m 755 $(DROSTE) $(DESTDIR)$(PREFIX)/bin/droste
	$(ROOT) install -D -m 644 $(TARGET_DIR)/completions/droste.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/droste
	$(ROOT) install -D -m 644 $(TARGET_DIR)/completions/droste.zsh $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_droste
	$(ROOT) install -D -m 644 $(TARGET_DIR)/completions/droste.fish $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/droste.fish
	sed 's|@BIN@|$(PREFIX)/bin|' contrib/systemd/droste.service | $(ROOT) install -D -m 644 /dev/stdin $(DESTDIR)$(UNITS)/droste.service
	$(ROOT) install -D -m 644 contrib/systemd/droste.socket $(DESTDIR)$(UNITS)/droste.socket
	$(if $(DESTDIR),,$(ROOT) groupadd -f -r droste)
	$(if $(DESTDIR),,! [ -d /run/systemd/system ] || $(ROOT) systemctl daemon-reload)

clean:
	cargo clean

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
COMMIT ?= $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
MADE ?= $(shell git log -1 --format=%cI 2>/dev/null)
LDFLAGS := -s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT) -X main.made=$(MADE)
export PATH := $(CURDIR)/bin/tools:$(PATH)
SOAK ?= 100
FUZZ ?= 30s
# Where make install puts things, below DESTDIR.
PREFIX ?= /usr/local
SYSCONFDIR ?= /etc

.PHONY: help
help: ## say what there is to do
	@echo 'Berth: a container engine that speaks the Docker Engine API. On a fresh machine, as root, begin with `make demo`.'
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' Makefile

.PHONY: build
build: ## build bin/berthd and bin/berth-shim
	scripts/setup build
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/berthd ./cmd/berthd
	CGO_ENABLED=0 go build -trimpath -tags no_grpc -ldflags '$(LDFLAGS)' -o bin/berth-shim ./cmd/berth-shim

.PHONY: demo
demo: build ## take the tour: a daemon in a sandbox, a container, three API versions, a reload; leaves nothing behind
	scripts/setup demo
	@CGO_ENABLED=0 go build -o bin/demo ./demo
	@scripts/sandbox bin/demo

.PHONY: first-hour
first-hour: ## play the first hour of a user with a fresh clone, in a sandbox; leaves nothing behind
	scripts/setup test
	scripts/first-hour

.PHONY: install
install: build ## install under PREFIX (/usr/local): programs, systemd units, completion, manual, a default configuration
	scripts/install install '$(DESTDIR)' '$(PREFIX)' '$(SYSCONFDIR)'

.PHONY: uninstall
uninstall: ## take away what make install put there; a configuration that was changed stays, and all data
	scripts/install uninstall '$(DESTDIR)' '$(PREFIX)' '$(SYSCONFDIR)'

.PHONY: run
run: build ## start a daemon for use on /run/berth/berth.sock, and say how to point the docker CLI at it
	scripts/setup demo
	@scripts/run

.PHONY: test
test: ## run everything: format, vet, staticcheck, unit and integration tests, race detector on, real containers
	scripts/setup test
	$(MAKE) --no-print-directory lint
	go run ./internal/testrun -race -count=1 -timeout 14m -parallel 3 ./...

.PHONY: lint
lint: ## check format, go vet and staticcheck
	@unformatted=$$(gofmt -l .); \
	[ -z "$$unformatted" ] || { echo "not formatted, run gofmt -w:" $$unformatted; exit 1; }
	go vet -tags clients,vm ./...
	go tool staticcheck ./...

.PHONY: clients
clients: ## run Debian's docker CLI, docker compose v1 and v2, dockerode, testcontainers-go and sen against Berth; apart from test, for what they take
	scripts/setup test
	scripts/setup clients
	go run ./internal/testrun -race -count=1 -tags clients -timeout 20m -run 'TestCompose|TestDockerode|TestTestcontainers|TestSen|TestClients|TestCLI$$' ./integration

.PHONY: vm-test
vm-test: ## run what depends on the kernel in throwaway machines: cgroup v2, without systemd and with it, the units, and more networks
	scripts/setup vm
	scripts/vm-test

.PHONY: soak
soak: ## run the tests that have a size at SOAK (default 100) times their usual one, and cut a machine's power SOAK/5 times
	scripts/setup test
	scripts/setup vm
	go run ./internal/testrun -race -count=1 -timeout 4h -run 'Soak' ./integration ./integration/faults -soak=$(SOAK)
	scripts/vm-kill $$(($(SOAK) / 5))

.PHONY: fuzz
fuzz: ## look for bad input to every parser that takes bytes from outside, FUZZ (default 30s) long each
	@for file in $$(git grep -l '^func Fuzz' -- '*_test.go'); do \
		for name in $$(sed -n 's/^func \(Fuzz[A-Za-z]*\)(.*/\1/p' $$file); do \
			echo "$$name in $$(dirname $$file)"; \
			go test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZ) ./$$(dirname $$file); \
		done; \
	done

.PHONY: docs
docs: ## write docs/configuration.md from the table of keys
	go test -count=1 ./daemon/config -run TestDocumentation -update

.PHONY: bench
bench: build ## measure Berth against runc alone, dockerd and podman; BENCH='-only run,exec -rounds 9' chooses
	scripts/setup bench
	@CGO_ENABLED=0 go build -o bin/bench ./bench
	@bin/bench $(BENCH)

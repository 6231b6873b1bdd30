# The commands of a developer. `make` prints this list; the text after ## describes a target.
.DEFAULT_GOAL := help
SHELL := bash
.SHELLFLAGS := -euo pipefail -c

GO ?= go
# Pinned here and not in go.mod: a linter is no dependency of the product.
STATICCHECK = $(GO) run honnef.co/go/tools/cmd/staticcheck@v0.8.1

# Packages that the race detector slows down ten times without finding anything (one goroutine at a
# time), and packages that start real processes. Those of SOME have tests of both kinds, and run
# twice: see internal/proof/raced. A cached result says nothing of processes that a test builds, so
# UNRACED runs each time.
SOME = ./limiter ./internal/sqlite
UNRACED = $$($(GO) list ./... | grep -E '/internal/proof/(protocol|tidy|sim|e2e|faults)$$') $(SOME)
RACED = $$($(GO) list ./... | grep -v -E '/internal/proof/(protocol|tidy|sim|e2e|faults)$$')

.PHONY: help install test check lint race contract faults fuzz sim model mutants bench bench-shop demo generate build release again

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: ## get what the tests need: Go modules, redis-server, postgresql, the Kafka broker's jars, chromium, wrk, Schemathesis, kubernetes-validate, promtool
	$(GO) mod download
	deploy/local-stack install

# Here the tests on real servers fail if a server is missing, instead of being skipped.
test: export PENSTOCK_TEST_SERVERS = 1
test: install ## all tests, with the race detector where it can find something; needs a network the first time
	$(GO) test -race -timeout 40m $(RACED)
	$(GO) test -count=1 -timeout 40m $(UNRACED)

check: lint ## lint and unit tests: what to run before a commit, under a minute once built
	$(GO) test -short $$($(GO) list ./... | grep -v -E '/internal/proof/(e2e|faults)$$')

lint: ## gofmt, vet, staticcheck
	@unformatted=$$(gofmt -l .); if [ -n "$$unformatted" ]; then echo "not formatted: $$unformatted"; exit 1; fi
	$(GO) vet ./...
	$(STATICCHECK) -checks all,-ST1000 ./...

race: ## the unit tests with the race detector
	$(GO) test -race -timeout 40m $(RACED)

contract: install ## send both listeners what their contracts allow and forbid (Schemathesis), CASES (default 8) for each operation
	PENSTOCK_TEST_SERVERS=1 $(GO) test ./internal/proof/e2e -run '^TestContract_Schemathesis$$' -contract.cases=$${CASES:-8} -timeout 30m -v

faults: install ## a sale under each of some forty real faults, half an hour; FAULTS (default all) names some, with commas
	PENSTOCK_TEST_SERVERS=1 $(GO) test ./internal/proof/faults -run '^TestFaults$$' -faults=$${FAULTS:-all} -timeout 90m -v

fuzz: ## every fuzz test for FUZZTIME (default 20s) each
	@for p in $$($(GO) list ./...); do \
		for f in $$($(GO) test -list '^Fuzz' $$p | grep '^Fuzz' || true); do \
			echo "$$p $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $${FUZZTIME:-20s} $$p; \
		done; \
	done

# First the base of the simulator: its model of Redis against the scripts, and its database against
# the stores' suite.
sim: ## the simulator: its histories, and new seeds for SIMTIME (default 5m); FROM names the first, RECORD a file that says which were run
	$(GO) test ./inventory -run '^TestMiniredis$$'
	$(GO) test ./internal/sqlite -run '^TestStore$$'
	$(GO) test ./internal/proof/sim -run '^(TestScenarios|TestSim)$$' -sim.time=$${SIMTIME:-5m} -sim.from=$${FROM:-0} -sim.record=$${RECORD:+$$(realpath -m "$$RECORD")} -timeout 0 -v

model: ## the large walks of the protocol's model: a hundred million states, 3 GB, a quarter of an hour
	GOGC=50 $(GO) test ./internal/proof/protocol -run NoLawBroken -long -timeout 3h -v

mutants: export PENSTOCK_TEST_SERVERS = 1
mutants: install ## take each rule of the protocol out, of the model and of the code, and demand that something breaks
	@for f in internal/proof/protocol/testdata/mutants/*.txt; do echo "== the model without the rule against $$(basename $$f .txt)"; sed 's/^/   /' $$f; done
	$(GO) test ./internal/proof/protocol -run Mutants
	$(GO) test ./internal/proof/sim -run '^TestMutants$$' -sim.mutants=all -timeout 3h -v

bench: ## all benchmarks: ROUNDS (default 5) interleaved rounds, medians, ratios
	.ci/bench

bench-shop: install ## a whole shop on real servers beside its peers: the table of docs/performance.md; SHOP adds flags
	PENSTOCK_TEST_SERVERS=1 $(GO) test ./internal/proof/shop -run '^TestShop$$' -shop.measure -timeout 3h -v $(SHOP)

demo: ## a sale of 1,000 units to 20,000 buyers on this machine
	$(GO) run ./cmd/penstock demo

generate: ## bring generated files up to date
	$(GO) generate ./...

build: ## ./penstock
	$(GO) build -trimpath -o penstock ./cmd/penstock

release: ## ./dist: binaries, Debian packages, Helm chart, what they are made of, and their checksums
	rm -rf dist
	GO=$(GO) deploy/release dist

again: ## build a release twice, elsewhere and from nothing, and compare
	GO=$(GO) deploy/release again

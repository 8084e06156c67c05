# What can be done here: make help

VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
FUZZTIME ?= 10000x
KILLS    ?= 200
MYSQLKILLS ?= 20
EXT4CUTS ?= 100
XFSCUTS  ?= 30
FAULTS   ?= 13
NODES    ?= 3
HOURS    ?= 1
SEED     ?=
SLACK    ?=
DIR      ?=
PLATFORMS ?=

# Where goroutines meet. The rest has none, and the race detector is slow.
RACE := ./internal/auth ./internal/audit ./client/... ./internal/admin/... ./internal/broker/... ./internal/cluster/... ./internal/journal/... ./internal/loadgen/... ./internal/outbox/... \
	./internal/relay ./internal/server/... ./internal/wal/...

# What make test does beside each other: the first row needs nothing but processors, and gets what is left of them; the second one, in this order,
# is about real time and real files, and does not wait for the first.
COMPUTING := worlds fuzz
PROMPT    := unit schema race waiting

# What make waiting does beside each other. Only the second row installs something, as one installation at a time is possible.
CUTTING    := chaos cut history clients
INSTALLING := deploy page mysql kill adapters

# $(call beside,A,B) runs two commands at the same time. What A says comes in the end. Who is interrupted stops A, which the shell would not.
beside = log=$$(mktemp); $(1) >$$log 2>&1 & other=$$!; trap "kill $$other" INT TERM; $(2); bad=$$?; wait $$other || bad=1; cat $$log; rm -f $$log; [ $$bad = 0 ]

# Watermill's suite reads what one of its goroutines still writes: the detector is for the adapter, not for that.
UNRACED := github.com/ThreeDotsLabs/watermill/pubsub/tests

# What make bench measures, from the protocol to the sockets.
LAYERS    := ./wire ./internal/queue ./internal/wal ./internal/journal/... ./internal/broker ./internal/server ./client ./internal/loadgen
LAYER     ?=
COUNT     ?= 6
BENCHTIME ?= 0.1s
BROKERS   ?= gmq
ROUNDS    ?= 3
NATS      ?=

STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2

.NOTPARALLEL:
.DEFAULT_GOAL := build
.PHONY: help build test waiting fmt vet unit worlds front schema clients adapters deploy dist reproduce page mysql race fuzz kill sim histories groups cluster chaos history cut soak deep bench bench-cluster scale budget demo lint clean

help: ## say what can be done
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## one static binary: bin/gmq
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/gmq ./cmd/gmq

test: fmt vet ## everything that must hold before a change lands
	@$(call beside,nice -n 19 $(MAKE) --no-print-directory $(COMPUTING),$(MAKE) --no-print-directory $(PROMPT))
	@all="$^ $(COMPUTING) $(filter-out waiting,$(PROMPT)) $(CUTTING) $(INSTALLING)"; if command -v "$$(go env CC)" >/dev/null 2>&1; then echo "passed: $$all"; \
	else echo "passed: $$all, but 1 SKIPPED: race (no C compiler)"; fi

waiting: ## those parts of the tests that wait for processes and disks most of the time, two beside each other
	@[ "$$(id -u)" != 0 ] || { command -v ip && command -v mkfs.ext4 && command -v mkfs.xfs; } >/dev/null || \
		{ apt-get update -q && apt-get install -yq iproute2 e2fsprogs xfsprogs; } || true
	@$(call beside,$(MAKE) --no-print-directory SLACK=2 $(CUTTING),$(MAKE) --no-print-directory $(INSTALLING))

fmt: ## is every file as gofmt would have it?
	@files=$$(gofmt -l .) || exit 1; [ -z "$$files" ] || { echo "gofmt would change:"; echo "$$files"; exit 1; }

vet: ## go vet
	go vet ./...

unit: ## the tests, but for those that are parts of their own below (documents use nc: installed if root may)
	@command -v nc >/dev/null || [ "$$(id -u)" != 0 ] || { apt-get update -q && apt-get install -yq --no-install-recommends netcat-openbsd; } >/dev/null || true
	go test -vet=off -timeout 30m $$(go list ./... | grep -v -e /test/kill$$ -e /test/powercut$$ -e /mysqljournal$$ -e /test/mariadb$$ -e /test/mysql$$ -e /test/outbox$$ -e /test/mysqlbench$$ -e /test/clients$$ -e /test/deploy$$ -e /test/chaos$$ -e /internal/sim$$)

worlds: ## everything in simulation as make test has it: brokers, groups, clusters, the faults put in on purpose
	go test -vet=off -timeout 60m ./internal/sim

schema: ## docs/schema against the decoder, the frames in docs/protocol.md and a real server; UPDATE=1 writes it anew
	cd test/schema && go vet ./... && go test $(if $(UPDATE),-update) ./...

clients: ## the TypeScript client's tests, and the examples in other languages, against a real server (skips, and says so, what has no interpreter here)
	go test -count=1 -v ./test/clients

deploy: ## alerts, dashboard, unit, image and manifests against a real server (promtool from the system's packages, if root may fetch it)
	@mkdir -p bin; [ -x bin/promtool ] || command -v promtool >/dev/null || [ "$$(id -u)" != 0 ] || \
		(dir=$$(mktemp -d) && chmod 755 "$$dir" && cd "$$dir" && { apt-get download -q prometheus || { apt-get update -q && apt-get download -q prometheus; }; } && \
		dpkg-deb -x prometheus_*.deb . && cp usr/bin/promtool '$(CURDIR)/bin/' && rm -rf "$$dir") >/dev/null 2>&1 || true
	go test -count=1 -v ./test/deploy

dist: ## a release for PLATFORMS (linux and darwin, amd64 and arm64) in dist: archives, packages, bills of materials, checksums
	rm -rf dist && PLATFORMS='$(PLATFORMS)' VERSION='$(VERSION)' deploy/dist.sh dist

reproduce: ## build the release of this commit twice, for PLATFORMS (linux/amd64), from two clean checkouts: are they the same bytes?
	PLATFORMS='$(if $(PLATFORMS),$(PLATFORMS),linux/amd64)' deploy/reproduce.sh

adapters: ## the modules in adapters: Watermill's own suite, with the server killed under it, and traces; race detector if there is a C compiler
	@race=; if command -v "$$(go env CC)" >/dev/null 2>&1; then race='-race -gcflags=$(UNRACED)=-race=false'; else echo "without the race detector, which needs a C compiler"; fi; \
	for dir in adapters/*/; do \
		echo "cd $$dir && go vet ./... && go test $$race -short ./..."; \
		out=$$(cd "$$dir" && go vet ./... && CGO_ENABLED=$${race:+1} go test $$race -short -count=1 ./... 2>&1) || \
			{ echo "$$out" | grep -v -e '^publishing message' -e '^error on publish' -e '^cannot publish'; exit 1; }; \
	done

front: ## the tests of the protocol, with the clients at a node that leads nothing (usage is told of the node that is asked, so one is left out)
	@dir=$$(mktemp -d) && CGO_ENABLED=0 go build -tags front -o $$dir/gmq ./cmd/gmq && \
		GMQ_EXE=$$dir/gmq go test -count=1 -timeout 10m ./test/wire ./test/auth ./test/limits -skip TestBodiesAreKeptOnce; \
		bad=$$?; rm -rf $$dir; exit $$bad

page: ## the admin page in a real browser without a screen (Chromium: installed if root may)
	@command -v chromium >/dev/null || [ "$$(id -u)" != 0 ] || { apt-get update -q && apt-get install -yq --no-install-recommends chromium fonts-dejavu-core; } >/dev/null || true
	@for browser in "$${GMQ_TEST_CHROMIUM:-chromium}" chromium-browser google-chrome; do found=$$(command -v "$$browser") && break; done; \
	if [ -z "$$found" ]; then echo "SKIPPED: the page in a browser: there is no Chromium, and it could not be installed"; \
	elif ! (cd test/page && go mod download); then echo "SKIPPED: the page in a browser: what drives it could not be fetched"; \
	else cd test/page && go vet . && go test -count=1 -timeout 5m .; fi

mysql: ## what needs a MariaDB (installed if root may, or that of GMQ_TEST_MYSQL_DSN): journal, wire, tables, outbox, MYSQLKILLS (20) kills of each
	go test -count=1 -timeout 10m ./internal/journal/mysqljournal ./test/mariadb ./test/mysql ./test/outbox
	GMQ_TEST_STORAGE=mysql go test -count=1 -timeout 10m ./test/wire
	go test -count=1 -timeout 10m ./test/kill -run MySQL -mysql-kills $(MYSQLKILLS)

race: ## the tests with goroutines under the race detector (needs a C compiler)
	@if command -v "$$(go env CC)" >/dev/null 2>&1; then \
		echo "CGO_ENABLED=1 go test -vet=off -race -short -timeout 30m $(RACE)"; \
		CGO_ENABLED=1 go test -vet=off -race -short -timeout 30m $(RACE); \
	else \
		echo "SKIPPED: the race detector needs a C compiler, and $$(go env CC) is not installed"; \
	fi

fuzz: ## every fuzz target for FUZZTIME (10000x: that many inputs; a time makes the engine fail at its end now and then)
	@binary=$$(mktemp); trap 'rm -f $$binary' EXIT; \
	for package in $$(grep -rlE --include='*_test.go' '^func Fuzz' . | xargs -n 1 dirname | sort -u); do \
		go test -c -vet=off -fuzz . -o $$binary "$$package" || exit 1; \
		cache=$$(go env GOCACHE)/fuzz/$$(go list "$$package"); \
		for target in $$(grep -hoE '^func Fuzz[A-Za-z0-9_]+' "$$package"/*_test.go | cut -c 6- | sort); do \
			echo "fuzz $$package $$target $(FUZZTIME)"; \
			(cd "$$package" && $$binary -test.run '^$$' -test.fuzz "^$$target\$$" -test.fuzztime $(FUZZTIME) -test.fuzzminimizetime 20x -test.fuzzcachedir "$$cache") </dev/null || exit 1; \
		done; \
	done

kill: ## kill the server KILLS (200) times under load; nothing confirmed may be lost
	go test -count=1 -timeout 10m ./test/kill -run 'Kill$$|Term$$' -kills $(KILLS)

sim: ## the whole broker in simulation, faults included: 150 worlds, or that of SEED
	go test -count=1 -v ./internal/sim -run 'TestSimulation|TestSameSeed' $(if $(SEED),-sim-seed $(SEED))

histories: ## 2000 random histories of a queue against its model, each time others, or that of SEED
	go test -count=1 -timeout 25m ./internal/queue -run 'TestHistories$$' $(if $(SEED),-seed $(SEED),-new-seeds 2000)

groups: ## Raft groups in simulation: 300 worlds and the faults put in on purpose, or the world of SEED
	go test -count=1 -timeout 25m -v ./internal/sim -run 'TestGroups|TestSameGroups|TestGroupMutants|TestMemoryGroups|TestMemoryMutants|TestPlacedGroups|TestPlacedMutants' -groups-seeds 150 -memory-seeds 50 -placed-seeds 100 $(if $(SEED),-groups-seed $(SEED))

cluster: ## the whole cluster in simulation: 300 worlds of three and five nodes, 100 of more nodes than replicas, and the faults put in on purpose, or the world of SEED
	go test -count=1 -timeout 60m -v ./internal/sim -run 'TestCluster|TestSameCluster|TestPlacedCluster' $(if $(SEED),-run 'TestCluster$$' -cluster-seed $(SEED),-cluster-seeds 300 -placed-cluster-seeds 100 -groups-seeds 100)

chaos: ## a cluster of real processes in networks of their own, with their power, cables and files taken away: FAULTS (13) of them, or for HOURS, with NODES (3), from SEED (needs root, or user namespaces)
	@[ "$$(id -u)" != 0 ] || { command -v ip && command -v mkfs.ext4; } >/dev/null || \
		{ apt-get update -q && apt-get install -yq iproute2 e2fsprogs; } || true
	go test -count=1 -timeout 0 -v ./test/chaos -nodes $(NODES) $(if $(SLACK),-slack $(SLACK)) $(if $(filter command environment,$(origin HOURS)),-faults 0 -hours $(HOURS),-faults $(FAULTS)) $(if $(SEED),-seed $(SEED))

history: ## what a few clients did to a queue of a cluster, checked for an order in which a queue could have done it (a module of its own, with Porcupine)
	cd test/history && go vet ./... && go test -count=1 -timeout 5m ./...

cut: ## cut the power EXT4CUTS (100) and XFSCUTS (30) times under load, and fill the disk (needs the right to mount; says what is missing)
	@[ "$$(id -u)" != 0 ] || { command -v mkfs.ext4 && command -v mkfs.xfs; } >/dev/null || \
		{ apt-get update -q && apt-get install -yq e2fsprogs xfsprogs; } || true
	go test -count=1 -timeout 10m -v ./test/powercut -ext4 $(EXT4CUTS) -xfs $(XFSCUTS)

soak: ## everything that goes wrong, for HOURS (1; fractions too), from SEED, with a report (in DIR if one is given)
	@[ "$$(id -u)" != 0 ] || { command -v mkfs.ext4 && command -v mkfs.xfs; } >/dev/null || \
		{ apt-get update -q && apt-get install -yq e2fsprogs xfsprogs; } || true
	go test -count=1 -timeout 0 -v ./test/soak -hours $(HOURS) $(if $(SEED),-seed $(SEED)) $(if $(DIR),-out '$(abspath $(DIR))')

deep: ## backlogs of 10,000,000 messages: memory, restart, draining, disk
	go test -count=1 -timeout 30m -v ./test/deep -messages 10000000

bench-cluster: build ## three nodes on this machine: confirms a second, CPU, latency; BROKERS=gmq,jetstream,rabbitmq measures those too
	cd test/clusterbench && go run . -exe '$(CURDIR)/bin/gmq' -brokers '$(BROKERS)' $(if $(NATS),-nats '$(NATS)') -rounds '$(ROUNDS)'

bench: ## the benchmarks of the layers, or of LAYER (such as internal/broker), COUNT (6) times BENCHTIME (0.1s), as benchstat reads them
	@go test -run '^$$' -bench . -benchmem -benchtime $(BENCHTIME) -count $(COUNT) $(if $(LAYER),./$(LAYER),$(LAYERS)) | \
		awk '/^(goos|goarch|cpu): /{if (seen[$$0]++) next} !/^(PASS|ok)/{print; fflush()} /^(FAIL|---)/{bad=1} END{exit bad}'

scale: ## what many queues, connections, topics and large bodies cost, and file beside memory: ratios, measured side by side
	go test -count=1 -timeout 20m -run '^$$' -bench . -benchtime 1x ./test/bench

budget: ## what a message costs step by step, by profiles of a server in memory and of one with files
	@for run in memory:5000000 file:2000000; do \
		dir=$$(mktemp -d) && n=$${run#*:} && \
		go test -run '^$$' -bench "Sockets/$${run%:*}/through$$" -benchtime $${n}x -cpuprofile $$dir/cpu -o $$dir/test ./internal/server | grep '^Benchmark' && \
		go tool pprof -top -cum -unit ns -nodecount 1000 $$dir/test $$dir/cpu 2>/dev/null | awk -v n=$$n -f test/bench/budget.awk; \
		rm -rf $$dir; \
	done

demo: ## the file-flow example at work, in DIR if one is given
	go run ./examples/fileflow/demo $(if $(DIR),-dir '$(DIR)')

lint: ## staticcheck (fetched on first use)
	go run $(STATICCHECK) ./...

clean: ## remove bin and dist
	rm -rf bin dist

# Thin: every target does all of its own set-up, then calls CMake.

JOBS ?= $(shell nproc)
LISTEN ?= 127.0.0.1:8080
ARGS ?=
MINUTES ?= 30
PREFIX ?= /usr/local
DESTDIR ?=
TEST ?=
# Another version lays out, and warns, in another way.
CLANG_FORMAT ?= clang-format-14
CLANG_TIDY ?= clang-tidy-14
PRODUCT = base pool journal coord redis app restart server lastcall library program cli
FOLDERS = $(PRODUCT) include tests bench
CHECK = ./tests/check.py
SELECTED = $(if $(TEST),--test '$(TEST)')
SOURCES = $(shell find $(FOLDERS) -name "*.[ch]")

.PHONY: bench-run bench-long-run bench-speed-run
.PHONY: bench-restart bench-rolling bench-soak bench-proxy bench-pool-run bench-pool-long-run
.PHONY: install deb abi check-package
.PHONY: help run check check-loss asan tsan clang coverage fuzz valgrind bench bench-long bench-peers bench-speed \
        bench-pool bench-pool-long bench-library model format format-check tidy tidy-all clean

help:
	@echo "make run         build, and serve on $(LISTEN); Ctrl+C drains it (ARGS='--deadline 1s' ...)"
	@echo "make check       build, and run all tests; TEST=queue: one program of them (or a regular expression);"
	@echo "                 TEST='queue:test_full*': tests of it. asan, tsan and fuzz take TEST as well"
	@echo "make check-loss  the loss tests, 20 runs of each shape"
	@echo "make asan tsan   all tests under the sanitizers"
	@echo "make valgrind    the process tests' server under memcheck"
	@echo "make fuzz        the readers of configurations, records, archives, requests and forms on what nobody would write (clang, 90 seconds)"
	@echo "make clang       build with clang and run the unit tests"
	@echo "make coverage    lines and branches that the unit tests and some process tests run, by folder;"
	@echo "                 fails below 90 % of the lines of pool, coord or journal"
	@echo "make model       check the model of handlers in place with spin, and that planted mistakes are found"
	@echo "                 ARGS=--wide: greater sizes as well"
	@echo "make bench       stop lastcall and other servers under load, count what is lost (10 minutes)"
	@echo "                 tables, and a page with pictures: build/bench/drain.html"
	@echo "make bench-long  the same with 20 runs each"
	@echo "make bench-restart  restart lastcall and other servers under load, count what the clients notice (13 minutes)"
	@echo "make bench-rolling  stop and restart three lastcalls behind lastcall, nginx and HAProxy, 200 times each, count"
	@echo "                 what the clients notice (20 minutes)"
	@echo "make bench-soak  the proxy between an upstream that fails and clients that misbehave; every request is"
	@echo "                 accounted for (MINUTES=30)"
	@echo "make bench-proxy the proxy beside h2o, nginx and HAProxy: rates, CPU time, system calls, memory (3 minutes)"
	@echo "make bench-peers install the other servers (Debian packages; no service is started)"
	@echo "make bench-speed throughput beside h2o and nginx, exit lag"
	@echo "make bench-pool  what the worker pool costs, beside inline handlers, Go, nginx and Node (10 minutes;"
	@echo "                 ARGS=--quick: the rows that must hold, in 2 minutes)"
	@echo "make bench-pool-long  the same with 9 rounds (30 minutes), written into docs/bench/pool.md"
	@echo "make bench-library  hello in liblastcall beside the built-in route, Go, libmicrohttpd and civetweb (6 minutes),"
	@echo "                 written into docs/bench/library.md"
	@echo "make install     build, and install into PREFIX ($(PREFIX)); DESTDIR is honoured"
	@echo "make deb         Debian packages, in build/deb; lintian must have no complaint"
	@echo "make abi         compare the interface of the library with tests/abi/liblastcall.abi (ARGS=--update: commit to it)"
	@echo "make check-package  install, upgrade and purge them in a Debian of their own, under systemd, while clients"
	@echo "                 send requests (root; makes the Debian with debootstrap, from the network)"
	@echo "make format      clang-format over the sources"
	@echo "make tidy        clang-tidy over the product; tidy-all: over tests and bench as well"

run: build/release/.configured
	@./scripts/build.sh release $(JOBS) lastcall
	@exec ./build/release/lastcall --listen $(LISTEN) $(ARGS)

check: build/release/.configured
	@./scripts/build.sh release $(JOBS)
	@$(CHECK) release $(SELECTED)

check-loss: build/release/.configured
	@./scripts/build.sh release $(JOBS)
	LASTCALL_RUNS=20 $(CHECK) release --test loss

asan tsan: %: build/%/.configured
	@./scripts/build.sh $@ $(JOBS)
	LASTCALL_RUNS=1 $(CHECK) $@ $(SELECTED)

clang: build/clang/.configured
	@./scripts/build.sh clang $(JOBS)
	@$(CHECK) clang $(SELECTED) -L unit

fuzz: build/fuzz/.configured
	@./scripts/build.sh fuzz $(JOBS) fuzz_config_tree fuzz_config_apply fuzz_record fuzz_archive fuzz_requests \
		fuzz_parts fuzz_forms fuzz_mux fuzz_answers fuzz_fcgi_answers fuzz_cgi_head
	@$(CHECK) fuzz $(SELECTED)

valgrind: build/debug/.configured
	@./scripts/build.sh debug $(JOBS)
	LASTCALL_VALGRIND=1 $(CHECK) debug --test '^(process|process_drain|process_h2|triggers|tls|proxy|proxy_faults|upstream_answers|fastcgi_faults)$$'

model:
	@./scripts/setup.sh packages spin gcc libc6-dev python3
	@./tests/model/check.py $(ARGS)

# Processes that end by _exit(2) or a signal leave no data: what they run counts only where another test runs it, too.
COVERED = process|process_drain|triggers|manager|heartbeat|policy|unfinished|replay|queue|queue_lost_replies|queue_replay|register|restart|app|admin

coverage: build/coverage/.configured
	@./scripts/build.sh coverage $(JOBS)
	@find build/coverage -name '*.gcda' -delete
	-@LASTCALL_RUNS=1 $(CHECK) coverage -L unit
	-@LASTCALL_RUNS=1 $(CHECK) coverage --test '^($(COVERED))$$'
	@./tests/coverage.py build/coverage

bench bench-long bench-speed: build/release/.configured
	@./scripts/setup.sh bench
	@./scripts/build.sh release $(JOBS)
	@$(MAKE) --no-print-directory $@-run

bench-run:
	@mkdir -p build/bench
	./bench/drain/drain.py --short --json build/bench/drain.json --html build/bench/drain.html $(ARGS)

bench-long-run:
	@mkdir -p build/bench
	./bench/drain/drain.py --long --json build/bench/drain.json --html build/bench/drain.html $(ARGS)

bench-speed-run:
	./bench/drain/exit_lag.py
	./bench/speed/throughput.py

bench-restart: build/release/.configured
	@./scripts/setup.sh bench
	@./scripts/build.sh release $(JOBS)
	@mkdir -p build/bench
	./bench/drain/restart.py --json build/bench/restart.json --svg build/bench/restart.svg $(ARGS)

bench-rolling: build/release/.configured
	@./scripts/setup.sh bench
	@./scripts/setup.sh packages haproxy
	@./scripts/build.sh release $(JOBS) lastcall lastcall-load
	@mkdir -p build/bench
	./bench/drain/rolling.py --json build/bench/rolling.json $(ARGS)

bench-soak: build/release/.configured
	@./scripts/setup.sh packages nodejs
	@./scripts/build.sh release $(JOBS) lastcall
	./bench/proxy/soak.py $(MINUTES) $(ARGS)

bench-proxy: build/release/.configured
	@./scripts/setup.sh bench
	@./scripts/setup.sh packages haproxy strace
	@./scripts/build.sh release $(JOBS) lastcall lastcall-upstream
	./bench/speed/proxy.py $(ARGS)

bench-pool bench-pool-long: build/release/.configured
	@./scripts/setup.sh bench
	@./scripts/build.sh release $(JOBS) lastcall lastcall-bare-h2o lastcall-load lastcall-pool-lock
	@mkdir -p build/bench
	@$(MAKE) --no-print-directory $@-run

bench-pool-run:
	./bench/speed/pool.py --json build/bench/pool.json $(ARGS)

bench-pool-long-run:
	./bench/speed/pool_paper.py --docs docs/bench/pool.md
	./bench/speed/pool.py --rounds 9 --json build/bench/pool.json --docs docs/bench/pool.md $(ARGS)

bench-library: build/release/.configured
	@./scripts/setup.sh bench
	@./scripts/setup.sh packages golang-go libmicrohttpd-dev libcivetweb-dev
	@./scripts/build.sh release $(JOBS) lastcall lastcall-library-hello
	./bench/speed/library.py --docs docs/bench/library.md $(ARGS)

bench-peers:
	./bench/peers/peers.py --install

# The unit and the pages name paths, so the prefix must be known to the build.
install: build/release/.configured
	@./scripts/setup.sh packages scdoc
	@cmake --preset release -DCMAKE_INSTALL_PREFIX='$(PREFIX)' >/dev/null
	@./scripts/build.sh release $(JOBS) installable
	@DESTDIR='$(DESTDIR)' cmake --install build/release --strip

deb:
	@./scripts/setup.sh deb
	@./scripts/deb.sh $(JOBS)

abi: build/release/.configured
	@./scripts/setup.sh packages abigail-tools
	@./scripts/build.sh release $(JOBS) lastcall_shared
	@./scripts/abi.sh build/release/library/liblastcall.so.0 $(ARGS)

check-package: deb
	@./scripts/setup.sh packages debootstrap systemd-container python3
	@./tests/package/check.py $(ARGS)

build/%/.configured: CMakeLists.txt CMakePresets.json $(shell find $(FOLDERS) -name CMakeLists.txt) scripts/setup.sh
	@./scripts/setup.sh $(if $(filter clang fuzz,$*),ci,$(if $(filter coverage,$*),coverage,build))
	@cmake --preset $* >/dev/null
	@touch $@

format:
	@./scripts/pinned.sh $(CLANG_FORMAT) 14 clang-format-14
	$(CLANG_FORMAT) -i $(SOURCES)

format-check:
	@./scripts/pinned.sh $(CLANG_FORMAT) 14 clang-format-14
	@$(CLANG_FORMAT) --dry-run --Werror $(SOURCES)

tidy tidy-all: build/clang/.configured
	@./scripts/pinned.sh $(CLANG_TIDY) 14 clang-tidy-14
	@./scripts/tidy.sh $(CLANG_TIDY) $(JOBS) $(if $(filter tidy,$@),$(PRODUCT),$(FOLDERS))

clean:
	rm -rf build

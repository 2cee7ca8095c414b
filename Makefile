# Thin: every target does all of its own set-up, then calls CMake.

JOBS ?= $(shell nproc)
LISTEN ?= 127.0.0.1:8080
ARGS ?=
CLANG_FORMAT ?= clang-format
SOURCES = $(wildcard pool/*.[ch] coord/*.[ch] server/*.[ch] server/compat/*.[ch] cli/*.[ch] tests/*.[ch] bench/*.[ch] tests/fuzz/*.[ch])

.PHONY: bench-run bench-long-run bench-speed-run
.PHONY: bench-restart
.PHONY: help run check check-loss asan tsan clang fuzz valgrind bench bench-long bench-peers bench-speed \
        format format-check clean

help:
	@echo "make run         build, and serve on $(LISTEN); Ctrl+C drains it (ARGS='--deadline 1s' ...)"
	@echo "make check       build, and run all tests"
	@echo "make check-loss  the loss tests, 20 runs of each shape"
	@echo "make asan tsan   all tests under the sanitizers"
	@echo "make valgrind    the process tests' server under memcheck"
	@echo "make fuzz        the readers of configurations, records and archives on what nobody would write (clang, 45 seconds)"
	@echo "make clang       build with clang and run the unit tests"
	@echo "make bench       stop lastcall and other servers under load, count what is lost (10 minutes)"
	@echo "                 tables, and a page with pictures: build/bench/drain.html"
	@echo "make bench-long  the same with 20 runs each"
	@echo "make bench-restart  restart lastcall and other servers under load, count what the clients notice (13 minutes)"
	@echo "make bench-peers install the other servers (Debian packages; no service is started)"
	@echo "make bench-speed throughput beside h2o and nginx, exit lag"
	@echo "make format      clang-format over the sources"

run: build/release/.configured
	@cmake --build --preset release -j $(JOBS) --target lastcall -- --quiet
	exec ./build/release/lastcall --listen $(LISTEN) $(ARGS)

check: build/release/.configured
	@cmake --build --preset release -j $(JOBS) -- --quiet
	ctest --preset release --no-tests=error

check-loss: build/release/.configured
	@cmake --build --preset release -j $(JOBS) -- --quiet
	LASTCALL_RUNS=20 ctest --preset release --no-tests=error -R '^loss$$'

asan tsan: %: build/%/.configured
	@cmake --build --preset $@ -j $(JOBS) -- --quiet
	LASTCALL_RUNS=1 ctest --preset $@ --no-tests=error

clang: build/clang/.configured
	@cmake --build --preset clang -j $(JOBS) -- --quiet
	ctest --preset clang --no-tests=error -L unit

fuzz: build/fuzz/.configured
	@cmake --build --preset fuzz -j $(JOBS) --target fuzz_config_tree fuzz_config_apply fuzz_record fuzz_archive -- --quiet
	ctest --preset fuzz --no-tests=error

valgrind: build/debug/.configured
	@cmake --build --preset debug -j $(JOBS) -- --quiet
	LASTCALL_VALGRIND=1 ctest --preset debug --no-tests=error -R '^(process|process_drain|process_h2|triggers|tls)$$'

bench bench-long bench-speed: build/release/.configured
	@./scripts/setup.sh bench
	@cmake --build --preset release -j $(JOBS) -- --quiet
	@$(MAKE) --no-print-directory $@-run

bench-run:
	@mkdir -p build/bench
	./bench/drain.py --short --json build/bench/drain.json --html build/bench/drain.html $(ARGS)

bench-long-run:
	@mkdir -p build/bench
	./bench/drain.py --long --json build/bench/drain.json --html build/bench/drain.html $(ARGS)

bench-speed-run:
	./bench/exit_lag.py
	./bench/throughput.py

bench-restart: build/release/.configured
	@./scripts/setup.sh bench
	@cmake --build --preset release -j $(JOBS) -- --quiet
	@mkdir -p build/bench
	./bench/restart.py --json build/bench/restart.json --svg build/bench/restart.svg $(ARGS)

bench-peers:
	./bench/peers.py --install

build/%/.configured: CMakeLists.txt CMakePresets.json $(wildcard */CMakeLists.txt) scripts/setup.sh
	@./scripts/setup.sh $(if $(filter clang fuzz,$*),ci,build)
	@cmake --preset $* >/dev/null
	@touch $@

format:
	@./scripts/setup.sh ci
	$(CLANG_FORMAT) -i $(SOURCES)

format-check:
	@./scripts/setup.sh ci
	@$(CLANG_FORMAT) --dry-run --Werror $(SOURCES)

clean:
	rm -rf build

# One command per job; everything else is CMake (presets release, dev, asan, tsan, fuzz).
#   make build         missing Debian packages, then build/braid
#   make test          build, then the fast and golden tests
#   make demo          build, then train, write text and report; DATA=path for your own text
#   make nightly       the slow tests and a minute of every fuzz target
#   make asan | tsan   the fast tests under a sanitizer
#   make format-check  clang-format over all sources; make format writes
JOBS ?= $(shell nproc)
SLOWEST ?= 10
SOURCES = $(shell git ls-files 'braid/*.h' 'braid/*.cpp' 'tests/*.cpp' 'cmake/*.cpp' 'bench/peers/*.cpp')

.PHONY: build test demo nightly asan tsan fuzz format format-check packages clean

build: build/build.ninja
	ninja -C build -j $(JOBS) braid

test: build/build.ninja
	ninja -C build -j $(JOBS)
	@tools/slowest_files.sh build $(SLOWEST)
	ctest --test-dir build -L 'fast|golden' --output-on-failure

demo: build
	tools/demo.sh

nightly: build/build.ninja fuzz
	ninja -C build -j $(JOBS)
	ctest --test-dir build -L nightly --output-on-failure

asan tsan: packages
	cmake --preset $@
	ninja -C build/$@ -j $(JOBS)
	ctest --test-dir build/$@ -L 'fast|golden' --output-on-failure

fuzz: packages
	tools/install_packages.sh clang libclang-rt-dev
	cmake --preset fuzz
	ninja -C build/fuzz -j $(JOBS)
	ctest --test-dir build/fuzz -L fuzz -j $(JOBS) --output-on-failure

# Asked for on every call: looking takes a moment, and a package may be gone or newly listed.
packages:
	@tools/install_packages.sh $(shell cat packages.txt)

build/build.ninja: packages.txt | packages
	cmake --preset release
	@touch $@

format:
	clang-format -i $(SOURCES)

format-check:
	clang-format --dry-run --Werror $(SOURCES)

clean:
	rm -rf build

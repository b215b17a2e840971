# scope: `make` prints what there is. Each target does its own set-up on a fresh machine.
BUILD  ?= build
PREFIX ?= /usr/local
SEED   ?= 1
CC     ?= cc

ROOT := $(dir $(abspath $(lastword $(MAKEFILE_LIST))))
DEPS_LIST := $(shell . /etc/os-release 2>/dev/null; echo .ci/deps/$$ID-$${VERSION_ID%%.*})

PKGS_SCHEMA := jansson
PKGS_PLUGIN := jansson libutf8proc
PKGS_HOST   := jansson libcurl gstreamer-1.0 gstreamer-base-1.0 gstreamer-app-1.0 gstreamer-video-1.0 gstreamer-pbutils-1.0 \
               gstreamer-sdp-1.0 gstreamer-rtp-1.0 gio-unix-2.0 libmicrohttpd gnutls liblo

WARN   := -Wall -Wextra -Wpedantic -Werror
OPT    ?= -O2 -g
CFLAGS_ALL = -std=c11 -D_GNU_SOURCE $(WARN) $(OPT) $(SAN) -fPIC -fvisibility=hidden -fopenmp -MMD -MP
# Vectorised inner loops: reductions may be reordered, errno and traps are not wanted.
CFLAGS_SIMD = -O3 -fno-math-errno -fno-trapping-math -fassociative-math -fno-signed-zeros -ffp-contract=fast

ifeq ($(shell uname -m),x86_64)
ISAS := base avx2 avx512
MARCH_base   := -march=x86-64-v2
MARCH_avx2   := -march=x86-64-v3
MARCH_avx512 := -march=x86-64-v4 -mprefer-vector-width=512
else
ISAS := base
endif

# ---- CUDA: where nvcc is, both backends are built. The runtime is linked statically, the driver is
# looked for when a GPU is asked for: the same files load everywhere. CUDA=off builds without.
CUDA_DIR ?= $(abspath $(BUILD))/cuda# what .ci/install-cuda fills
ifneq ($(CUDA),off)
NVCC := $(or $(shell command -v nvcc 2>/dev/null),$(wildcard $(CUDA_DIR)/bin/nvcc))
endif
CUDA_OBJ_DIR ?= $(BUILD)/obj# sanitized builds take the kernels of the plain one
CUDA_ARCHS ?= 75 80 86 89 90a 100 120
CUDA_PTX   ?= 120
ifneq ($(NVCC),)
CUDA_HOME := $(shell $(NVCC) --dryrun -E -x cu /dev/null 2>&1 | awk -F= '/ TOP=/{print $$2}')
CUDA_SRC  := $(wildcard kernels/cuda/*.c)
CUDA_OBJ  := $(patsubst %.cu,$(CUDA_OBJ_DIR)/%.cu.o,$(wildcard kernels/cuda/*.cu))
CUDA_LIBS := -L$(CUDA_HOME)/lib64 -L$(CUDA_HOME)/lib -lcudart_static -lrt -lpthread -ldl
CUDA_DEFS := -DK_CUDA -isystem $(CUDA_HOME)/include
endif
NVCC_FLAGS = -std=c++17 -O3 -lineinfo $(CUDA_DEFS) -MMD -MP \
	-Xcompiler -fPIC,-fvisibility=hidden,-fno-exceptions,-fno-rtti,-fno-threadsafe-statics
CUDA_CODE = $(foreach a,$(CUDA_ARCHS),-gencode arch=compute_$(a),code=sm_$(a)) \
	$(foreach a,$(CUDA_PTX),-gencode arch=compute_$(a),code=compute_$(a))

pkg = $(shell pkg-config $(1) $(2) 2>/dev/null)
src = $(patsubst ./%,%,$(subst /./,/,$(wildcard $(1)/*.c)))
obj = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))

SCHEMA_OBJ  := $(call obj,$(call src,schema))
HOST_OBJ    := $(call obj,$(filter-out host/main.c,$(foreach d,. media worker live http osc,$(call src,host/$(d))))) $(BUILD)/obj/gen/page.o
KERNELS_OBJ := $(call obj,$(call src,kernels) $(call src,kernels/cpu) $(CUDA_SRC)) $(CUDA_OBJ) \
               $(foreach i,$(ISAS),$(patsubst %.c,$(BUILD)/obj/%.$(i).o,$(call src,kernels/cpu/simd)))
SD_OBJ      := $(call obj,$(call src,plugin/streamdiffusion))
EXAMPLES    := $(patsubst examples/%,%,$(wildcard examples/*/*.c))
EXAMPLE_SO  := $(foreach e,$(EXAMPLES),$(BUILD)/plugins/$(notdir $(basename $(e))).so)
PLUGIN_SO   := $(BUILD)/plugins/streamdiffusion.so
PRESETS     := $(patsubst plugin/%,$(BUILD)/plugins/%,$(wildcard plugin/streamdiffusion/presets/*.json))
PRESETS     := $(subst /streamdiffusion/presets/,/presets/streamdiffusion/,$(PRESETS))

# The model that ships, where the plugin finds it by its name.
MODEL_FILES := $(patsubst examples/models/%,$(BUILD)/plugins/models/%,$(shell find examples/models/tiny -type f))

LIB = $(BUILD)/lib/lib$(1).a
LINK_schema          = $(call LIB,schema) $(call pkg,--libs,$(PKGS_SCHEMA)) -lm
LINK_kernels         = $(call LIB,kernels) -ldnnl $(CUDA_LIBS) -lm
LINK_streamdiffusion = $(call LIB,streamdiffusion) $(call LIB,kernels) -ldnnl $(CUDA_LIBS) $(call pkg,--libs,$(PKGS_PLUGIN)) -lm
LINK_host            = $(call LIB,host) $(call LIB,schema) $(call pkg,--libs,$(PKGS_HOST)) -lwslay -ldl -lm

.PHONY: help deps build test check bench bench-tiny oracle demo live soak doc fmt fmt-check fuzz install clean
.DELETE_ON_ERROR:
.SECONDARY:

help: ## what there is
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# ---- dependencies: one list per distribution ------------------------------------------------
deps: $(BUILD)/deps.ok ## install the packages that are missing

$(BUILD)/deps.ok: $(DEPS_LIST) .ci/install-deps .ci/install-cuda
	@.ci/install-deps $(DEPS_LIST)
ifeq ($(NVCC),)
ifneq ($(CUDA),off)
	@.ci/install-cuda $(CUDA_DIR) || echo "CUDA's compiler could not be had: this build will have the CPU backend alone" >&2
endif
endif
	@mkdir -p $(@D) && touch $@

TEST_TOOLS ?= $(abspath $(BUILD))/tools# clients that are not ours; sanitized tests take those of the plain build
$(TEST_TOOLS)/ok: $(DEPS_LIST).test .ci/install-test-tools .ci/test-tools.json
	@.ci/install-test-tools $(TEST_TOOLS) $(DEPS_LIST).test && touch $@

# ---- build --------------------------------------------------------------------------------------
build: $(BUILD)/deps.ok ## the host, the plugins and the examples
	@$(MAKE) --no-print-directory -j$$(nproc) all

.PHONY: all
all: $(BUILD)/scope $(PLUGIN_SO) $(EXAMPLE_SO) $(PRESETS) $(MODEL_FILES)
	@echo "$(if $(NVCC),CUDA: kernels for sm_$(subst $() , sm_,$(CUDA_ARCHS)),CUDA: nvcc was not found; this build has the CPU backend alone)"

$(BUILD)/scope: $(BUILD)/obj/host/main.o $(call LIB,host) $(call LIB,schema)
	@echo "  LINK  $@"
	@$(CC) $(SAN) -rdynamic -o $@ $(BUILD)/obj/host/main.o $(LINK_host) -lpthread

$(PLUGIN_SO): $(call LIB,streamdiffusion) $(call LIB,kernels)
	@mkdir -p $(@D)
	@echo "  LINK  $@"
	@$(CC) $(SAN) -shared -fopenmp -Wl,--no-undefined -Wl,--whole-archive $(call LIB,streamdiffusion) \
	  -Wl,--no-whole-archive -Wl,-Bsymbolic -Wl,--exclude-libs,libcudart_static.a -o $@ $(LINK_streamdiffusion)

$(BUILD)/plugins/presets/streamdiffusion/%.json: plugin/streamdiffusion/presets/%.json
	@mkdir -p $(@D) && cp $< $@

$(BUILD)/plugins/models/%: examples/models/%
	@mkdir -p $(@D) && cp $< $@

# Examples see nothing but the public headers, as a plugin author does.
define example_rule
$(BUILD)/plugins/$(notdir $(basename $(1))).so: examples/$(1) plugin/scope_abi.h plugin/scope_plugin.h
	@mkdir -p $$(@D)
	@echo "  LINK  $$@"
	@$$(CC) -std=c11 -O2 $$(WARN) $$(SAN) -fPIC -fvisibility=hidden -shared -Iplugin -o $$@ $$< -lm
endef
$(foreach e,$(EXAMPLES),$(eval $(call example_rule,$(e))))

$(call LIB,schema): $(SCHEMA_OBJ)
$(call LIB,host): $(HOST_OBJ)
$(call LIB,kernels): $(KERNELS_OBJ)
$(call LIB,streamdiffusion): $(SD_OBJ)
$(BUILD)/lib/%.a:
	@mkdir -p $(@D) && rm -f $@
	@$(AR) rcs $@ $^

$(BUILD)/obj/schema/%.o: FLAGS = $(call pkg,--cflags,$(PKGS_SCHEMA)) -I$(BUILD)/gen
$(BUILD)/obj/host/%.o: FLAGS = $(call pkg,--cflags,$(PKGS_HOST))
$(BUILD)/obj/plugin/%.o: FLAGS = $(call pkg,--cflags,$(PKGS_PLUGIN)) -I$(BUILD)/gen -I. -Iplugin

$(BUILD)/obj/kernels/%.o: FLAGS = $(CUDA_DEFS)
# What was measured of other kernels is not taken over.
KERNELS_ID = -DKERNELS_ID='"$(shell cat kernels/cuda/*.cu* | cksum | cut -d" " -f1)"'
$(BUILD)/obj/kernels/cuda/plan.o: FLAGS = $(CUDA_DEFS) $(KERNELS_ID)
$(BUILD)/obj/kernels/cuda/plan.o: $(wildcard kernels/cuda/*.cu kernels/cuda/*.cuh)

$(CUDA_OBJ_DIR)/kernels/cuda/%.cu.o: kernels/cuda/%.cu
	@mkdir -p $(@D)
	@echo "  NVCC  $<"
	@$(NVCC) $(NVCC_FLAGS) $(CUDA_CODE) --compress-mode=size -c -o $@ $<

$(BUILD)/obj/%.o: %.c
	@mkdir -p $(@D)
	@echo "  CC    $<"
	@$(CC) $(CFLAGS_ALL) $(FLAGS) -c -o $@ $<

define isa_rule
$(BUILD)/obj/kernels/cpu/simd/%.$(1).o: kernels/cpu/simd/%.c
	@mkdir -p $$(@D)
	@echo "  CC    $$< ($(1))"
	@$$(CC) $$(CFLAGS_ALL) $$(CFLAGS_SIMD) $$(MARCH_$(1)) -DISA=$(1) -c -o $$@ $$<
endef
$(foreach i,$(ISAS),$(eval $(call isa_rule,$(i))))

# JSON that is compiled in: schema/base.json -> base.json.h, a C string.
$(BUILD)/gen/%.json.h: .ci/embed
	@mkdir -p $(@D) && .ci/embed $(filter %.json,$^) >$@
$(BUILD)/gen/base.json.h: schema/base.json
$(BUILD)/gen/schema.json.h: plugin/streamdiffusion/schema.json
$(BUILD)/gen/styles.json.h: plugin/streamdiffusion/styles.json
$(SCHEMA_OBJ): $(BUILD)/gen/base.json.h
$(SD_OBJ): $(BUILD)/gen/schema.json.h $(BUILD)/gen/styles.json.h

# The page of `scope serve`: whatever lies in host/http/web/, as one GResource.
WEB := host/http/web
WEB_FILES := $(sort $(shell find $(WEB) -type f))
$(BUILD)/gen/page.list: FORCE
	@mkdir -p $(@D) && echo $(WEB_FILES) | cmp -s - $@ || echo $(WEB_FILES) >$@
$(BUILD)/gen/page.xml: $(BUILD)/gen/page.list
	@{ echo '<gresources><gresource prefix="/page">'; \
	   printf '<file>%s</file>\n' $(WEB_FILES:$(WEB)/%=%); echo '</gresource></gresources>'; } >$@
$(BUILD)/gen/page.c: $(BUILD)/gen/page.xml $(WEB_FILES)
	@glib-compile-resources --generate-source --c-name page --sourcedir $(WEB) --target $@ $<
$(BUILD)/obj/gen/page.o: $(BUILD)/gen/page.c
	@mkdir -p $(@D)
	@$(CC) $(CFLAGS_ALL) -Wno-overlength-strings $(call pkg,--cflags,gio-2.0) -c -o $@ $<
.PHONY: FORCE

# ---- tests: tests/unit/LAYER/test_x.c links the library of its layer ------------------------------
CHECK_LIBS = $(call pkg,--libs,check)
UNIT_schema          := $(patsubst tests/%.c,$(BUILD)/tests/%,$(wildcard tests/unit/schema/test_*.c))
UNIT_host            := $(patsubst tests/%.c,$(BUILD)/tests/%,$(wildcard tests/unit/host/test_*.c))
UNIT_streamdiffusion := $(patsubst tests/%.c,$(BUILD)/tests/%,$(wildcard tests/unit/streamdiffusion/test_*.c))
UNIT_kernels         := $(patsubst tests/%.c,$(BUILD)/tests/%,$(wildcard tests/kernels/test_*.c))
UNIT_cuda            := $(if $(NVCC),$(patsubst tests/%.c,$(BUILD)/tests/%,$(wildcard tests/cuda/test_*.c)))
UNITS := $(UNIT_schema) $(UNIT_host) $(UNIT_streamdiffusion) $(UNIT_kernels) $(UNIT_cuda)

define unit_rule
$(UNIT_$(1)): $(BUILD)/tests/%: $(BUILD)/obj/tests/%.o $(call LIB,$(1)) $(if $(filter host streamdiffusion,$(1)),$(call LIB,schema)) $(if $(filter streamdiffusion,$(1)),$(call LIB,kernels))
	@mkdir -p $$(@D)
	@echo "  LINK  $$@"
	@$$(CC) $$(SAN) -fopenmp -rdynamic -o $$@ $$< $$(LINK_$(1)) $(if $(filter streamdiffusion,$(1)),$(call LIB,schema)) $$(CHECK_LIBS) -lpthread
endef
$(foreach l,schema host streamdiffusion kernels,$(eval $(call unit_rule,$(l))))
TESTS_AT ?= $(abspath .)# where tests find their data
$(BUILD)/obj/tests/%.o: FLAGS = $(call pkg,--cflags,$(PKGS_HOST) $(PKGS_PLUGIN) check) -I$(BUILD)/gen -I. -Iplugin \
	-DBUILD_DIR='"$(abspath $(BUILD))"' -DSOURCE_DIR='"$(TESTS_AT)"' -Wno-overlength-strings

# Files of the CUDA backend that need no GPU, with stand-ins for its runtime and fakes of NVIDIA's libraries.
CUDA_PLAIN := $(call obj,$(addprefix kernels/cuda/,plan.c plan_table.c library.c cudnn.c cublaslt.c))
FAKES := $(addprefix $(BUILD)/tests/cuda/fakes/,full/libcudnn.so.9 full/libcublasLt.so.13 lacking/libcudnn.so.9 \
	lacking/libcublasLt.so.13 lacking-cudnn/libcudnn.so.9 lacking-cudnn/libcublasLt.so.13)
$(UNIT_cuda): $(BUILD)/tests/%: $(BUILD)/obj/tests/%.o $(BUILD)/obj/tests/cuda/standin.o $(CUDA_PLAIN) $(FAKES)
	@echo "  LINK  $@"
	@$(CC) $(SAN) -o $@ $(filter %.o,$^) $(CHECK_LIBS) -ldl -lpthread
$(BUILD)/obj/tests/cuda/%.o: FLAGS += $(CUDA_DEFS) $(KERNELS_ID)
FAKE = mkdir -p $(@D) && $(CC) -std=c11 -D_GNU_SOURCE -O1 -g $(WARN) -fPIC -fvisibility=hidden -shared -o $@ $<
$(filter %/libcudnn.so.9,$(FAKES)): tests/cuda/fake_cudnn.c tests/cuda/fake.h
	@$(FAKE) $(if $(findstring lacking,$@),-DLACKING)
$(filter %/libcublasLt.so.13,$(FAKES)): tests/cuda/fake_cublaslt.c tests/cuda/fake.h
	@$(FAKE) $(if $(findstring lacking/,$@),-DLACKING)

# A fuzz target and the program that replays its corpus: tests/fuzz/fuzz_x.c, tests/fuzz/corpus/x/.
FUZZ := $(patsubst tests/fuzz/fuzz_%.c,%,$(wildcard tests/fuzz/fuzz_*.c))
FUZZ_LIBS = $(call LIB,host) $(call LIB,streamdiffusion) $(call LIB,kernels) $(call LIB,schema)
FUZZ_LINK = $(LINK_host) $(LINK_streamdiffusion) $(LINK_schema)
REPLAYS := $(foreach f,$(FUZZ),$(BUILD)/tests/fuzz/replay_$(f))
$(BUILD)/tests/fuzz/replay_%: $(BUILD)/obj/tests/fuzz/fuzz_%.o $(BUILD)/obj/tests/fuzz/replay.o $(FUZZ_LIBS)
	@mkdir -p $(@D)
	@echo "  LINK  $@"
	@$(CC) $(SAN) -fopenmp -o $@ $(filter %.o,$^) $(FUZZ_LINK)
	@printf '#!/bin/sh\nexec %s %s\n' $(abspath $@) $(abspath tests/fuzz/corpus/$*) >$@.sh

TOOLS := $(patsubst tests/%.c,$(BUILD)/tests/%,$(wildcard tests/tools/*.c tests/bench/*.c tests/oracle/*.c))
$(TOOLS): $(BUILD)/tests/%: $(BUILD)/obj/tests/%.o $(call LIB,streamdiffusion) $(call LIB,kernels)
	@mkdir -p $(@D)
	@echo "  LINK  $@"
	@$(CC) $(SAN) -fopenmp -o $@ $< $(LINK_streamdiffusion) $(LINK_EXTRA)
$(BUILD)/tests/tools/hub_server: LINK_EXTRA = $(call pkg,--libs,glib-2.0)
$(BUILD)/tests/tools/http_load: $(call LIB,host) $(call LIB,schema)
$(BUILD)/tests/tools/http_load: LINK_EXTRA = $(LINK_host)

include tests/cudasim/rules.mk tests/gpu/rules.mk

E2E := $(sort $(filter-out tests/e2e/lib.sh,$(wildcard tests/e2e/*.sh)))
JOBS ?= $(shell nproc)

test: $(BUILD)/deps.ok $(TEST_TOOLS)/ok ## set up, build, and run every test
	@$(MAKE) --no-print-directory -j$(JOBS) all $(UNITS) $(REPLAYS) $(TOOLS)
	@BUILD=$(abspath $(BUILD)) TOOLS=$(TEST_TOOLS) tests/run.sh $(JOBS) $(abspath $(UNITS)) \
	  $(addsuffix .sh,$(abspath $(REPLAYS))) $(abspath $(E2E))
	@$(if $(NVCC),$(MAKE) --no-print-directory test-cudasim $(if $(SAN),,check-sass))

SANITIZE := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
# intercept_tls_get_addr: GCC 12's LeakSanitizer guesses where thread-local data of loaded libraries
# begins, and sometimes reads somewhere else.
check: $(BUILD)/deps.ok ## the same tests under ASan and UBSan
	@mkdir -p $(BUILD)/san && touch $(BUILD)/san/deps.ok
	@ASAN_OPTIONS=detect_stack_use_after_return=1:strict_string_checks=1:abort_on_error=0:intercept_tls_get_addr=0 \
	 LSAN_OPTIONS=suppressions=$(abspath tests/lsan.supp):print_suppressions=0 \
	 UBSAN_OPTIONS=print_stacktrace=1 TEST_TIMEOUT=900 \
	 $(MAKE) --no-print-directory BUILD=$(BUILD)/san CUDA_OBJ_DIR=$(CUDA_OBJ_DIR) CUDA_DIR=$(CUDA_DIR) TEST_TOOLS=$(TEST_TOOLS) SIM_CU_DIR=$(SIM_CU_DIR) SAN="$(SANITIZE)" OPT="-O1 -g" test

soak: $(BUILD)/deps.ok $(TEST_TOOLS)/ok ## the server for SOAK_MINUTES (20), with everything going on at once
	@$(MAKE) --no-print-directory -j$(JOBS) all
	@BUILD=$(abspath $(BUILD)) TOOLS=$(TEST_TOOLS) tests/soak/soak.sh

fuzz: $(BUILD)/deps.ok ## fuzz each target for FUZZ_SECONDS (60) with clang's libFuzzer
	@tests/fuzz/fuzz.sh $(BUILD)/fuzz $(FUZZ)

bench: $(BUILD)/deps.ok ## time whole frames beside PyTorch, ONNX Runtime and bare oneDNN
	@$(MAKE) --no-print-directory -j$(JOBS) all $(TOOLS)
	@BUILD=$(abspath $(BUILD)) tests/bench/bench.sh

bench-tiny: $(BUILD)/deps.ok ## time the model that ships, alone: 256 x 256, one step
	@$(MAKE) --no-print-directory -j$(JOBS) all $(TOOLS)
	@BUILD=$(abspath $(BUILD)) tests/bench/bench.sh tiny

oracle: $(BUILD)/deps.ok ## compare every network with diffusers (SEED=n)
	@$(MAKE) --no-print-directory -j$(JOBS) all $(TOOLS)
	@BUILD=$(abspath $(BUILD)) tests/oracle/run.sh $(SEED)

demo: build ## a short clip under three prompts: build/demo/demo.mp4, and a contact sheet
	@examples/demo.sh $(BUILD) $(BUILD)/demo

live: build ## serve the page, with the model that ships: http://127.0.0.1:8080/
	@$(BUILD)/scope serve --plugin streamdiffusion --preset demo

doc: build ## manual pages of the plugins, from their schemas: build/doc/
	@mkdir -p $(BUILD)/doc
	@for so in $(BUILD)/plugins/*.so; do \
	  $(BUILD)/scope doc $$so >$(BUILD)/doc/$$(basename $$so .so).md && echo $(BUILD)/doc/$$(basename $$so .so).md; done

FORMATTED = $(shell git ls-files '*.c' '*.h' '*.cu' '*.cuh' '*.cpp')
fmt: ## format the sources
	@clang-format -i $(FORMATTED)
fmt-check: ## fail when a source is not formatted
	@clang-format --dry-run -Werror $(FORMATTED)

install: build ## into PREFIX (/usr/local): bin/scope, lib/scope/*.so and presets, include/*.h
	install -D -m 755 $(BUILD)/scope $(DESTDIR)$(PREFIX)/bin/scope
	install -D -m 755 -t $(DESTDIR)$(PREFIX)/lib/scope $(BUILD)/plugins/streamdiffusion.so
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/lib/scope/presets/streamdiffusion plugin/streamdiffusion/presets/*.json
	for f in $$(cd examples/models && find tiny -type f); do \
	  install -D -m 644 examples/models/$$f $(DESTDIR)$(PREFIX)/lib/scope/models/$$f || exit 1; done
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/include plugin/scope_abi.h plugin/scope_plugin.h

clean: ## remove what was built
	rm -rf $(BUILD)

-include $(shell find $(BUILD)/obj -name '*.d' 2>/dev/null)

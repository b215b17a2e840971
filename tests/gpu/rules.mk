# rules.mk - tests and benchmarks of a real GPU.
#
# `make gpu-test` and `make gpu-bench` build for the GPU of this machine (or GPU_ARCHS) and run. What
# they build lies in build/gpu: programs that need libc and the driver, and the libraries that they
# find beside themselves, so the folder runs on another machine as it is: `make gpu-pack` makes
# build/gpu.tar.xz of it, and there, in a checkout of the same commit, `tests/gpu/run.sh FOLDER` and
# `tests/gpu/bench.sh FOLDER` run what it holds.
GPU := $(BUILD)/gpu
GPU_ARCHS ?= $(or $(patsubst 90,90a,$(subst .,,$(firstword $(shell nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null)))),90a)
GPU_MAKE = $(MAKE) --no-print-directory -j$(JOBS) BUILD=$(GPU) CUDA_OBJ_DIR=$(GPU)/obj CUDA_DIR=$(CUDA_DIR) \
	CUDA_ARCHS="$(GPU_ARCHS)" CUDA_PTX= OPT=-O2 TESTS_AT=.

.PHONY: gpu-build gpu-test gpu-bench gpu-pack gpu-programs
gpu-build: $(BUILD)/deps.ok
	@mkdir -p $(GPU) && touch $(GPU)/deps.ok
	@$(GPU_MAKE) gpu-programs

gpu-test: gpu-build ## test the CUDA backend on this machine's GPU
	@tests/gpu/run.sh $(GPU)

gpu-bench: gpu-build ## time it: each op against its floor, whole frames, PyTorch beside it
	@tests/gpu/bench.sh $(GPU)

gpu-pack: gpu-build ## build/gpu.tar.xz: the same programs for a machine that only has a GPU
	@tests/gpu/pack.sh $(GPU) $(BUILD)/gpu.tar.xz

# ---- inside of build/gpu ----
# The archive of a library where there is one: the other machine may not have it.
static = $(foreach l,$(1),$(or $(firstword $(wildcard /usr/lib/*-linux-gnu/lib$(l).a /usr/lib64/lib$(l).a /usr/lib/lib$(l).a)),-l$(l)))
GPU_OPS      := $(patsubst %,$(BUILD)/bin/test_%,$(SIM_TESTS))
GPU_FRAMES   := $(BUILD)/bin/test_frames $(BUILD)/bin/test_golden
GPU_TOOLS    := $(BUILD)/bin/gpu_bench $(BUILD)/bin/random_model
GPU_LINK      = $(CC) -fopenmp -rdynamic -Wl,--disable-new-dtags,-rpath,'$$ORIGIN/../lib' -o $@ $(filter %.o %.a,$^) \
	-ldnnl $(CUDA_LIBS) $(call static,jansson utf8proc check subunit) -lm -lrt -lpthread

$(BUILD)/obj/tests/%.o: FLAGS += $(CUDA_DEFS)
$(GPU_OPS): $(BUILD)/bin/%: $(BUILD)/obj/tests/kernels/%.o $(call LIB,kernels)
$(BUILD)/bin/test_frames: $(BUILD)/obj/tests/gpu/test_frames.o $(call LIB,streamdiffusion) $(call LIB,kernels)
$(BUILD)/bin/test_golden: $(BUILD)/obj/tests/unit/streamdiffusion/test_golden.o $(call LIB,streamdiffusion) $(call LIB,kernels)
$(BUILD)/bin/random_model: $(BUILD)/obj/tests/tools/random_model.o $(call LIB,streamdiffusion) $(call LIB,kernels)
$(BUILD)/bin/gpu_bench: $(BUILD)/obj/tests/gpu/gpu_bench.o $(BUILD)/obj/tests/gpu/gpu_ops.o $(call LIB,streamdiffusion) $(call LIB,kernels)
$(BUILD)/bin/gpu_bench: GPU_WRAP = -Wl,--wrap=cuda_choose -Wl,--wrap=cuda_submit
$(GPU_OPS) $(GPU_FRAMES) $(GPU_TOOLS):
	@mkdir -p $(@D)
	@echo "  LINK  $@"
	@$(GPU_LINK) $(GPU_WRAP)

# What the programs load that is not libc's or the driver's.
$(BUILD)/lib/loaded: $(BUILD)/bin/test_frames
	@rm -f $(@D)/*.so*
	@ldd $< | awk '$$3 ~ /lib(dnnl|gomp|OpenCL|jansson|utf8proc|check|subunit)\.so/ { print $$3 }' | xargs -I{} cp -L {} $(@D)
	@touch $@

gpu-programs: $(GPU_OPS) $(GPU_FRAMES) $(GPU_TOOLS) $(BUILD)/lib/loaded

# rules.mk - the tests of kernels/ on the CUDA backend, whose GPU is the simulator of this folder.
#
# build/cudasim/ has the kernels as PTX, the simulator, and test programs of tests/kernels/, and the
# golden frames, linked with both; ARCH/NAME.sh runs one as a GPU of that architecture. sm_80 runs
# every case; 75 and 90 a share that still executes every kernel (coverage.sh).
SIM       := $(BUILD)/cudasim
SIM_ARCHS := 75 80 90
SIM_TESTS := attention conv linear elementwise embed image noise norm picture delta contract
SIM_TESTS := $(filter $(SIM_TESTS),$(patsubst tests/kernels/test_%.c,%,$(wildcard tests/kernels/test_*.c)))
SIM_CU    := $(patsubst kernels/cuda/%.cu,$(SIM)/obj/%.cu.o,$(wildcard kernels/cuda/*.cu))
SIM_OBJ   := $(patsubst tests/cudasim/%.cpp,$(SIM)/obj/%.o,$(filter-out tests/cudasim/test_%,$(wildcard tests/cudasim/*.cpp)))
SIM_HOST  := $(filter-out $(CUDA_OBJ),$(KERNELS_OBJ))
SIM_KINDS := $(SIM_TESTS) golden frames failures counters cudasim
SIM_PROGRAMS := $(patsubst %,$(SIM)/test_%,$(SIM_TESTS) golden frames failures counters)
SIM_PTX   := $(foreach a,$(SIM_ARCHS:90=90a),-gencode arch=compute_$(a),code=compute_$(a))
# The simulator is built where it runs: it may use what this processor has.
SIM_MARCH := $(if $(shell grep -m1 -ow avx2 /proc/cpuinfo),-march=x86-64-v3)
CXX       ?= c++

# What runs for an architecture, the longest first, and what it is run with beside sim_script. sm_80
# has every case of every op, the others every third; candidates of the matrix product (see bed.h)
# come in an order in which a stride of 5 meets every tile and split, sm_90a's own from 96 on.
SIM_ALL := contract conv delta counters attention linear norm picture image elementwise embed noise \
	conv-candidates linear-candidates linear-tune golden cudasim
SIM_RUN_80 := frames $(SIM_ALL) frames-counts failures
SIM_RUN_75 := $(SIM_ALL)
SIM_RUN_90 := frames $(SIM_ALL) conv-hopper linear-hopper
SIM_SET_80_golden := BED_SHARE=6/9
SIM_SET_75_golden := BED_SHARE=7/9
SIM_SET_90_golden := BED_SHARE=7/9
SIM_SET_frames := FRAMES_SIZE=64 CK_RUN_CASE=pictures
SIM_SET_frames-counts := FRAMES_SIZE=64 FRAMES_COUNT=1000 CK_RUN_CASE=counts CUDASIM_SKIP=1 CUDASIM_MEMORY_MB=512
SIM_SET_failures := CUDASIM_SKIP=1 CUDASIM_MEMORY_MB=512
SIM_SET_linear-tune := SCOPE_CUDA_TUNE= XDG_CACHE_HOME=. BED_SHARE=0/20
SIM_SET_80_conv-candidates := BED_CANDIDATES=0:5:95:10
SIM_SET_80_linear-candidates := BED_CANDIDATES=0:5:95:10
SIM_SET_conv-candidates := BED_CANDIDATES=0:5:95:30
SIM_SET_linear-candidates := BED_CANDIDATES=0:5:95:30
SIM_SET_conv-hopper := BED_CANDIDATES=96:5:191:20
SIM_SET_linear-hopper := BED_CANDIDATES=96:5:191:5
sim_set = $(or $(SIM_SET_$(1)_$(2)),$(SIM_SET_$(2)),$(if $(filter 80,$(1)),,BED_SHARE=1/3))

ifneq ($(NVCC),)
SIM_UNITS := $(foreach a,80 90 75,$(foreach u,$(SIM_RUN_$(a)),$(if $(filter $(firstword $(subst -, ,$(u))),$(SIM_KINDS)),$(SIM)/$(a)/$(u).sh)))
endif

$(SIM)/obj/%.cu.o: kernels/cuda/%.cu
	@mkdir -p $(@D)
	@echo "  NVCC  $< (PTX)"
	@$(NVCC) $(NVCC_FLAGS) $(SIM_PTX) --no-compress -c -o $@ $<

$(SIM)/obj/%.o: tests/cudasim/%.cpp
	@mkdir -p $(@D)
	@echo "  CXX   $<"
	@$(CXX) -std=c++17 -O3 $(SIM_MARCH) -fPIC -Wall -Wextra -Wno-psabi $(CUDA_DEFS) -MMD -MP -c -o $@ $<

$(SIM)/libcudasim.a: $(SIM_OBJ)
	@rm -f $@ && $(AR) rcs $@ $^

# Plain objects, not the library: it has the same kernels as machine code.
$(patsubst %,$(SIM)/test_%,$(SIM_TESTS)): $(SIM)/%: $(BUILD)/obj/tests/kernels/%.o
$(SIM)/test_golden: $(BUILD)/obj/tests/unit/streamdiffusion/test_golden.o $(SD_OBJ)
$(SIM)/test_frames: $(BUILD)/obj/tests/gpu/test_frames.o $(SD_OBJ)
$(SIM)/test_failures: $(BUILD)/obj/tests/cudasim/test_failures.o $(SD_OBJ)
$(SIM)/test_counters: $(BUILD)/obj/tests/cudasim/test_counters.o
$(SIM_PROGRAMS): $(SIM_HOST) $(SIM_CU) $(SIM)/libcudasim.a
	@echo "  LINK  $@"
	@$(CXX) $(SAN) -fopenmp -rdynamic -o $@ $(filter %.o,$^) $(SIM)/libcudasim.a -ldnnl \
	  $(call pkg,--libs,$(PKGS_PLUGIN)) $(CHECK_LIBS) -lm -ldl -lpthread

# The simulator's own test: planted bugs, instructions, the runtime.
$(SIM)/obj/test_cudasim.o: tests/cudasim/test_cudasim.cu
	@mkdir -p $(@D)
	@echo "  NVCC  $< (PTX)"
	@$(NVCC) $(NVCC_FLAGS) $(SIM_PTX) --no-compress -I. -c -o $@ $<
$(SIM)/test_cudasim: $(SIM)/obj/test_cudasim.o $(SIM)/libcudasim.a
	@echo "  LINK  $@"
	@$(CXX) -o $@ $^ -ldl -lpthread

# What a program is run with. No fork: one process, one report.
define sim_script
#!/bin/sh
export BED_DEVICE=cuda CK_FORK=no CUDASIM_ARCH=$(1) CUDASIM_REPORT=$(abspath $(SIM))/report/$(1)-$(2)
export SCOPE_CUDA_TUNE=off SCOPE_CUDA_LIBRARIES=none CUDA_VISIBLE_DEVICES=0
export OMP_NUM_THREADS=1 $(call sim_set,$(1),$(2))
exec $(abspath $(SIM))/test_$(firstword $(subst -, ,$(2)))
endef
$(SIM_UNITS): $(SIM)/%.sh: $(SIM_PROGRAMS) $(SIM)/test_cudasim tests/cudasim/rules.mk
	$(shell mkdir -p $(@D))$(file >$@,$(call sim_script,$(patsubst %/,%,$(dir $*)),$(notdir $*)))

.PHONY: test-cudasim sim-programs
sim-programs: $(SIM_UNITS)

test-cudasim: $(BUILD)/deps.ok ## the CUDA backend's tests on a simulated GPU
	@$(MAKE) --no-print-directory -j$(JOBS) sim-programs
	@rm -rf $(SIM)/report && mkdir -p $(SIM)/report
	@BUILD=$(abspath $(BUILD)) LOGS=$(abspath $(SIM))/logs tests/run.sh $(JOBS) $(abspath $(SIM_UNITS))
	@tests/cudasim/coverage.sh $(SIM)/report $(SIM_ARCHS)

# Registers, spills and matrix instructions of the kernels that ship, with NVIDIA's cuobjdump.
.PHONY: check-sass
check-sass: $(CUDA_OBJ)
	@tests/cudasim/sass.sh $(BUILD)/cuobjdump $(CUDA_OBJ) || [ $$? = 77 ]

-include $(wildcard $(SIM)/obj/*.d)

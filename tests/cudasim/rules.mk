# rules.mk - the tests of kernels/ on the CUDA backend, whose GPU is the simulator of this folder.
#
# build/cudasim/ has the kernels as PTX, the simulator, and test programs of tests/kernels/, and the
# golden frames, linked with both; ARCH/NAME.sh runs one as a GPU of that architecture. Every
# kernel runs on every architecture that has it (coverage.sh).
SIM       := $(BUILD)/cudasim
SIM_ARCHS := 75 80 90
SIM_TESTS := attention conv linear elementwise embed image noise norm picture delta contract
SIM_TESTS := $(filter $(SIM_TESTS),$(patsubst tests/kernels/test_%.c,%,$(wildcard tests/kernels/test_*.c)))
SIM_CU_DIR ?= $(SIM)/obj# sanitized builds take the kernels of the plain one
SIM_CU    := $(patsubst kernels/cuda/%.cu,$(SIM_CU_DIR)/%.cu.o,$(wildcard kernels/cuda/*.cu))
SIM_OBJ   := $(patsubst tests/cudasim/%.cpp,$(SIM)/obj/%.o,$(filter-out tests/cudasim/test_%,$(wildcard tests/cudasim/*.cpp)))
SIM_HOST  := $(filter-out $(CUDA_OBJ),$(KERNELS_OBJ))
SIM_KINDS := $(SIM_TESTS) golden frames failures submit counters cudasim
SIM_PROGRAMS := $(patsubst %,$(SIM)/test_%,$(SIM_TESTS) golden frames failures submit counters) $(SIM)/random_model
SIM_PTX   := $(foreach a,$(SIM_ARCHS:90=90a),-gencode arch=compute_$(a),code=compute_$(a))
# The simulator is built where it runs: it may use what this processor has.
SIM_MARCH := $(if $(shell grep -m1 -ow avx2 /proc/cpuinfo),-march=x86-64-v3)
CXX       ?= c++

# What runs for an architecture, the longest first, and what it is run with beside sim_script.
# Candidates of the matrix product (see bed.h) come in an order in which a stride of 5 meets every tile and split, sm_90a's own from 96 on.
SIM_ALL := contract conv delta counters attention linear norm picture image elementwise embed noise \
	conv-candidates linear-candidates linear-tune golden cudasim
SIM_RUN_80 := frames $(SIM_ALL) frames-counts failures submit
SIM_RUN_75 := frames $(SIM_ALL)
SIM_RUN_90 := frames $(SIM_ALL) conv-hopper linear-hopper
SIM_SET_80_golden := BED_SHARE=6/9
SIM_SET_75_golden := BED_SHARE=7/9
SIM_SET_90_golden := BED_SHARE=7/9
SIM_SET_frames := FRAMES_SIZE=64 CK_RUN_CASE=pictures
SIM_SET_frames-counts := FRAMES_SIZE=64 FRAMES_COUNT=1000 CK_RUN_CASE=counts CUDASIM_SKIP=1 CUDASIM_MEMORY_MB=512
SIM_SET_failures := CUDASIM_SKIP=1 CUDASIM_MEMORY_MB=512
SIM_SET_submit := CUDASIM_SKIP=1 SUBMIT_MODEL=$(abspath $(SIM))/narrow
SIM_SET_linear-tune := SCOPE_CUDA_TUNE= XDG_CACHE_HOME=. BED_SHARE=0/20
SIM_SET_80_conv-candidates := BED_CANDIDATES=0:5:95:10
SIM_SET_conv-candidates := BED_CANDIDATES=0:5:95:30
SIM_SET_linear-candidates := BED_CANDIDATES=0:5:95:1
SIM_SET_conv-hopper := BED_CANDIDATES=96:5:191:20
SIM_SET_linear-hopper := BED_CANDIDATES=96:5:191:2
sim_set = $(or $(SIM_SET_$(1)_$(2)),$(SIM_SET_$(2)))

ifneq ($(SAN),) # what the host's half does, once
SIM_RUN_80 := contract delta linear frames-counts failures
SIM_RUN_75 :=
SIM_RUN_90 :=
endif
ifneq ($(NVCC),)
SIM_UNITS := $(foreach a,80 90 75,$(foreach u,$(SIM_RUN_$(a)),$(if $(filter $(firstword $(subst -, ,$(u))),$(SIM_KINDS)),$(SIM)/$(a)/$(u).sh)))
endif

$(SIM_CU_DIR)/%.cu.o: kernels/cuda/%.cu
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
$(SIM)/test_submit: $(BUILD)/obj/tests/cudasim/test_submit.o $(SD_OBJ)
$(SIM)/test_submit: SIM_WRAP = -Wl,--wrap=cuda_submit -Wl,--wrap=cuda_launch
$(SIM)/random_model: $(BUILD)/obj/tests/tools/random_model.o $(SD_OBJ)
$(SIM)/test_counters: $(BUILD)/obj/tests/cudasim/test_counters.o
$(SIM_PROGRAMS): $(SIM_HOST) $(SIM_CU) $(SIM)/libcudasim.a
	@echo "  LINK  $@"
	@$(CXX) $(SAN) -fopenmp -rdynamic $(SIM_WRAP) -o $@ $(filter %.o,$^) $(SIM)/libcudasim.a -ldnnl \
	  $(call pkg,--libs,$(PKGS_PLUGIN)) $(CHECK_LIBS) -lm -ldl -lpthread

# The simulator's own test: planted bugs, instructions, the runtime.
$(SIM)/obj/test_cudasim.o: tests/cudasim/test_cudasim.cu
	@mkdir -p $(@D)
	@echo "  NVCC  $< (PTX)"
	@$(NVCC) $(NVCC_FLAGS) $(SIM_PTX) --no-compress -I. -c -o $@ $<
$(SIM)/test_cudasim: $(SIM)/obj/test_cudasim.o $(SIM)/libcudasim.a
	@echo "  LINK  $@"
	@$(CXX) -o $@ $^ -ldl -lpthread

# SD-Turbo's ops, a fifth as wide.
$(SIM)/narrow/model_index.json: $(SIM)/random_model
	@rm -rf $(SIM)/narrow $(SIM)/narrow-config
	@cp -r tests/golden/configs/sd-turbo $(SIM)/narrow-config
	@sed -i 's/^ *5,/1,/; s/^ *10,/2,/; s/^ *20\b/4/; s/\b320\b/64/; s/\b640\b/128/; s/\b1280\b/256/; s/\b1024\b/128/' $(SIM)/narrow-config/unet/config.json
	@sed -i 's/\b1024\b/128/; s/\b4096\b/512/; s/\b16\b/2/' $(SIM)/narrow-config/text_encoder/config.json
	@sed -i 's/\b128\b/32/; s/\b256\b/64/; s/\b512\b/64/' $(SIM)/narrow-config/vae/config.json
	@$(SIM)/random_model $(SIM)/narrow-config $(SIM)/narrow --dtype f16 --tokenizer tests/golden/tokenizer/bang >/dev/null && touch $@

# What a program is run with. No fork: one process, one report.
define sim_script
#!/bin/sh
export BED_DEVICE=cuda CK_FORK=no CUDASIM_ARCH=$(1) CUDASIM_REPORT=$(abspath $(SIM))/report/$(1)-$(2)
export SCOPE_CUDA_TUNE=off SCOPE_CUDA_LIBRARIES=none CUDA_VISIBLE_DEVICES=0
export OMP_NUM_THREADS=1 $(call sim_set,$(1),$(2))
exec $(abspath $(SIM))/test_$(firstword $(subst -, ,$(2)))
endef
$(SIM_UNITS): $(SIM)/%.sh: $(SIM_PROGRAMS) $(SIM)/test_cudasim $(if $(SAN),,$(SIM)/narrow/model_index.json) tests/cudasim/rules.mk
	$(shell mkdir -p $(@D))$(file >$@,$(call sim_script,$(patsubst %/,%,$(dir $*)),$(notdir $*)))

.PHONY: test-cudasim sim-programs
sim-programs: $(SIM_UNITS)

test-cudasim: $(BUILD)/deps.ok ## the CUDA backend's tests on a simulated GPU
	@$(MAKE) --no-print-directory -j$(JOBS) sim-programs
	@rm -rf $(SIM)/report && mkdir -p $(SIM)/report
	@BUILD=$(abspath $(BUILD)) LOGS=$(abspath $(SIM))/logs tests/run.sh $(JOBS) $(abspath $(SIM_UNITS))
	@$(if $(SAN),true,tests/cudasim/coverage.sh $(SIM)/report $(SIM_ARCHS))

# Registers, spills and matrix instructions of the kernels that ship, with NVIDIA's cuobjdump.
.PHONY: check-sass
check-sass: $(CUDA_OBJ)
	@tests/cudasim/sass.sh $(BUILD)/cuobjdump $(CUDA_OBJ) || [ $$? = 77 ]

# Do the tests notice a kernel that lost a barrier, a wait or a bound? MUTANTS: a sample, spread
# evenly; 0: all of them, which takes an hour.
MUTANTS ?= 0
MUTATED := noise.cu=noise image.cu=image picture.cu=picture elementwise.cu=elementwise norm.cu=norm \
	group_norm.cu=norm prepare.cu=linear+delta gemm_rows.cu=linear attention_wide.cu=attention attention.cu=attention
define mutant_compile
#!/bin/sh
exec $(NVCC) $(NVCC_FLAGS) -Ikernels/cuda -gencode arch=compute_80,code=compute_80 --no-compress -c -o "$$2" "$$1"
endef
define mutant_run
#!/bin/sh
cd $(abspath $(SIM))/mutants && $(CXX) -fopenmp -rdynamic -o test_$$1 $(abspath $(BUILD))/obj/tests/kernels/test_$$1.o \
	$(abspath $(SIM_HOST)) *.cu.o $(abspath $(SIM))/libcudasim.a -ldnnl $(call pkg,--libs,$(PKGS_PLUGIN)) $(CHECK_LIBS) \
	-lm -ldl -lpthread && sed 's|^exec .*|exec ./test_'$$1'|' $(abspath $(SIM))/80/$$1.sh >$$1.sh && CUDASIM_REPORT= exec sh ./$$1.sh
endef
.PHONY: mutate-cudasim
mutate-cudasim: sim-programs
	@rm -rf $(SIM)/mutants && mkdir -p $(SIM)/mutants && cp $(SIM_CU) $(SIM)/mutants
	$(file >$(SIM)/mutant-compile,$(mutant_compile))$(file >$(SIM)/mutant-run,$(mutant_run))
	@MUTATE_OBJECTS=$(SIM)/mutants MUTATE_COMPILE="sh $(SIM)/mutant-compile" tests/cudasim/mutate.sh -n $(MUTANTS) \
	  $(foreach m,$(MUTATED),"kernels/cuda/$(firstword $(subst =, ,$(m)))=sh $(SIM)/mutant-run $(subst +,$(comma)sh $(SIM)/mutant-run ,$(lastword $(subst =, ,$(m))))")
comma := ,

-include $(wildcard $(sort $(SIM)/obj/*.d $(SIM_CU_DIR)/*.d))

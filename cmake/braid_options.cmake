option(BRAID_NATIVE "Compile for this machine only, with one static Highway target" OFF)
option(BRAID_CHECKS "Debug checks in kernels and NaN-filled fresh memory" OFF)
option(BRAID_STD_THREADS "parallel_for on std::thread instead of OpenMP (ThreadSanitizer, clang)" OFF)
option(BRAID_FUZZ "Build the libFuzzer targets (needs clang++)" OFF)
set(BRAID_SANITIZE "" CACHE STRING "address,undefined or thread")

add_library(braid_flags INTERFACE)
target_include_directories(braid_flags INTERFACE ${CMAKE_SOURCE_DIR})
target_compile_options(braid_flags INTERFACE
  -Wall -Wextra -Werror -fno-math-errno -fno-trapping-math -ffp-contract=off)
if(BRAID_NATIVE)
  target_compile_options(braid_flags INTERFACE -march=native)
  target_compile_definitions(braid_flags INTERFACE HWY_COMPILE_ONLY_STATIC)
else()
  # AES and PCLMUL: without them Highway silently falls back to SSSE3 (style/anchors.md section 16).
  target_compile_options(braid_flags INTERFACE -march=x86-64-v3 -maes -mpclmul)
  target_compile_definitions(braid_flags INTERFACE
    "HWY_DISABLED_TARGETS=(HWY_SSSE3|HWY_SSE4)")
endif()
if(BRAID_CHECKS)
  target_compile_definitions(braid_flags INTERFACE BRAID_CHECKS=1)
endif()
if(BRAID_SANITIZE)
  target_compile_options(braid_flags INTERFACE -fsanitize=${BRAID_SANITIZE} -fno-omit-frame-pointer
    -fno-sanitize-recover=all)
  target_link_options(braid_flags INTERFACE -fsanitize=${BRAID_SANITIZE})
endif()

if(BRAID_STD_THREADS)
  target_compile_definitions(braid_flags INTERFACE BRAID_STD_THREADS=1)
endif()
if(BRAID_FUZZ)
  # Coverage of the libraries too, or the fuzzer would search blindly.
  target_compile_options(braid_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()

find_program(CCACHE ccache)
if(CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE})
endif()

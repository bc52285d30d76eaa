# Every third-party library is a Debian package (packages.txt); each is wrapped once, here.
find_package(OpenMP REQUIRED)
find_package(Threads REQUIRED)
find_package(fmt REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(HWY REQUIRED IMPORTED_TARGET libhwy)
pkg_check_modules(ZSTD REQUIRED IMPORTED_TARGET libzstd)
find_package(ZLIB REQUIRED)

find_library(DNNL_LIBRARY dnnl REQUIRED)
add_library(dnnl_lib INTERFACE)
target_link_libraries(dnnl_lib INTERFACE ${DNNL_LIBRARY})

find_library(XSMM_LIBRARY xsmm REQUIRED)
find_library(XSMM_NOBLAS_LIBRARY xsmmnoblas REQUIRED)
add_library(xsmm_lib INTERFACE)
target_link_libraries(xsmm_lib INTERFACE ${XSMM_LIBRARY} ${XSMM_NOBLAS_LIBRARY} Threads::Threads ${CMAKE_DL_LIBS} m)

find_path(DOCTEST_INCLUDE doctest/doctest.h REQUIRED)

// Blocks and values that ggml, gguf-py and the gpt-oss loader wrote and read
// (tests/golden/checkpoints/README.md, "_formats"; tests/golden/ggml_blocks).

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <string>

#include "braid/base/error.h"
#include "braid/base/file.h"
#include "braid/base/json.h"
#include "braid/formats/gguf.h"
#include "braid/formats/quant_blocks.h"
#include "braid/formats/safetensors.h"
#include "braid/testing/golden.h"

namespace braid {
namespace {

SafetensorsFile blocks_file() {
  for (const std::string& path : testing::golden_files("checkpoints/_formats")) {
    if (file_name(path) == "quant_blocks.safetensors") return SafetensorsFile::open(path);
  }
  throw Error(ErrorKind::kBadInput, "no quant_blocks.safetensors among the golden files");
}

bool same_bits(const float* a, const float* b, int64_t n) {
  return std::memcmp(a, b, static_cast<size_t>(n) * sizeof(float)) == 0;
}

void check_blocks(const SafetensorsFile& file,
                  std::span<const std::pair<const char*, GgmlType>> types) {
  const Context ctx;
  for (const auto& [name, type] : types) {
    CAPTURE(name);
    const Tensor in = file.tensor(std::string(name) + ".blocks");
    const Tensor want = file.to_f32(ctx, std::string(name) + ".values");
    REQUIRE(ggml_row_bytes(type, want.count()) == in.count());
    const Tensor got = Tensor::empty(ctx, want.shape());
    decode_row(type, reinterpret_cast<const std::byte*>(in.data<uint8_t>()), got.count(),
               got.data());
    CHECK(same_bits(got.data(), want.data(), want.count()));
  }
}

TEST_CASE("blocks decode bit for bit as ggml decodes them") {
  constexpr std::pair<const char*, GgmlType> kTypes[] = {
      {"q8_0", GgmlType::kQ8_0}, {"q4_0", GgmlType::kQ4_0}, {"q4_K", GgmlType::kQ4_K},
      {"q5_K", GgmlType::kQ5_K}, {"q6_K", GgmlType::kQ6_K}, {"mxfp4_gguf", GgmlType::kMxfp4}};
  check_blocks(blocks_file(), kTypes);
  constexpr std::pair<const char*, GgmlType> kMore[] = {
      {"q4_1", GgmlType::kQ4_1},    {"q5_0", GgmlType::kQ5_0}, {"q5_1", GgmlType::kQ5_1},
      {"q2_K", GgmlType::kQ2_K},    {"q3_K", GgmlType::kQ3_K}, {"iq4_nl", GgmlType::kIQ4_NL},
      {"iq4_xs", GgmlType::kIQ4_XS}};
  const std::vector<std::string> files = testing::golden_files("ggml_blocks");
  REQUIRE(files.size() == 1);
  check_blocks(SafetensorsFile::open(files[0]), kMore);
}

TEST_CASE("gpt-oss blocks decode bit for bit") {
  const Context ctx;
  const SafetensorsFile file = blocks_file();
  const Tensor scales = file.tensor("mxfp4_hf.scales");
  const Tensor want = file.to_f32(ctx, "mxfp4_hf.values");
  const Tensor got = Tensor::empty(ctx, want.shape());
  REQUIRE(scales.count() * 32 == want.count());
  decode_mxfp4_hf(file.tensor("mxfp4_hf.blocks").data<uint8_t>(), scales.data<uint8_t>(),
                  scales.count(), got.data());
  CHECK(same_bits(got.data(), want.data(), want.count()));
}

TEST_CASE("fp8 with block scales") {
  const Context ctx;
  const SafetensorsFile file = blocks_file();
  const Tensor bytes = file.tensor("fp8_block128.bytes");  // [200, 136]
  const Tensor scales = file.to_f32(ctx, "fp8_block128.weight_scale_inv");
  const Tensor want = file.to_f32(ctx, "fp8_block128.values");  // rows 0, 8, 16, ...
  const int64_t columns = bytes.size(1);
  std::vector<float> row(static_cast<size_t>(columns));
  for (int64_t r = 0; r < want.size(0); ++r) {
    const int64_t i = 8 * r;
    decode_fp8_row(bytes.data<uint8_t>() + i * columns, columns,
                   scales.data() + i / 128 * scales.size(1), 128, row.data());
    CAPTURE(i);
    CHECK(same_bits(row.data(), want.data() + r * columns, columns));
  }
}

TEST_CASE("a GGUF container of every kind of value and tensor reads as its writer says") {
  const std::vector<std::string> files = testing::golden_files("checkpoints/_formats");
  REQUIRE(!files.empty());
  const std::string folder = parent_path(files[0]);
  const GgufFile f = GgufFile::open(join_path(folder, "container.gguf"));
  const Json want = Json::parse(read_file(join_path(folder, "container.expected.json")));
  CHECK(f.version() == want.at("version").as_uint());
  CHECK(f.alignment() == want.at("alignment").as_uint());
  CHECK(f.data_begin() == want.at("data_offset").as_uint());
  CHECK(f.values().size() == want.at("kv").size());
  for (const auto& [key, value] : want.at("kv").members()) {
    CAPTURE(key);
    CHECK(f.at(key).json() == value);
  }
  CHECK(f.tensors().size() == want.at("tensors").size());
  for (const auto& [name, tensor] : want.at("tensors").members()) {
    CAPTURE(name);
    REQUIRE(f.find_tensor(name) != nullptr);
    const GgufTensor& t = *f.find_tensor(name);
    CHECK(static_cast<uint64_t>(t.type) == tensor.at("ggml_type").as_uint());
    const std::vector<Json>& shape = tensor.at("shape_row_major").elements();
    REQUIRE(t.shape.size() == shape.size());
    for (size_t i = 0; i < shape.size(); ++i) CHECK(t.shape[i] == shape[i].as_int());
    const std::vector<Json>& values = tensor.at("values").elements();
    REQUIRE(static_cast<size_t>(t.count()) == values.size());
    std::vector<float> got(values.size());
    if (t.type == GgmlType::kI32) {
      for (size_t i = 0; i < got.size(); ++i) {
        int32_t v;
        std::memcpy(&v, f.bytes(t).data() + 4 * i, 4);
        CHECK(static_cast<double>(v) == values[i].as_real());
      }
      continue;
    }
    f.decode(t, 0, t.count() / t.row(), got.data());
    for (size_t i = 0; i < got.size(); ++i)
      CHECK(got[i] == static_cast<float>(values[i].as_real()));
  }
}

}  // namespace
}  // namespace braid

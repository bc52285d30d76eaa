#include "braid/formats/safetensors.h"

#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <cstring>

#include "braid/base/error.h"
#include "braid/base/format.h"
#include "braid/testing/scratch_folder.h"

namespace braid {
namespace {

std::string file_with(std::string_view header, size_t data_bytes) {
  const uint64_t n = header.size();
  std::string s(8, '\0');
  std::memcpy(s.data(), &n, 8);
  s += header;
  for (size_t i = 0; i < data_bytes; ++i) s += static_cast<char>(i);
  return s;
}

SafetensorsFile parse(std::string_view bytes) {
  auto owner = std::make_shared<std::vector<std::byte>>(bytes.size());
  if (!bytes.empty()) std::memcpy(owner->data(), bytes.data(), bytes.size());
  const std::span<const std::byte> span(owner->data(), owner->size());
  return SafetensorsFile::parse(owner, span, "x.safetensors");
}

std::string error_of(std::string_view bytes) {
  try {
    parse(bytes);
  } catch (const Error& e) {
    CHECK(e.kind() == ErrorKind::kBadInput);
    return e.what();
  }
  return "no error";
}

bool contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

TEST_CASE("what is written is read back, from a file and from memory") {
  const Context ctx;
  const testing::ScratchFolder dir("safetensors");
  const std::string path = dir / "a.safetensors";
  SafetensorsWriter writer;
  writer.add("b", Tensor::from(ctx, {2, 3}, std::vector<float>{1, -2, 3, 4, 5, 6.5f}));
  writer.add("scalar", Tensor::full(ctx, {}, 7));
  writer.add("empty", Tensor::empty(ctx, {0, 4}));
  writer.add_i64("ids", {3}, {-1, 2, int64_t{1} << 40});
  writer.set_metadata("kind", "a \"quoted\" \n kind");
  // A view that does not begin its storage must be written from its own first element.
  writer.add("view", Tensor::from(ctx, {4}, std::vector<float>{9, 8, 7, 6}).narrow(0, 2, 2));
  const SafetensorsWriter::Written written = writer.write(path);
  const std::string bytes = read_file(path);
  CHECK(bytes == writer.bytes());
  CHECK(written.bytes == bytes.size());
  CHECK(written.digest == digest_of(bytes));

  const SafetensorsFile file = SafetensorsFile::open(path);
  CHECK(file.entries().size() == 5);
  CHECK(file.entries()[0].name == "ids");  // eight-byte elements first
  CHECK(file.metadata("kind") == "a \"quoted\" \n kind");
  CHECK(file.metadata("format") == "pt");
  const Tensor b = file.tensor("b");
  CHECK(b.shape() == Shape{2, 3});
  CHECK(b.data()[5] == 6.5f);
  CHECK(file.tensor("scalar").rank() == 0);
  CHECK(file.tensor("scalar").data()[0] == 7.0f);
  CHECK(file.tensor("empty").count() == 0);
  CHECK(file.tensor("view").data()[0] == 7.0f);
  CHECK(file.to_i64("ids") == std::vector<int64_t>{-1, 2, int64_t{1} << 40});
  CHECK(file.to_f32(ctx, "ids").data()[2] == 0x1p40f);
  CHECK_THROWS_WITH_AS(file.tensor("nope"), doctest::Contains("no tensor \"nope\""), Error);
  CHECK_THROWS_WITH_AS(file.to_i64("b"), doctest::Contains("is F32, not integers"), Error);
}

TEST_CASE("the header is byte-exact and the data begins at a multiple of 8") {
  const Context ctx;
  SafetensorsWriter writer;
  writer.add("a", Tensor::full(ctx, {2}, 1));
  const std::string bytes = writer.bytes();
  const std::string_view header =
      R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
  uint64_t n;
  std::memcpy(&n, bytes.data(), 8);
  CHECK(n == (header.size() + 7) / 8 * 8);
  CHECK(bytes.substr(8, header.size()) == header);
  CHECK(bytes.substr(8 + header.size(), n - header.size()) == std::string(n - header.size(), ' '));
  CHECK(bytes.size() == 8 + n + 8);
}

TEST_CASE("half precision and unaligned data convert exactly") {
  const Context ctx;
  const auto put = [](std::string& s, uint16_t v) {
    s.append(reinterpret_cast<const char*>(&v), 2);
  };
  std::string f = file_with(
      R"({"h":{"dtype":"F16","shape":[6],"data_offsets":[0,12]},"b":{"dtype":"BF16","shape":[2],"data_offsets":[12,16]},"f":{"dtype":"F32","shape":[1],"data_offsets":[16,20]}} )",
      0);
  for (const uint16_t v : {0x3C00, 0x0001, 0x8000, 0x7C00, 0xFBFF, 0x03FF}) put(f, v);
  put(f, 0x3FC0);
  put(f, 0xFF80);
  const float x = 1.5f;
  f.append(reinterpret_cast<const char*>(&x), 4);
  const SafetensorsFile file = parse(f);
  const Tensor h = file.to_f32(ctx, "h");
  CHECK(h.data()[0] == 1.0f);
  CHECK(h.data()[1] == 0x1p-24f);
  CHECK(std::signbit(h.data()[2]));
  CHECK(std::isinf(h.data()[3]));
  CHECK(h.data()[4] == -65504.0f);
  CHECK(h.data()[5] == 1023 * 0x1p-24f);
  CHECK(file.to_f32(ctx, "b").data()[0] == 1.5f);
  CHECK(file.to_f32(ctx, "b").data()[1] == -INFINITY);
  CHECK(file.tensor("f").data()[0] == 1.5f);
}

TEST_CASE("every broken file is an error that names what is wrong") {
  const std::string good = file_with(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", 4);
  CHECK(error_of(good) == "no error");
  for (size_t n = 0; n < good.size(); ++n) {
    CAPTURE(n);
    CHECK(error_of(std::string_view(good).substr(0, n)) != "no error");
  }
  CHECK(contains(error_of(good + "x"), "take 4 bytes, but the file holds 5"));
  const auto entry = [](std::string_view e, size_t bytes) {
    return error_of(file_with(format("{{\"a\":{}}}", e), bytes));
  };
  CHECK(contains(entry(R"({"dtype":"F32","shape":[2],"data_offsets":[0,4]})", 4), "not 8"));
  CHECK(contains(entry(R"({"dtype":"Q9","shape":[2],"data_offsets":[0,4]})", 4), "dtype \"Q9\""));
  CHECK(contains(entry(R"({"dtype":"U8","shape":[4],"data_offsets":[0,9]})", 4), "ends at byte 9"));
  CHECK(contains(entry(R"({"dtype":"U8","shape":[4],"data_offsets":[4,0]})", 4), "[4,0]"));
  CHECK(contains(entry(R"({"dtype":"U8","shape":[-4],"data_offsets":[0,4]})", 4), "[-4]"));
  CHECK(contains(entry(R"({"dtype":"U8","shape":[4.0],"data_offsets":[0,4]})", 4), "not a list"));
  CHECK(contains(entry(R"({"dtype":"U8","data_offsets":[0,4]})", 4), "no shape"));
  CHECK(contains(entry(R"({"shape":[4],"data_offsets":[0,4]})", 4), "no dtype"));
  CHECK(contains(entry(R"({"dtype":"U8","shape":[4],"shape":[4],"data_offsets":[0,4]})", 4),
                 "'shape' is given twice"));
  CHECK(contains(entry(R"([1])", 4), "not an object"));
  CHECK(
      contains(entry(R"({"dtype":"U8","shape":[[[]]],"data_offsets":[0,4]})", 4), "nested deeper"));
  const std::string huge =
      R"({"dtype":"F32","shape":[9223372036854775807,9223372036854775807,0],"data_offsets":[0,0]})";
  CHECK(contains(entry(huge, 0), "has 0 bytes"));
  const std::string one = R"("a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]})";
  CHECK(contains(error_of(file_with("{" + one + "," + one + "}", 4)), "'a' is given twice"));
  const auto two = [&](int begin, int end, int total) {
    return error_of(file_with(
        format("{{{},\"b\":{{\"dtype\":\"U8\",\"shape\":[{}],\"data_offsets\":[{},{}]}}}}", one,
               end - begin, begin, end),
        static_cast<size_t>(total)));
  };
  CHECK(two(4, 6, 6) == "no error");
  CHECK(contains(two(5, 7, 7), "past the end 4"));
  CHECK(contains(two(3, 7, 7), "before the end 4"));
  CHECK(contains(error_of(file_with(R"({"__metadata__":{"k":1}})", 0)), "metadata \"k\""));
  CHECK(contains(error_of(file_with("{\"a\":", 0)), "x.safetensors: json"));
  CHECK(contains(error_of(std::string("\xff\xff\xff\xff\xff\xff\xff\x7f{}", 10)), "100000000"));
  CHECK_THROWS_WITH_AS(SafetensorsFile::open("/nonexistent/f"), doctest::Contains("No such file"),
                       Error);
  CHECK_THROWS_WITH_AS(SafetensorsFile::open("/tmp"), doctest::Contains("it is a folder"), Error);
}

}  // namespace
}  // namespace braid

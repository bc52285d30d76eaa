#include "braid/formats/gguf.h"

#include <doctest/doctest.h>
#include <sys/mman.h>

#include <cstring>

#include "braid/base/error.h"
#include "braid/base/file.h"
#include "braid/base/format.h"
#include "braid/testing/scratch_folder.h"

namespace braid {
namespace {

using testing::ScratchFolder;

ByteSource source_of(std::string bytes) {
  return [bytes = std::move(bytes)](ByteSink sink) { sink(bytes.data(), bytes.size()); };
}

GgufFile parse(std::string_view bytes) {
  return GgufFile::parse(nullptr, std::as_bytes(std::span(bytes)), "x.gguf");
}

std::string error_of(std::string_view bytes) {
  try {
    parse(bytes);
    return "no error";
  } catch (const Error& e) {
    return e.what();
  }
}

bool contains(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

GgufWriter example(int32_t part = 0, int32_t parts = 1) {
  GgufWriter w;
  w.set("general.architecture", GgufValue::string("qwen3"));
  w.set("t.u32", GgufValue::u32(7));
  w.set("t.i32", GgufValue::i32(-7));
  w.set("t.bool", GgufValue::boolean(true));
  w.set("t.f32", GgufValue::f32(0.5f));
  w.set("t.strings", GgufValue::strings({"a", "", "\xE2\x96\x81x"}));
  const int32_t ints[] = {1, -2, 3};
  w.set("t.ints", GgufValue::i32s(ints));
  const float reals[] = {1.5f};
  w.set("t.reals", GgufValue::f32s(reals));
  if (parts > 1) {
    w.set("split.no", GgufValue::u32(static_cast<uint32_t>(part)));
    w.set("split.count", GgufValue::u32(static_cast<uint32_t>(parts)));
    w.set("split.tensors.count", GgufValue::i32(2 * parts));
  }
  const std::string tail = parts > 1 ? format("{}", part) : "";
  w.add("a" + tail, GgmlType::kF32, {1, 3}, source_of("0123456789ab"));
  w.add("b" + tail, GgmlType::kQ8_0, {2, 32}, source_of(std::string(68, '\1')));
  return w;
}

std::string bytes_of(const GgufWriter& w) {
  const ScratchFolder scratch("gguf");
  w.write(scratch / "f.gguf");
  return read_file(scratch / "f.gguf");
}

TEST_CASE("writing tells how far it is, up to the last tensor") {
  const ScratchFolder scratch("gguf");
  std::vector<uint64_t> seen;
  uint64_t of = 0;
  example().write(scratch / "f.gguf", [&](uint64_t done, uint64_t all) {
    seen.push_back(done);
    of = all;
  });
  // 12 and 68 bytes, every tensor at a multiple of 32.
  CHECK(seen == std::vector<uint64_t>{12, 32 + 68});
  CHECK(of == 32 + 96);
}

TEST_CASE("what the writer writes the reader reads") {
  const std::string bytes = bytes_of(example());
  const GgufFile f = parse(bytes);
  CHECK(f.version() == 3);
  CHECK(f.data_begin() % 32 == 0);
  CHECK(f.string("general.architecture") == "qwen3");
  CHECK(f.uint("t.u32") == 7);
  CHECK(f.at("t.i32").as_int() == -7);
  CHECK(f.boolean("t.bool") == true);
  CHECK(f.real("t.f32") == 0.5);
  CHECK(f.at("t.strings").as_strings() == std::vector<std::string>{"a", "", "\xE2\x96\x81x"});
  CHECK(f.at("t.ints").int_at(1) == -2);
  CHECK(f.at("t.reals").real_at(0) == 1.5);
  CHECK_FALSE(f.uint("nothing"));
  CHECK_THROWS_WITH_AS(f.uint("t.i32"), doctest::Contains("\"t.i32\" is the i32 -7, not zero"),
                       Error);
  CHECK_THROWS_WITH_AS(f.string("t.u32"), doctest::Contains("is the u32 7, not a string"), Error);
  CHECK_THROWS_WITH_AS(f.at("nothing"), doctest::Contains("no key \"nothing\""), Error);
  REQUIRE(f.find_tensor("b") != nullptr);
  const GgufTensor& b = *f.find_tensor("b");
  CHECK(b.shape == std::vector<int64_t>{2, 32});
  CHECK(b.offset == 32);
  CHECK(f.bytes(b).size() == 68);
  float row[32];
  f.decode(b, 1, 1, row);
  CHECK(row[31] == f16_to_f32(0x0101));
  CHECK(std::memcmp(f.bytes(*f.find_tensor("a")).data(), "0123456789ab", 12) == 0);
  CHECK(f.find_tensor("c") == nullptr);
}

TEST_CASE("every cut is an error, every flipped byte an error or a file") {
  const std::string good = bytes_of(example());
  CHECK(error_of(good) == "no error");
  for (size_t n = 0; n < good.size() - 28; ++n) {  // the last 28 bytes are padding
    CAPTURE(n);
    REQUIRE(error_of(std::string_view(good).substr(0, n)) != "no error");
  }
  for (size_t i = 0; i < good.size(); ++i) {
    for (const int bit : {0, 3, 7}) {
      std::string broken = good;
      broken[i] = static_cast<char>(broken[i] ^ (1 << bit));
      error_of(broken);  // returns
    }
  }
}

TEST_CASE("what is wrong is named") {
  const std::string good = bytes_of(example());
  const auto with = [&](size_t at, auto v) {
    std::string s = good;
    std::memcpy(s.data() + at, &v, sizeof v);
    return error_of(s);
  };
  CHECK(contains(error_of("GGML...."), "does not begin with \"GGUF\""));
  CHECK(contains(with(4, uint32_t{0x03000000}), "big-endian"));
  CHECK(contains(with(4, uint32_t{1}), "version 1"));
  CHECK(with(4, uint32_t{2}) == "no error");
  CHECK(contains(with(8, uint64_t{1} << 60), "tensors cannot be in the"));
  CHECK(contains(with(16, uint64_t{1} << 60), "keys cannot be in the"));
  CHECK(contains(with(24, ~uint64_t{0}), "a key of 18446744073709551615 bytes"));
  const size_t type = 24 + 8 + 20;
  CHECK(contains(with(type, uint32_t{13}), "unknown value type 13"));
  const size_t a = good.find("\1\0\0\0\0\0\0\0a\2", 0, 10);
  REQUIRE(a != std::string::npos);
  CHECK(contains(with(a + 9, uint32_t{5}), "tensor \"a\": 5 dimensions"));
  CHECK(contains(with(a + 13, ~uint64_t{0}), "dimension 0"));
  CHECK(contains(with(a + 13, uint64_t{0}), "dimension 0 is 0"));
  CHECK(contains(with(a + 13, uint64_t{1} << 62), "do not fit in a file"));
  CHECK(contains(with(a + 29, uint32_t{4}), "unknown tensor type 4"));
  CHECK(contains(with(a + 29, uint32_t{2}), "rows of 3 values, but Q4_0 has blocks of 32"));
  CHECK(contains(with(a + 33, uint64_t{8}), "not at a multiple of 32"));
  CHECK(contains(with(a + 33, uint64_t{32}), "overlap"));
  CHECK(contains(with(a + 33, uint64_t{1} << 40), "takes 12 bytes at"));
  std::string twice = good;
  twice[good.find("t.i32") + 2] = 'u';
  CHECK(contains(error_of(twice), "\"t.u32\" is given twice"));
  twice = good;
  twice[good.find("\1\0\0\0\0\0\0\0b\2", 0, 10) + 8] = 'a';
  CHECK(contains(error_of(twice), "\"a\" is there twice"));
}

TEST_CASE("a damaged length that reaches into the tensors of a large model is refused, not held") {
  constexpr size_t kBytes = size_t{2} << 30;
  const std::string good = bytes_of(example());
  void* const at = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  REQUIRE(at != MAP_FAILED);
  std::memcpy(at, good.data(), good.size());
  const uint64_t length = kBytes / 2 + 1;
  std::memcpy(static_cast<char*>(at) + 24, &length, sizeof length);  // of the first key
  CHECK(contains(error_of({static_cast<const char*>(at), kBytes}),
                 "keys and values of more than 1073741824 bytes"));
  munmap(at, kBytes);
}

TEST_CASE("a split model is read from any of its parts") {
  const ScratchFolder scratch("gguf_split");
  for (int i = 0; i < 2; ++i) example(i, 2).write(scratch / format("m-{:05}-of-00002.gguf", i + 1));
  for (int i = 0; i < 2; ++i) {
    const GgufFile f = GgufFile::open(scratch / format("m-{:05}-of-00002.gguf", i + 1));
    CHECK(f.tensors().size() == 4);
    REQUIRE(f.find_tensor("b1") != nullptr);
    CHECK(f.find_tensor("b1")->file == 1);
    CHECK(f.bytes(*f.find_tensor("b1")).size() == 68);
  }
  rename_path(scratch / "m-00001-of-00002.gguf", scratch / "m.gguf");
  CHECK_THROWS_WITH_AS(GgufFile::open(scratch / "m.gguf"), doctest::Contains("one of 2 parts"),
                       Error);
  CHECK_THROWS_WITH_AS(GgufFile::open(scratch / "m-00002-of-00002.gguf"),
                       doctest::Contains("m-00001-of-00002.gguf"), Error);
  example(0, 2).write(scratch / "m-00001-of-00002.gguf");
  example(0, 2).write(scratch / "m-00002-of-00002.gguf");
  CHECK_THROWS_WITH_AS(GgufFile::open(scratch / "m-00001-of-00002.gguf"),
                       doctest::Contains("split.no and split.count are not 1 and 2"), Error);
}

}  // namespace
}  // namespace braid

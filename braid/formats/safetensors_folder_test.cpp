#include "braid/formats/safetensors_folder.h"

#include <doctest/doctest.h>

#include <cstring>

#include "braid/base/error.h"
#include "braid/base/file_faults.h"
#include "braid/base/format.h"
#include "braid/testing/scratch_folder.h"

namespace braid {
namespace {

using testing::ScratchFolder;

ByteSource source_of(std::string bytes) {
  return [bytes = std::move(bytes)](ByteSink sink) {
    // In two pieces, so that pieces matter.
    sink(bytes.data(), bytes.size() / 2);
    sink(bytes.data() + bytes.size() / 2, bytes.size() - bytes.size() / 2);
  };
}

std::string text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

void add_all(SafetensorsFolderWriter& writer) {
  writer.add("b", "F8_E4M3", {4}, source_of("abcd"));
  writer.add("a", "F32", {2}, source_of("01234567"));
  writer.add("f4", "F4", {2, 4}, source_of("wxyz"));
  writer.add("f6", "F6_E2M3", {4}, source_of("123"));
  writer.add("none", "BF16", {0, 3}, source_of(""));
  writer.add("u", "U16", {1}, source_of("!?"));
}

void check_all(const SafetensorsFolder& folder) {
  CHECK(folder.names() == std::vector<std::string>{"a", "b", "f4", "f6", "none", "u"});
  CHECK(text_of(folder.at("a").bytes()) == "01234567");
  CHECK(text_of(folder.at("b").bytes()) == "abcd");
  CHECK(text_of(folder.at("f4").bytes()) == "wxyz");
  CHECK(text_of(folder.at("f6").bytes()) == "123");
  CHECK(folder.at("none").bytes().empty());
  CHECK(folder.at("f4").entry->dtype == "F4");
  CHECK(folder.data_bytes() == 21);
  CHECK_FALSE(folder.find("c"));
  CHECK_THROWS_WITH_AS(folder.at("c"), doctest::Contains("no tensor \"c\""), Error);
}

std::string error_of(const std::string& folder) {
  try {
    SafetensorsFolder::open(folder);
    return "no error";
  } catch (const Error& e) {
    return e.what();
  }
}

TEST_CASE("one file or several, the tensors come back byte for byte") {
  const ScratchFolder scratch("safetensors_folder");
  CHECK_FALSE(SafetensorsFolder::present(scratch.path()));
  CHECK(error_of(scratch.path()).find("neither model.safetensors nor") != std::string::npos);
  {
    SafetensorsFolderWriter writer(scratch / "m", 11);
    add_all(writer);
    const auto written = writer.write();
    CHECK(written.files == std::vector<std::string>{"model-00001-of-00003.safetensors",
                                                    "model-00002-of-00003.safetensors",
                                                    "model-00003-of-00003.safetensors",
                                                    "model.safetensors.index.json"});
  }
  check_all(SafetensorsFolder::open(scratch / "m"));
  CHECK(SafetensorsFolder::open(scratch / "m").files().size() == 3);
  {
    SafetensorsFolderWriter writer(scratch / "m");
    add_all(writer);
    CHECK(writer.write().files.size() == 1);
  }
  CHECK_FALSE(path_exists(scratch / "m/model.safetensors.index.json"));
  check_all(SafetensorsFolder::open(scratch / "m"));
  // Data sorted by element size, then by name.
  CHECK(SafetensorsFile::open(scratch / "m/model.safetensors").entries()[0].name == "a");
}

TEST_CASE("writing tells how far it is, over all shards") {
  const ScratchFolder scratch("safetensors_folder");
  SafetensorsFolderWriter writer(scratch.path(), 8);
  writer.add("a", "U8", {8}, source_of("01234567"));
  writer.add("b", "U8", {4}, source_of("0123"));
  std::vector<std::pair<uint64_t, uint64_t>> seen;
  writer.write([&](uint64_t done, uint64_t all) { seen.emplace_back(done, all); });
  CHECK(seen == std::vector<std::pair<uint64_t, uint64_t>>{{4, 12}, {8, 12}, {10, 12}, {12, 12}});
}

TEST_CASE("index and shards must agree") {
  const ScratchFolder scratch("safetensors_index");
  SafetensorsFolderWriter writer(scratch.path(), 8);
  writer.add("a", "U8", {8}, source_of("01234567"));
  writer.add("b", "U8", {8}, source_of("01234567"));
  writer.write();
  const std::string index = scratch / "model.safetensors.index.json";
  const auto with = [&](const std::string& map) {
    write_file(index, format("{{\"weight_map\":{}}}", map));
    return error_of(scratch.path());
  };
  const std::string one = R"("model-00001-of-00002.safetensors")";
  const std::string two = R"("model-00002-of-00002.safetensors")";
  const auto has = [](const std::string& text, const char* part) {
    return text.find(part) != std::string::npos;
  };
  CHECK(with(format(R"({{"a":{},"b":{}}})", one, two)) == "no error");
  CHECK(has(with(format(R"({{"a":{},"b":{}}})", one, one)), "\"b\" not in the file"));
  CHECK(has(with(format(R"({{"a":{},"b":{},"c":{}}})", one, two, two)), "\"c\" not in the file"));
  CHECK(with(format(R"({{"a":{}}})", one)) == "no error");  // the other shard is never opened
  CHECK(has(with(R"({"a":"../x.safetensors"})"), "not a file name of this folder"));
  CHECK(has(with(R"({"a":7})"), "not a file name of this folder"));
  CHECK(has(with(R"({"a":"gone.safetensors"})"), "gone.safetensors"));
  CHECK(has(with("[]"), "no object \"weight_map\""));
  write_file(index, "{");
  CHECK(has(error_of(scratch.path()), "index.json: json"));
}

TEST_CASE("a writing that fails anywhere leaves what stood there before") {
  const ScratchFolder scratch("safetensors_faults");
  const auto write_twice = [&](uint64_t shard_bytes) {
    SafetensorsFolderWriter writer(scratch / "m", shard_bytes);
    add_all(writer);
    writer.write();
  };
  write_twice(11);
  for (int64_t nth = 0; nth < 100; ++nth) {
    CAPTURE(nth);
    FileFaults::arm(FileFaults::Kind::kFail, nth, 28);
    bool failed = false;
    try {
      write_twice(11);
    } catch (const Error& e) {
      failed = true;
    }
    FileFaults::disarm();
    check_all(SafetensorsFolder::open(scratch / "m"));
    if (!failed) break;
    REQUIRE(nth < 99);
  }
}

}  // namespace
}  // namespace braid

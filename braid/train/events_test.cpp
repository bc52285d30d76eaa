#include "braid/train/events.h"

#include <doctest/doctest.h>

#include <cstring>

#include "braid/base/error.h"
#include "braid/testing/scratch_folder.h"

namespace braid {
namespace {

using testing::ScratchFolder;

TEST_CASE("crc32c of RFC 3720") {
  CHECK(crc32c("123456789") == 0xE3069283u);
  CHECK(crc32c(std::string(32, '\0')) == 0x8A9136AAu);
  CHECK(crc32c(std::string(32, '\xff')) == 0x62A8AB43u);
}

TEST_CASE("an event is the bytes that TensorBoard reads") {
  const Scalar loss{"loss", 0.5};
  const std::string event = encode_event(1.0, 300, {&loss, 1});
  const std::string expected(
      "\x09\0\0\0\0\0\0\xf0\x3f"  // wall_time 1.0
      "\x10\xac\x02"              // step 300
      "\x2a\x0d"                  // summary of 13 bytes
      "\x0a\x0b"                  // value of 11 bytes
      "\x0a\x04loss"              // tag
      "\x15\0\0\0\x3f",           // simple_value 0.5
      9 + 3 + 2 + 2 + 6 + 5);
  CHECK(event == expected);
  const std::string record = tfrecord("abc");
  CHECK(record.size() == 8 + 4 + 3 + 4);
  uint32_t masked;
  std::memcpy(&masked, record.data() + 15, 4);
  const uint32_t rotated = masked - 0xa282ead8u;
  CHECK(((rotated >> 17) | (rotated << 15)) == crc32c("abc"));
}

TEST_CASE("the JSONL log goes on from the resumed step, cut at any byte") {
  const ScratchFolder dir("events");
  const std::string path = dir / "log.jsonl";
  std::string whole;
  {
    JsonLog log(path, -1);
    for (int64_t step = 0; step < 12; ++step) {
      log.write(Json::object({{"step", step}, {"loss", 0.5 * static_cast<double>(step)}}));
    }
    whole = read_file(path);
  }
  for (size_t cut = 0; cut <= whole.size(); ++cut) {
    CAPTURE(cut);
    write_file(path, whole.substr(0, cut));
    JsonLog log(path, 7);
    const std::string kept = read_file(path);
    CHECK(whole.starts_with(kept));
    CHECK((kept.empty() || kept.back() == '\n'));
    CHECK(kept.find("\"step\":8") == kept.npos);
    if (cut == whole.size()) CHECK(kept.find("\"step\":7") != kept.npos);
  }
  { JsonLog log(path, -1); }
  CHECK(read_file(path).empty());
  write_file(path, "{\"step\":1}\nnonsense\n{\"step\":2}\n");
  CHECK_THROWS_WITH_AS(JsonLog(path, 5), doctest::Contains("log.jsonl: line 2: json"), Error);
  write_file(path, "{\"step\":1}\n{\"loss\":2}\n");
  CHECK_THROWS_WITH_AS(JsonLog(path, 5), doctest::Contains("line 2"), Error);
}

TEST_CASE("the event file goes on from the resumed step, cut at any byte") {
  const ScratchFolder dir("events");
  const std::string path = dir / "events.out.tfevents.braid";
  const auto fill = [&](int64_t from, int64_t to, int64_t keep) {
    EventLog log(dir.path(), keep);
    for (int64_t step = from; step < to; ++step) {
      const Scalar scalars[] = {{"loss/train", 2.0 / static_cast<double>(step + 1)}, {"lr", 1e-3}};
      log.write(step, scalars, 1000.0 + static_cast<double>(step));
    }
  };
  fill(0, 300, -1);
  const std::string whole = read_file(path);
  CHECK(whole.find("brain.Event:2") != whole.npos);
  fill(0, 0, 199);
  const std::string half = read_file(path);
  CHECK(whole.starts_with(half));
  fill(200, 300, 199);
  CHECK(read_file(path) == whole);
  fill(0, 0, 3);
  const std::string four = read_file(path);
  for (size_t cut = 0; cut < four.size(); ++cut) {
    CAPTURE(cut);
    write_file(path, four.substr(0, cut));
    fill(0, 0, 1000);
    const std::string kept = read_file(path);
    // The first record, of 40 bytes, is written again (with another time) when it was torn.
    CHECK((cut < 40 ? kept.size() == 40 : four.starts_with(kept)));
    CHECK(kept.find("brain.Event:2") != kept.npos);
  }
  write_file(path, "this is not an event file at all");
  CHECK_THROWS_WITH_AS(EventLog(dir.path(), 5), doctest::Contains("not a TensorBoard event file"),
                       Error);
}

}  // namespace
}  // namespace braid

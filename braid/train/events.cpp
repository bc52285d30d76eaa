#include "braid/train/events.h"

#include <array>
#include <chrono>
#include <cstring>

#include "braid/base/error.h"
#include "braid/base/format.h"

namespace braid {
namespace {

constexpr size_t kFrameHead = 12, kFrameTail = 4;
constexpr std::string_view kFileVersion = "brain.Event:2";

constexpr std::array<uint32_t, 256> make_crc_table() {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t c = i;
    for (int bit = 0; bit < 8; ++bit) c = (c >> 1) ^ ((c & 1) != 0 ? 0x82F63B78u : 0u);
    table[i] = c;
  }
  return table;
}
constexpr std::array<uint32_t, 256> kCrcTable = make_crc_table();

// TFRecord masks its checksums so that a checksum of data with checksums in it stays good.
uint32_t masked_crc(std::string_view data) {
  const uint32_t c = crc32c(data);
  return ((c >> 15) | (c << 17)) + 0xa282ead8u;
}

template <typename T>
void put_fixed(std::string& out, T v) {
  out.append(reinterpret_cast<const char*>(&v), sizeof v);
}

template <typename T>
T get_fixed(std::string_view data, size_t at) {
  T v;
  std::memcpy(&v, data.data() + at, sizeof v);
  return v;
}

// Protocol buffers: field number and wire type (0 varint, 1 fixed64, 2 length and bytes, 5
// fixed32).
void put_varint(std::string& out, uint64_t v) {
  for (; v >= 0x80; v >>= 7) out += static_cast<char>(v | 0x80);
  out += static_cast<char>(v);
}
void put_key(std::string& out, int field, int wire) {
  put_varint(out, static_cast<uint64_t>(field << 3 | wire));
}
void put_bytes(std::string& out, int field, std::string_view bytes) {
  put_key(out, field, 2);
  put_varint(out, bytes.size());
  out += bytes;
}

std::string event_head(double wall_seconds) {
  std::string event;
  put_key(event, 1, 1);  // Event.wall_time
  put_fixed(event, wall_seconds);
  return event;
}

// Event.step of a message as encode_event writes it: right after the wall time. 0 when left out, as
// in the first event.
int64_t step_of(std::string_view event) {
  if (event.size() < 10 || event[9] != (2 << 3)) return 0;
  uint64_t step = 0;
  for (size_t i = 10; i < event.size() && i < 20; ++i) {
    const auto byte = static_cast<unsigned char>(event[i]);
    step |= static_cast<uint64_t>(byte & 0x7F) << (7 * (i - 10));
    if (byte < 0x80) break;
  }
  return static_cast<int64_t>(step);
}

double seconds_since_1970() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

// Bytes of the whole lines up to that step.
uint64_t lines_to_keep(const std::string& path, int64_t keep_through) {
  if (keep_through < 0 || !path_exists(path)) return 0;
  const std::shared_ptr<const MappedFile> file = MappedFile::open(path);
  const std::string_view text = file->text();
  size_t at = 0;
  for (int64_t number = 1; at < text.size(); ++number) {
    const size_t end = text.find('\n', at);
    if (end == text.npos) break;
    int64_t step = 0;
    try {
      step = Json::parse(text.substr(at, end - at)).at("step").as_int();
    } catch (Error& e) {
      throw e.add_context(format("{}: line {}", path, number));
    }
    if (step > keep_through) break;
    at = end + 1;
  }
  return at;
}

// Bytes of the whole records up to that step.
uint64_t records_to_keep(const std::string& path, int64_t keep_through) {
  if (keep_through < 0 || !path_exists(path)) return 0;
  const std::shared_ptr<const MappedFile> file = MappedFile::open(path);
  const std::string_view text = file->text();
  size_t at = 0;
  while (text.size() - at >= kFrameHead) {
    const uint64_t length = get_fixed<uint64_t>(text, at);
    if (get_fixed<uint32_t>(text, at + 8) != masked_crc(text.substr(at, 8))) {
      throw Error(ErrorKind::kBadInput,
                  format("{}: damaged at byte {}: not a TensorBoard event file", path, at));
    }
    if (length > text.size() - at - kFrameHead ||
        text.size() - at - kFrameHead - length < kFrameTail)
      break;
    if (step_of(text.substr(at + kFrameHead, length)) > keep_through) break;
    at += kFrameHead + length + kFrameTail;
  }
  return at;
}

std::string event_path(const std::string& folder) {
  return join_path(folder, "events.out.tfevents.braid");
}

}  // namespace

uint32_t crc32c(std::string_view data) {
  uint32_t c = ~0u;
  for (const char b : data) c = kCrcTable[(c ^ static_cast<unsigned char>(b)) & 0xFF] ^ (c >> 8);
  return ~c;
}

std::string tfrecord(std::string_view payload) {
  std::string out;
  put_fixed(out, static_cast<uint64_t>(payload.size()));
  put_fixed(out, masked_crc(out));
  out += payload;
  put_fixed(out, masked_crc(payload));
  return out;
}

std::string encode_event(double wall_seconds, int64_t step, std::span<const Scalar> scalars) {
  std::string event = event_head(wall_seconds);
  put_key(event, 2, 0);  // Event.step
  put_varint(event, static_cast<uint64_t>(step));
  std::string summary;
  for (const Scalar& s : scalars) {
    std::string value;
    put_bytes(value, 1, s.tag);  // Summary.Value.tag
    put_key(value, 2, 5);        // Summary.Value.simple_value
    put_fixed(value, static_cast<float>(s.value));
    put_bytes(summary, 1, value);
  }
  put_bytes(event, 5, summary);  // Event.summary
  return event;
}

JsonLog::JsonLog(const std::string& path, int64_t keep_through)
    : file_(path, lines_to_keep(path, keep_through)) {}

void JsonLog::write(const Json& line) {
  BRAID_CHECK(line.is_object() && line.find("step") != nullptr);
  file_.write(line.dump() + "\n");
}

EventLog::EventLog(const std::string& folder, int64_t keep_through)
    : file_(event_path(folder), records_to_keep(event_path(folder), keep_through)) {
  if (file_size(event_path(folder)).value_or(0) > 0) return;
  std::string first = event_head(seconds_since_1970());
  put_bytes(first, 3, kFileVersion);  // Event.file_version
  file_.write(tfrecord(first));
}

void EventLog::write(int64_t step, std::span<const Scalar> scalars,
                     std::optional<double> wall_seconds) {
  file_.write(
      tfrecord(encode_event(wall_seconds ? *wall_seconds : seconds_since_1970(), step, scalars)));
}

}  // namespace braid

#pragma once
// What a run writes down while it goes: a JSONL log, and the same numbers as a TensorBoard event
// file. Both outlive kill -9 (each record is written at once) and resuming (what lies past the
// resumed step is cut off first).

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "braid/base/file.h"
#include "braid/base/json.h"

namespace braid {

// One JSON object a line, each with an integer "step" that does not fall.
class JsonLog {
 public:
  // Opens or makes the file and keeps its lines up to step `keep_through`: -1 for a new run. A torn
  // last line goes. Throws Error(kBadInput) for a complete line that is no object with a step,
  // naming it.
  JsonLog(const std::string& path, int64_t keep_through);
  void write(const Json& line);

 private:
  AppendFile file_;
};

struct Scalar {
  std::string_view tag;  // "loss/train"
  double value;
};

// TensorBoard's event file: TFRecord frames of Event messages.
class EventLog {
 public:
  // The file FOLDER/events.out.tfevents.braid, kept up to step `keep_through` as above. A file that
  // is no event file throws Error(kBadInput); a torn last record goes.
  EventLog(const std::string& folder, int64_t keep_through);
  // wall_seconds: since 1970; now when not given.
  void write(int64_t step, std::span<const Scalar> scalars,
             std::optional<double> wall_seconds = {});

 private:
  AppendFile file_;
};

// Encodings, for tests and readers.
uint32_t crc32c(std::string_view data);          // Castagnoli
std::string tfrecord(std::string_view payload);  // framed with lengths and masked checksums
std::string encode_event(double wall_seconds, int64_t step, std::span<const Scalar> scalars);

}  // namespace braid

// Text for training in every form it may have: bytes, gzip, zstd and JSONL, whole or edited. It is
// Error(kBadInput), or data whose windows can be cut. Then a file of the unpacked text's cache is
// edited: the data is the same, from the cache or made anew.

#include <zlib.h>
#include <zstd.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "braid/base/error.h"
#include "braid/testing/fuzz_edit.h"
#include "braid/testing/fuzz_expect.h"
#include "braid/testing/fuzz_folder.h"
#include "braid/text/tokenizer/bpe_trainer.h"
#include "braid/train/data.h"

namespace braid {
namespace {

using testing::FuzzInput;

constexpr std::string_view kLines =
    "{\"text\":\"the first text\"}\n\n{\"n\":1,\"text\":\"caf\\u00e9 \xE2\x82\xAC\"}\n"
    "{\"text\":\"\"}\r\n{\"text\":\"the last of them\"}";

std::string gzip(std::string_view text) {
  std::string out(text.size() + 100, '\0');
  z_stream z{};
  BRAID_CHECK(deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK);
  z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  z.avail_in = static_cast<uInt>(text.size());
  z.next_out = reinterpret_cast<Bytef*>(out.data());
  z.avail_out = static_cast<uInt>(out.size());
  BRAID_CHECK(deflate(&z, Z_FINISH) == Z_STREAM_END);
  out.resize(z.total_out);
  deflateEnd(&z);
  return out;
}

std::string zstd(std::string_view text) {
  std::string out(ZSTD_compressBound(text.size()), '\0');
  out.resize(ZSTD_compress(out.data(), out.size(), text.data(), text.size(), 3));
  return out;
}

struct Source {
  const char* name;
  std::string (*pack)(std::string_view);
};
std::string as_it_is(std::string_view text) { return std::string(text); }
constexpr Source kSources[] = {
    {"text", as_it_is}, {"text.jsonl", as_it_is},  {"text.gz", gzip}, {"text.jsonl.gz", gzip},
    {"text.zst", zstd}, {"text.ndjson.zst", zstd}, {"packed", gzip},  {"also-packed", zstd}};

const DataTokenizer& tokenizer() {
  static const DataTokenizer one = [] {
    BpeTrainOptions o;
    o.vocab = 270;
    BpeTrainer trainer(o);
    trainer.add("the first text and the last of them, the text");
    DataTokenizer t;
    t.files.tokenizer = tokenizer_json(trainer.train([](int64_t) { return true; }));
    t.tokenizer = parse_tokenizer_json(t.files.tokenizer);
    t.digest = "0";
    return t;
  }();
  return one;
}

void put(const std::string& path, std::string_view bytes) {
  remove_file(path);
  AppendFile(path, 0).write(bytes);
}

void use(const TrainData& data) {
  int64_t bytes = 0;
  for (const TrainBatch& b : data.held_out(2, 5)) {
    BRAID_CHECK(b.inputs.size() == b.targets.size() && !b.inputs.empty());
    bytes += b.target_bytes;
  }
  BRAID_CHECK(bytes >= 0);
  BRAID_CHECK(data.resume(data.cursor(3)) == 3);
  data.lossy();
  const TrainBatch b = data.batch(1, 2, 4);
  BRAID_CHECK(b.inputs.size() == 8 && b.targets.size() == 8);
  BRAID_CHECK(b.seq_starts.front() == 0 && b.seq_starts.back() == 8);
}

class World {
 public:
  void run(FuzzInput& input) {
    const size_t what = input.byte();
    const Source& source = kSources[what % std::size(kSources)];
    options_.path = folder_ / source.name;
    options_.allow_binary = (what & 8) != 0;
    options_.tokenizer = (what & 16) != 0 ? tokenizer() : DataTokenizer{};
    options_.held_out_share = 0.3;
    remove_folder(options_.cache_folder);
    if (what < 128) {
      read_source(source, input, (what & 32) != 0);
    } else {
      damage_cache(source, input);
    }
    remove_file(options_.path);
  }

 private:
  void read_source(const Source& source, FuzzInput& input, bool edited) {
    std::string bytes = edited ? source.pack(kLines) : source.pack(input.text(SIZE_MAX));
    while (!input.empty()) testing::edit(input, bytes);
    put(options_.path, bytes);
    try {
      use(TrainData::open(options_));
    } catch (const Error& e) {
      testing::expect(e);
      BRAID_CHECK(std::string_view(e.what()).find(options_.path) != std::string_view::npos);
    }
  }

  void damage_cache(const Source& source, FuzzInput& input) {
    put(options_.path, source.pack(kLines));
    std::string text, cursor;
    {
      const TrainData data = TrainData::open(options_);
      text = std::string(data.train_text()) + std::string(data.held_out_text());
      cursor = data.cursor(0).dump();
    }
    const std::vector<std::string> files = list_files_below(options_.cache_folder);
    const std::string& file = files[input.byte() % files.size()];
    std::string bytes = read_file(file);
    while (!input.empty()) testing::edit(input, bytes);
    put(file, bytes);
    const TrainData again = TrainData::open(options_);
    BRAID_CHECK(std::string(again.train_text()) + std::string(again.held_out_text()) == text);
    BRAID_CHECK(again.cursor(0).dump() == cursor);
    use(again);
  }

  testing::FuzzFolder folder_{"data"};
  DataOptions options_{.path = "", .cache_folder = folder_ / "cache"};
};

}  // namespace
}  // namespace braid

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static braid::World world;
  braid::testing::FuzzInput input(data, size);
  world.run(input);
  return 0;
}

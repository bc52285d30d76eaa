#include "braid/train/data.h"

#include <doctest/doctest.h>
#include <zlib.h>
#include <zstd.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <set>

#include "braid/base/error.h"
#include "braid/base/format.h"
#include "braid/base/rng.h"
#include "braid/testing/scratch_folder.h"
#include "braid/train/trainer.h"

namespace braid {
namespace {

class Folder {
 public:
  std::string in(const std::string& name) const { return folder_ / ("in/" + name); }
  std::string put(const std::string& name, std::string_view text) const {
    make_folders(parent_path(in(name)));
    write_file(in(name), text);
    return in(name);
  }
  TrainData open(const std::string& path,
                 const std::function<void(DataOptions&)>& set = nullptr) const {
    DataOptions o;
    o.path = path;
    o.cache_folder = folder_ / "cache";
    o.seed = 7;
    if (set) set(o);
    return TrainData::open(o);
  }
  std::string error(const std::string& path) const {
    try {
      open(path);
    } catch (const Error& e) {
      CHECK(e.kind() == ErrorKind::kBadInput);
      return e.what();
    }
    return "no error";
  }

 private:
  testing::ScratchFolder folder_{"data"};
};

std::string prose(size_t bytes) {
  const Rng rng(3, "prose");
  std::string s;
  for (uint64_t i = 0; s.size() < bytes; ++i)
    s += format("word{}{}", rng.below(i, 1000), i % 9 == 8 ? "\n" : " ");
  s.resize(bytes);
  return s;
}

std::string gzip(std::string_view text) {
  std::string out(text.size() + 1000, '\0');
  z_stream z{};
  deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
  z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  z.avail_in = static_cast<uInt>(text.size());
  z.next_out = reinterpret_cast<Bytef*>(out.data());
  z.avail_out = static_cast<uInt>(out.size());
  deflate(&z, Z_FINISH);
  out.resize(z.total_out);
  deflateEnd(&z);
  return out;
}

std::string zstd(std::string_view text) {
  std::string out(ZSTD_compressBound(text.size()), '\0');
  out.resize(ZSTD_compress(out.data(), out.size(), text.data(), text.size(), 3));
  return out;
}

std::string all(const TrainData& d) {
  return std::string(d.train_text()) + std::string(d.held_out_text());
}

bool contains(std::string_view text, std::string_view part) { return text.find(part) != text.npos; }

TEST_CASE(
    "plain, gzip, dictzip and zstd give the same bytes, and the cache serves the second time") {
  const Folder f;
  // Sizes around the piece size of the decompressors, and an output that ends exactly with a piece.
  for (const size_t n : {size_t{10}, size_t{1} << 20, (size_t{3} << 20) + 17}) {
    const std::string text = prose(n);
    CHECK(all(f.open(f.put("a.txt", text))) == text);
    CHECK(all(f.open(f.put("a.txt.gz", gzip(text)))) == text);
    CHECK(all(f.open(f.put("a.dz", gzip(text.substr(0, n / 2)) + gzip(text.substr(n / 2))))) ==
          text);
    CHECK(all(f.open(f.put("a.zst", zstd(text)))) == text);
    CHECK(all(f.open(f.put("a.zst", zstd(text.substr(0, n / 2)) + zstd(text.substr(n / 2))))) ==
          text);
    CHECK(all(f.open(f.put("no-extension", gzip(text)))) == text);
    CHECK(f.open(f.in("no-extension")).from_cache());
  }
}

TEST_CASE("folders in the order of their paths, JSONL line by line") {
  const Folder f;
  f.put("d/b.txt", "second ");
  f.put("d/a/x.txt", "first ");
  f.put("d/c.jsonl",
        "{\"text\": \"third \", \"n\": 1}\n\n{\"text\": \"\"}\n{\"text\":\"f\\u00f6urth\"}");
  f.put("d/.git/config", std::string("\0binary", 7));
  f.put("d/empty.txt", "");
  const TrainData d = f.open(f.in("d"));
  CHECK(all(d) == "first second third f\xc3\xb6urth");
  CHECK(d.documents() == 4);
}

TEST_CASE("unusable input is an error that says what is wrong and where") {
  const Folder f;
  const std::string packed = gzip(prose(50000)), packed2 = zstd(prose(50000));
  CHECK(contains(f.error(f.in("none")), "none: no such file or folder"));
  CHECK(contains(f.error(f.put("empty", "")), "empty: there is no text in it"));
  make_folders(f.in("hollow"));
  CHECK(contains(f.error(f.in("hollow")), "hollow: the folder holds no files"));
  CHECK(contains(f.error(f.put("cut.gz", packed.substr(0, 9000))), "ends early, after 9000 bytes"));
  CHECK(
      contains(f.error(f.put("cut.zst", packed2.substr(0, 5000))), "ends early, after 5000 bytes"));
  CHECK(contains(f.error(f.put("text.gz", "just text")), "damaged gzip data"));
  CHECK(contains(f.error(f.put("text.zst", "just text")), "damaged zstd data"));
  std::string wrong = packed;
  wrong[wrong.size() - 6] = static_cast<char>(wrong[wrong.size() - 6] ^ 1);  // of the checksum
  CHECK(contains(f.error(f.put("wrong.gz", wrong)), "damaged gzip data"));
  CHECK(
      contains(f.error(f.put("nul", std::string("abc\0def", 7))), "byte 3 is NUL (--data-binary"));
  std::string latin(1000, 'a');
  for (size_t i = 0; i < 100; ++i) latin[i * 10] = '\xe4';
  CHECK(contains(f.error(f.put("latin", latin)), "10 % of its bytes are not UTF-8"));
  CHECK(contains(f.error(f.put("x.jsonl", "{\"text\":\"a\"}\n{\"txt\":\"b\"}\n")),
                 "line 2 is not an object"));
  CHECK(
      contains(f.error(f.put("y.jsonl", "{\"text\":\"a\"}\n{\"text\":")), "y.jsonl: line 2: json"));
  CHECK(all(f.open(f.in("nul"), [](DataOptions& o) { o.allow_binary = true; })).size() == 7);
  std::string few(1000, 'a');
  few[500] = '\xe4';
  CHECK(all(f.open(f.put("few", few))) == few);
  CHECK_THROWS_WITH_AS(f.open(f.in("few")).batch(0, 1, 5000),
                       doctest::Contains("990 bytes to train on are fewer than one window of 5001"),
                       Error);
}

TEST_CASE("a line of JSONL that is longer than any is to be is refused before it is held") {
  const Folder f;
  // In two members, for a test's memory.
  const std::string half = gzip(std::string((size_t{101} << 20) / 2, 'x'));
  const std::string path = f.put("a.jsonl.gz", half + half);
  CHECK(f.error(path).find(path + ": line 1 is longer than 104857600 bytes") == 0);
}

TEST_CASE("the held-out slice is fixed and begins at a document or a line") {
  const Folder f;
  const std::string text = prose(500000);
  const TrainData d = f.open(f.put("a", text));
  CHECK(d.held_out_text().size() <= 5000);
  CHECK(d.held_out_text().size() >= 2500);
  CHECK(d.train_text().back() == '\n');
  const TrainData capped = f.open(f.in("a"), [](DataOptions& o) { o.held_out_most = 100; });
  CHECK(capped.held_out_text().size() <= 100);
  f.put("d/1", std::string(9920, 'x'));
  f.put("d/2", std::string(80, 'y'));
  CHECK(f.open(f.in("d")).held_out_text() == std::string(80, 'y'));
}

TEST_CASE("a batch is a pure function of seed and step, and an epoch sees every window once") {
  const Folder f;
  const std::string path = f.put("a", prose(20000));
  const TrainData d = f.open(path), again = f.open(path);
  const TrainData other = f.open(path, [](DataOptions& o) { o.seed = 8; });
  const int64_t windows = d.windows_per_epoch(64);
  CHECK(windows == (d.train_bytes() - 1) / 64 - 1);
  for (const int64_t step : {int64_t{0}, int64_t{3}, int64_t{1000}}) {
    CHECK(d.batch(step, 4, 64).inputs == again.batch(step, 4, 64).inputs);
    CHECK(d.batch(step, 4, 64).inputs != other.batch(step, 4, 64).inputs);
  }
  std::set<std::vector<int32_t>> first, second;
  for (int64_t i = 0; i < windows; ++i) {
    const TrainBatch b = d.batch(i, 1, 64);
    CHECK(b.seq_starts == std::vector<int64_t>{0, 64});
    for (size_t t = 0; t + 1 < 64; ++t) CHECK(b.targets[t] == b.inputs[t + 1]);
    first.insert(b.inputs);
    second.insert(d.batch(windows + i, 1, 64).inputs);
  }
  CHECK(first.size() == static_cast<size_t>(windows));
  CHECK(second.size() == static_cast<size_t>(windows));
  CHECK(first != second);  // another offset
  for (const uint64_t n : {1, 2, 3, 17, 1000}) {
    std::set<uint64_t> seen;
    for (uint64_t i = 0; i < n; ++i) seen.insert(shuffled(1, 2, i, n));
    CHECK(seen.size() == n);
    CHECK(*seen.rbegin() == n - 1);
  }
}

TEST_CASE("documents in one row are sequences of their own") {
  const Folder f;
  std::string lines;
  for (int i = 0; i < 100; ++i) {
    lines += format("{{\"text\":\"{}\"}}\n",
                    std::string(static_cast<size_t>(1 + i % 7), static_cast<char>('a' + i % 26)));
  }
  const std::string path = f.put("a.jsonl", lines);
  const TrainData d = f.open(path);
  const TrainBatch b = d.batch(0, 3, 20);
  CHECK(b.inputs.size() == 60);
  CHECK(b.seq_starts.front() == 0);
  CHECK(b.seq_starts.back() == 60);
  size_t next = 0;
  for (int64_t t = 0; t < 60; ++t) {
    const size_t i = static_cast<size_t>(t);
    const bool starts = b.seq_starts[next] == t;
    next += starts;
    // Neighbouring documents have other letters: a new letter is a new document.
    if (t % 20 != 0) CHECK(starts == (b.inputs[i] != b.inputs[i - 1]));
    if (t % 20 != 19) CHECK(b.targets[i] == (b.inputs[i] == b.inputs[i + 1] ? b.inputs[i] : -100));
  }
  const TrainBatch joined =
      f.open(path, [](DataOptions& o) { o.split_documents = false; }).batch(0, 3, 20);
  CHECK(joined.seq_starts == std::vector<int64_t>{0, 20, 40, 60});
  CHECK(joined.inputs == b.inputs);
}

TEST_CASE("held-out windows cover the slice once") {
  const Folder f;
  const TrainData d = f.open(f.put("a", prose(200000)));
  std::string seen(1, d.held_out_text()[0]);
  size_t batches = 0;
  for (const TrainBatch& b : d.held_out(3, 50)) {
    for (const int32_t t : b.targets) seen += static_cast<char>(t);
    CHECK(b.seq_starts.back() == static_cast<int64_t>(b.inputs.size()));
    ++batches;
  }
  CHECK(seen == d.held_out_text());
  CHECK(batches == (d.held_out_text().size() - 1 + 149) / 150);
  CHECK(d.held_out(1, 50, 120).size() == 3);
  CHECK(d.held_out(1, 50, 120).back().inputs.size() == 20);
}

TEST_CASE("a cursor continues, and refuses other data") {
  const Folder f;
  const std::string path = f.put("a", prose(20000));
  const TrainData d = f.open(path);
  const Json saved = Json::parse(d.cursor(123).dump());
  CHECK(f.open(path).resume(saved) == 123);
  const TrainData seeded = f.open(path, [](DataOptions& o) { o.seed = 9; });
  CHECK_THROWS_WITH_AS(seeded.resume(saved), doctest::Contains("seed 7, but now it is 9"), Error);
  f.put("a", prose(20000) + "!");
  CHECK_THROWS_AS(f.open(path).resume(saved), Error);
  std::string changed = prose(20000);
  changed[0] = 'X';
  f.put("a", changed);
  CHECK_THROWS_WITH_AS(f.open(path).resume(saved), doctest::Contains("digest"), Error);
}

// "ab" is a token, and so is each of its bytes, the blank and the end of line.
DataTokenizer pair_tokenizer() {
  DataTokenizer t;
  t.tokenizer = parse_tokenizer_json(
      R"({"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false,"use_regex":false},
          "decoder":{"type":"ByteLevel"},"added_tokens":[{"id":5,"content":"<e>","special":true}],
          "model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2,"\u0120":3,"\u010a":4},
                   "merges":[["a","b"]]}})");
  t.digest = "pair";
  return t;
}

TEST_CASE("documents as tokens: ids, targets and the bytes they stand for") {
  const Folder f;
  f.put("d/1.txt", "ab a");
  f.put("d/2.txt", "abab\n");
  DataOptions o;
  o.path = f.in("d");
  o.cache_folder = f.in("cache");
  o.held_out_share = 1.0;
  o.tokenizer = pair_tokenizer();
  const auto check = [&](const TrainData& d) {
    const std::vector<TrainBatch> all = d.held_out(4, 100);
    REQUIRE(all.size() == 1);
    CHECK(all[0].inputs == std::vector<int32_t>{2, 3, 0, 2, 2});
    CHECK(all[0].targets == std::vector<int32_t>{3, 0, -100, 2, 4});
    CHECK(all[0].seq_starts == std::vector<int64_t>{0, 3, 5});
    CHECK(all[0].target_bytes == 1 + 1 + 2 + 1);
    // The same however they are cut into windows.
    int64_t bytes = 0;
    for (const TrainBatch& b : d.held_out(1, 2)) bytes += b.target_bytes;
    CHECK(bytes == 5);
  };
  check(TrainData::open(o));
  const TrainData again = TrainData::open(o);
  CHECK(again.from_cache());
  check(again);
  CHECK(token_bytes(*o.tokenizer.tokenizer) == std::vector<int32_t>{1, 1, 2, 1, 1, 0});
}

TEST_CASE("bits per byte and nats per token of a hand-made case") {
  // Three targets of 8 bits each, for 12 bytes of text.
  const Evaluation e{3 * 8 * std::log(2.0), 3, 12};
  CHECK(e.bits_per_byte() == doctest::Approx(2.0).epsilon(1e-15));
  CHECK(e.nats_per_token() == doctest::Approx(8 * std::log(2.0)).epsilon(1e-15));
  CHECK(std::isnan(Evaluation{}.bits_per_byte()));
}

TEST_CASE("tokens never reach across the held-out slice, and other tokens are other data") {
  const Folder f;
  std::string text;
  for (int i = 0; i < 3000; ++i) text += i % 3 == 0 ? "ab a" : i % 7 == 0 ? "\n" : "ba ";
  DataOptions o;
  o.path = f.put("t.txt", text);
  o.cache_folder = f.in("cache");
  o.tokenizer = pair_tokenizer();
  const TrainData d = TrainData::open(o);
  const auto ids = [&](std::string_view part) {
    return std::ssize(o.tokenizer.tokenizer->encode(part));
  };
  CHECK(d.train_tokens() == ids(d.train_text()));
  int64_t held_out = 1;  // the first is no target
  for (const TrainBatch& b : d.held_out(2, 64))
    for (const int32_t t : b.targets) held_out += t >= 0 ? 1 : 0;
  CHECK(held_out == ids(d.held_out_text()));
  CHECK(d.resume(d.cursor(7)) == 7);
  o.tokenizer.digest = "other";
  CHECK_THROWS_AS(TrainData::open(o).resume(d.cursor(7)), Error);
  o.tokenizer = {};
  CHECK_THROWS_AS(TrainData::open(o).resume(d.cursor(7)), Error);
}

TEST_CASE("tokens that leave text out are told, and ids belong to their text") {
  const Folder f;
  DataOptions o;
  o.path = f.put("t.txt", "ab a" + std::string(200, 'b') + "\n");
  o.cache_folder = f.in("cache");
  o.tokenizer = pair_tokenizer();
  CHECK(TrainData::open(o).lossy().empty());
  o.path = f.put("u.txt", "ab a" + std::string(196, 'z') + "\n");  // no token has a z
  CHECK(TrainData::open(o).lossy().find("stand for 2.49 %") != std::string::npos);

  const auto bytes = [](const TokenCache& c) { return std::ssize(c.ids()); };
  const std::string stem = f.in("cache/ids");
  const std::vector<int64_t> one = {1}, two = {2};
  CHECK(bytes(open_token_cache(o.tokenizer, "a", "first", one, 1, stem)) == 1);
  CHECK(bytes(open_token_cache(o.tokenizer, "ba", "second", two, 2, stem)) == 2);
}

}  // namespace
}  // namespace braid

// Learns a vocabulary from text and writes it as a Hugging Face folder.

#include <cstdio>

#include "braid/base/clock.h"
#include "braid/base/error.h"
#include "braid/base/file.h"
#include "braid/base/format.h"
#include "braid/base/json.h"
#include "braid/cli/command.h"
#include "braid/cli/output_path.h"
#include "braid/cli/progress.h"
#include "braid/text/tokenizer/bpe_trainer.h"
#include "braid/text/tokenizer/tokenizer.h"
#include "braid/train/data_source.h"

namespace braid {
namespace {

struct Flags {
  std::vector<std::string> files;
  std::string out;
  BpeTrainOptions options;
  bool allow_binary = false;
  bool json = false;
};

void stop_if_interrupted() {
  if (interrupted()) throw Error(ErrorKind::kInterrupted, "stopped; nothing was written");
}

void read_all(const Flags& f, BpeTrainer& trainer, ProgressLine& line) {
  std::vector<SourceFile> sources;
  for (const std::string& path : f.files) {
    const std::vector<SourceFile> more = list_sources(path);
    sources.insert(sources.end(), more.begin(), more.end());
  }
  const double start = now_seconds();
  for (size_t i = 0; i < sources.size(); ++i) {
    const auto text = [&](std::string_view part) {
      stop_if_interrupted();
      trainer.add(part);
      line.show(format("reading: file {} of {}, {} of text, {} words, {}", i + 1, sources.size(),
                       format_bytes(static_cast<double>(trainer.bytes())),
                       format_count(static_cast<double>(trainer.distinct_words())),
                       format_seconds(now_seconds() - start)));
    };
    const auto end = [&] { trainer.end_document(); };
    read_documents(sources[i].path, f.allow_binary, {text, end});
  }
  trainer.end_document();
}

int run(Flags& f) {
  watch_interrupt();
  BpeTrainer trainer(f.options);
  for (const char* name : {"tokenizer.json", "tokenizer_config.json"}) {
    const std::string path = join_path(f.out, name);
    if (path_exists(path)) {
      throw Error(ErrorKind::kUsage, format("{} exists; remove it or give another -o", path));
    }
  }
  require_output_folder("--out", f.out);
  ProgressLine line;
  const double start = now_seconds();
  read_all(f, trainer, line);
  if (trainer.bytes() == 0)
    throw Error(ErrorKind::kBadInput,
                format("{}{}: there is no text to learn from", f.files[0],
                       f.files.size() > 1 ? format(" and {} more", f.files.size() - 1) : ""));
  const double read = now_seconds();
  const auto total = static_cast<double>(f.options.vocab);
  const TrainedBpe trained = trainer.train([&](int64_t tokens) {
    stop_if_interrupted();
    if (tokens % 64 == 0) {
      const double done = static_cast<double>(tokens), spent = now_seconds() - read;
      const double first = 256.0 + static_cast<double>(f.options.special.size());
      const double left = done > first ? spent * (total - done) / (done - first) : 0;
      line.show(format("merging: {} of {} tokens, {} left", tokens, f.options.vocab,
                       format_seconds(left)));
    }
    return true;
  });
  line.finish();
  make_folders(f.out);
  const std::string json = tokenizer_json(trained);
  write_file(join_path(f.out, "tokenizer.json"), json);
  write_file(join_path(f.out, "tokenizer_config.json"), tokenizer_config_json(trained));
  parse_tokenizer_json(json);  // what was written can be read
  const double seconds = now_seconds() - start;
  if (f.json) {
    std::puts(Json::object({{"out", f.out},
                            {"tokens", std::ssize(trained.tokens)},
                            {"merges", std::ssize(trained.merges)},
                            {"bytes", trainer.bytes()},
                            {"words", trainer.distinct_words()},
                            {"seconds", seconds}})
                  .dump()
                  .c_str());
    return 0;
  }
  std::printf("%s: %zd tokens, %zd merges from %s of text (%s words) in %s\n",
              join_path(f.out, "tokenizer.json").c_str(), std::ssize(trained.tokens),
              std::ssize(trained.merges),
              format_bytes(static_cast<double>(trainer.bytes())).c_str(),
              format_count(static_cast<double>(trainer.distinct_words())).c_str(),
              format_seconds(seconds).c_str());
  if (std::ssize(trained.tokens) < f.options.vocab) {
    std::fprintf(stderr, "braid: no pair occurs %lld times any more: %zd tokens instead of %lld\n",
                 static_cast<long long>(f.options.min_count), std::ssize(trained.tokens),
                 static_cast<long long>(f.options.vocab));
  }
  return 0;
}

}  // namespace

std::function<int()> setup_train_tokenizer(CLI::App& app) {
  auto f = std::make_shared<Flags>();
  app.add_option("files", f->files, "Files or folders: text, .gz, .dz, .zst, .jsonl")->required();
  app.add_option("-o,--out", f->out, "Folder for tokenizer.json and tokenizer_config.json")
      ->required();
  app.add_option("--vocab", f->options.vocab, "Tokens, with special ones and the 256 bytes")
      ->capture_default_str();
  app.add_option("--cut", f->options.cut,
                 "How text is cut before merging: gpt2, llama3, qwen, o200k")
      ->capture_default_str();
  app.add_option("--special", f->options.special,
                 "A special token (may be repeated); the first ends a text")
      ->allow_extra_args(false);
  app.add_option("--min-count", f->options.min_count, "Rarer pairs are not merged")
      ->capture_default_str();
  app.add_flag("--data-binary,--allow-binary", f->allow_binary, "Accept files that are not text");
  app.add_flag("--json", f->json, "Result as JSON");
  app.footer(
      "Example: braid train-tokenizer --vocab 8192 -o tok --special \"<|endoftext|>\" book.txt");
  return [f] { return run(*f); };
}

}  // namespace braid

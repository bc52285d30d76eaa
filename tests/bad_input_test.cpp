// What people and disks do wrong: exit code, and one line that names what, where and what would be
// right. Nothing that was written before is lost.

#include <sys/mount.h>
#include <sys/stat.h>

#include <algorithm>

#include "braid/base/json.h"
#include "braid/state/state_file.h"
#include "tests/braid_process.h"

namespace braid::e2e {
namespace {

struct Case {
  const char* name;
  Args args;
  int code;
  std::vector<std::string> words;  // all of them are in the message
  size_t more = 0;                 // lines that may follow it
};

// `more` lines may follow the message: a stack expression and the mark below it.
void check_refused(const Outcome& o, int code, const std::vector<std::string>& words,
                   size_t more = 0) {
  INFO(o.all());
  CHECK(o.code == code);
  const std::vector<std::string> err = lines(o.err);
  REQUIRE(err.size() >= 1);
  CHECK(err.size() <= 1 + more);
  CHECK(err[0].starts_with("braid: "));
  CHECK(err[0].find("internal error") == std::string::npos);
  for (const std::string& word : words) {
    INFO(word);
    CHECK(o.err.find(word) != std::string::npos);
  }
}

Args train(const std::string& data, const std::string& out, const Args& more = {}) {
  return Args{"train",
              "--stack",
              "kda, swiglu, gqa, swiglu",
              "--width",
              "32",
              "--batch",
              "2",
              "--seq-len",
              "32",
              "--steps",
              "4",
              "--save-every",
              "2",
              "--eval-tokens",
              "64",
              "-t",
              "1",
              "--data",
              data,
              "--out",
              out} +
         more;
}

// A trained run that tests copy and break.
struct World {
  Folder folder;
  std::string text = folder / "text.txt";
  std::string run = folder / "run";
  World() {
    write_file(text, some_text(6000));
    const Outcome o = braid(train(text, run));
    INFO(o.all());
    REQUIRE(o.code == 0);
  }
};

World& world() {
  static World w;
  return w;
}

void copy_folder(const std::string& from, const std::string& to) {
  for (const std::string& file : list_files_below(from)) {
    const std::string target = to + file.substr(from.size());
    make_folders(parent_path(target));
    write_file(target, read_file(file));
  }
}

// A run folder with the checkpoints of world().run, or only its newest.
void copy_run(const std::string& to, bool newest_only) {
  const std::string& run = world().run;
  for (const std::string& step : list_folder(join_path(run, "checkpoints"))) {
    if (newest_only && step != "step-4") continue;
    copy_folder(join_path(run, "checkpoints/" + step), join_path(to, "checkpoints/" + step));
  }
  make_link("checkpoints/step-4", join_path(to, "latest"));
}

}  // namespace

TEST_CASE("command lines") {
  const Folder f;
  const std::string out = f / "out", text = world().text, run = world().run;
  const std::vector<Case> cases = {
      {"no command", {}, 2, {"no command", "braid --help"}},
      {"misspelt command", {"trian"}, 2, {"trian", "did you mean train?"}},
      {"misspelt flag",
       train(text, out, {"--stpes", "3"}),
       2,
       {"--stpes", "did you mean --steps?"}},
      {"misspelt flag before a required one", {"train", "--otu", "x"}, 2, {"--otu", "--out"}},
      {"no folder", {"train", "--data", text}, 2, {"--out", "required"}},
      {"no data", {"train", "--stack", "gqa", "--out", out, "--steps", "1"}, 2, {"--data"}},
      {"no model", {"train", "--data", text, "--out", out, "--steps", "1"}, 2, {"--stack"}},
      {"no budget",
       {"train", "--stack", "gqa", "--data", text, "--out", out},
       2,
       {"--steps", "--tokens", "--time"}},
      {"bad time", train(text, out, {"--time", "3x"}), 2, {"--time", "3x", "180s"}},
      {"endless time", train(text, out, {"--time", "1e300s"}), 2, {"--time", "1e300s", "180s"}},
      {"a word for a number", {"plan", "gqa", "--norm-eps", "x"}, 2, {"--norm-eps", "x"}},
      {"negative steps", {"train", "--out", out, "--steps", "-1"}, 2, {"--steps", "-1", "range"}},
      {"a negative sample", {"report", "-m", run, "-n", "-4"}, 2, {"--max-tokens", "-4", "range"}},
      {"no context", {"report", "-m", run, "--contexts", "64,0"}, 2, {"--contexts", "0", "range"}},
      {"compression beside another model",
       {"eval", "-m", run, "--data", text, "--against", run, "--compare"},
       2,
       {"--compare is for bpb", "--against"}},
      {"memory of two models",  // enough for each alone
       {"eval", "-m", run, "--data", text, "--against", run, "--contexts", "512", "-t", "1",
        "--mem", "2300K"},
       4,
       {"--mem 2300K allows 2.2 MiB", "512 tokens with both models", "weights of the reference"}},
      {"no pattern", train(text, out, {"--freeze", ""}), 2, {"--freeze", "names nothing"}},
      {"no pattern either", train(text, out, {"--train-only", ""}), 2, {"--train-only"}},
      {"a word for a range", {"plan", "gqa", "--width", "x"}, 2, {"--width is \"x\"", "1 to"}},
      {"a context that no memory holds",
       {"plan", "gqa", "--contexts", "1000000000000"},
       2,
       {"a context of 1000000000000 tokens", "134217728"}},
      {"no context to plan", {"plan", "gqa", "--contexts", "0"}, 2, {"a context of 0 tokens"}},
      {"a step that no memory holds",
       {"plan", "gqa", "--batch", "1000000", "--seq-len", "1000000"},
       2,
       {"a training step of 1000000000000 tokens", "134217728"}},
      {"a million layers", {"plan", "1000000 x (gqa)"}, 2, {"1000000", "10000", "sub-layers"}, 2},
      {"a thousand thousand",
       {"plan", "1000 x (1000 x (gqa))"},
       2,
       {"more than 10000 sub-layers", "unrolled"},
       2},
      {"zero width", {"plan", "gqa", "--width", "0"}, 2, {"--width", "0", "1 to"}},
      {"bad threads", {"plan", "gqa", "-t", "-2"}, 2, {"--threads", "-2", "0 to 1024"}},
      {"bad memory", {"plan", "gqa", "--mem", "lots"}, 2, {"--mem", "lots", "4G"}},
      {"bad schedule", train(text, out, {"--schedule", "linear"}), 2, {"linear", "cosine"}},
      {"bad optimizer", train(text, out, {"--optimizer", "sgd"}), 2, {"sgd", "muon", "adamw"}},
      {"learning rate", train(text, out, {"--lr", "-1"}), 2, {"lr", "-1"}},
      {"heads that do not divide",
       {"plan", "gqa", "--width", "48", "--heads", "5"},
       2,
       {"5 heads", "width 48"}},
      {"unknown option of a layer", {"plan", "kda{foo=1}"}, 2, {"kda", "foo", "head_dim"}},
      {"another vocabulary", train(text, out, {"--vocab", "300"}), 2, {"300", "256"}},
      {"no prompt", {"generate", "-m", run}, 2, {"prompt", "empty"}},
      {"temperature", {"generate", "-m", run, "-p", "x", "--temp", "-1"}, 2, {"--temp", "-1"}},
      {"no run", {"generate", "-m", f / "none", "-p", "x"}, 3, {"none", "no such"}},
      {"no state",
       {"generate", "-m", run, "-p", "x", "--load-state", f / "none"},
       3,
       {"none", "No such file"}},
      {"no suite", {"bench", "speed"}, 2, {"speed", "kernels", "decode"}},
      {"memory of training",
       train(text, out, {"--mem", "100K"}),
       4,
       {"--mem 100K allows 100 KiB", "activations", "optimizer states", "MiB", "2 x 32"}},
      {"memory of a plan",
       {"plan", "gqa", "--mem", "1M"},
       4,
       {"--mem 1M allows 1.0 MiB", "needs", "gradients"}},
      {"neither file nor layer", {"plan", "nowhere"}, 2, {"no file or folder \"nowhere\""}},
      {"memory of generating",
       {"generate", "-m", run, "-p", "x", "--mem", "10K"},
       4,
       {"--mem 10K allows 10.0 KiB", "weights ", "state ", "scratch "}},
      {"another stack", train(text, run, {"--width", "64"}), 2, {"--width"}},
  };
  for (const Case& c : cases) {
    INFO(c.name);
    check_refused(braid(c.args), c.code, c.words, c.more);
  }
  CHECK_FALSE(path_exists(out));
}

// A GGUF file of some keys and no tensors, the part `no` of `count`.
std::string gguf_bytes(uint32_t no, uint32_t count) {
  std::string out = "GGUF";
  const auto put = [&](auto v) { out.append(reinterpret_cast<const char*>(&v), sizeof v); };
  put(uint32_t{3});
  put(uint64_t{0});
  put(uint64_t{2});
  for (const auto& [key, value] :
       {std::pair<std::string, uint32_t>{"split.no", no}, {"split.count", count}}) {
    put(uint64_t{key.size()});
    out += key;
    put(uint32_t{4});
    put(value);
  }
  return out;
}

TEST_CASE("a path that holds no model says what stands there and what to do") {
  const Folder f;
  write_file(f / "page.gguf", "<!DOCTYPE html>\n");
  write_file(f / "empty.gguf", "");
  write_file(f / "cut.gguf", gguf_bytes(0, 1).substr(0, 50));
  write_file(f / "notes.txt", "hello");
  for (const char* folder : {"dir.gguf", "one", "several", "parts", "alone", "shards", "both"})
    make_folders(f / folder);
  write_file(f / "one/model.gguf", gguf_bytes(0, 1));
  write_file(f / "several/a.gguf", gguf_bytes(0, 1));
  write_file(f / "several/b.gguf", gguf_bytes(0, 1));
  write_file(f / "parts/m-00001-of-00003.gguf", gguf_bytes(0, 3));
  write_file(f / "parts/m-00003-of-00003.gguf", gguf_bytes(2, 3));
  write_file(f / "alone/model.safetensors", "x");
  const std::string config = R"({"model_type":"llama","hidden_size":32,"num_hidden_layers":1,
      "intermediate_size":64,"num_attention_heads":2,"vocab_size":64})";
  write_file(f / "shards/config.json", config);
  write_file(f / "shards/model.safetensors.index.json",
             R"({"weight_map":{"model.norm.weight":"model-00001-of-00002.safetensors"}})");
  write_file(f / "both/config.json", config);
  write_file(f / "both/q4.gguf", gguf_bytes(0, 1));
  const std::pair<const char*, std::vector<std::string>> kCases[] = {
      {"page.gguf", {"page.gguf", "begins with \"<!DOCTYPE html>", "download"}},
      {"empty.gguf", {"empty.gguf", "is empty"}},
      {"cut.gguf", {"cut.gguf", "cut short"}},
      {"notes.txt", {"notes.txt", "neither a folder nor a GGUF file"}},
      {"dir.gguf", {"dir.gguf", "no model", "config.json"}},
      {"one", {"no config.json", "-m " + f / "one/model.gguf"}},
      {"several", {"no config.json", "-m " + f / "several/a.gguf", "a.gguf, b.gguf"}},
      {"parts", {"-m " + f / "parts/m-00001-of-00003.gguf"}},
      {"parts/m-00001-of-00003.gguf", {"m-00002-of-00003.gguf", "part 2 of 3 is missing"}},
      {"alone", {"model.safetensors", "no config.json"}},
      {"alone/model.safetensors", {"name the folder", "-m " + f / "alone"}},
      {"shards", {"index.json", "model-00001-of-00002.safetensors", "not there"}},
      {"both", {"no safetensors", "-m " + f / "both/q4.gguf"}}};
  for (const auto& [path, words] : kCases) {
    CAPTURE(path);
    check_refused(braid({"generate", "-m", f / path, "-p", "x"}), 3, words);
    check_refused(braid({"convert", "-m", f / path, "-o", f / "out", "--to", "braid"}), 3, words);
    // What config.json says can be planned without weights.
    if (path != std::string("shards") && path != std::string("both"))
      check_refused(braid({"plan", "-m", f / path}), 3, words);
  }
}

TEST_CASE("a value from the environment is named by its variable") {
  const auto with = [](const std::string& variable, const Args& args) {
    Setting setup;
    setup.environment = {variable};
    return braid(args, setup);
  };
  check_refused(with("BRAID_WIDTH=abc", {"plan", "gqa"}), 2,
                {"BRAID_WIDTH", "--width", "\"abc\"", "1 to 1048576"});
  check_refused(with("BRAID_NORM_EPS=abc", {"plan", "gqa"}), 2,
                {"BRAID_NORM_EPS", "--norm-eps", "\"abc\"", "a number"});
  check_refused(with("BRAID_WEIGHTS=q3", {"plan", "gqa"}), 2, {"BRAID_WEIGHTS", "q3", "q4min"});
  check_refused(with("BRAID_JSON=maybe", {"plan", "gqa"}), 2,
                {"BRAID_JSON", "--json", "\"maybe\"", "true or false"});
  // Those that no flag has.
  check_refused(with("BRAID_ATTENTION=bf16", {"plan", "gqa"}), 2,
                {"BRAID_ATTENTION is \"bf16\"", "f32 or auto"});
  check_refused(with("BRAID_AMX=no", {"plan", "gqa"}), 2, {"BRAID_AMX is \"no\"", "0 or 1"});
  for (const char* fine : {"BRAID_ATTENTION=f32", "BRAID_ATTENTION=auto", "BRAID_AMX=0",
                           "BRAID_AMX=1", "BRAID_AMX=", "BRAID_JSON=true", "BRAID_JSON=0"}) {
    CAPTURE(fine);
    CHECK(with(fine, {"plan", "gqa", "--parameters"}).code == 0);
  }
  const Outcome typed = with("BRAID_WIDTH=abc", {"plan", "gqa", "--width=x"});
  check_refused(typed, 2, {"--width is \"x\""});
  CHECK(typed.err.find("BRAID_WIDTH") == std::string::npos);
}

TEST_CASE("stack expressions show the place") {
  const std::vector<Case> cases = {
      {"unknown layer", {"plan", "kdaa, swiglu"}, 2, {"kdaa", "did you mean 'kda'?", "\n  ^"}},
      {"open bracket", {"plan", "3 x (kda"}, 2, {"never closed", "\n      ^"}},
  };
  for (const Case& c : cases) {
    INFO(c.name);
    check_refused(braid(c.args), c.code, c.words, 2);
  }
}

TEST_CASE("a folder that holds another run") {
  const std::string &text = world().text, &run = world().run;
  const auto begun = [&](const Args& more) {
    return braid(Args{"train", "--data", text, "--out", run, "--steps", "6"} + more);
  };
  check_refused(begun({"--stack", "gqa"}), 2, {"another model", "kda", "\"gqa\"", "--out"});
  check_refused(begun({"--width", "64"}), 2, {"another model", "width = 32", "width = 64"});
  check_refused(begun({"--seed", "7"}), 2, {"seed = 0", "seed = 7"});
  check_refused(begun({"--batch", "3"}), 2, {"--batch 2", "3"});
  check_refused(begun({"--optimizer", "adamw"}), 2, {"--optimizer", "muon", "adamw"});
  const Folder f;
  write_file(f / "other.txt", some_text(9000));
  check_refused(braid({"train", "--data", f / "other.txt", "--out", run, "--steps", "6"}), 3,
                {"other.txt", "resume with the same data"});
}

TEST_CASE("a folder that holds something else is no place for a run") {
  const Folder f;
  make_folders(f / "hf");
  write_file(f / "hf/config.json", R"({"model_type":"qwen3"})");
  make_folders(f / "mine");
  write_file(f / "mine/notes.txt", "mine");
  for (const auto& [folder, name] : {std::pair{"hf", "config.json"}, {"mine", "notes.txt"}}) {
    CAPTURE(folder);
    check_refused(braid(train(f / "no-such-data", f / folder)), 2,
                  {folder, "is not empty", name, "holds no run", "--out"});
    CHECK(list_folder(f / folder).size() == 1);
  }
  const std::string step = world().run + "/checkpoints/step-4";
  check_refused(braid(train(world().text, step)), 2, {"step-4 is not empty", "holds no run"});
  make_folders(f / "killed/checkpoints/.unfinished");  // before its first checkpoint
  write_file(f / "killed/log.jsonl", "");
  write_file(f / "killed/.hidden", "");
  CHECK(braid(train(world().text, f / "killed")).code == 0);
  check_refused(braid({"train", "--out", f / "nosuch"}), 2,
                {"nosuch holds no run to go on from", "--stack", "--model", "--init-from"});
  make_folders(f / "empty");
  check_refused(braid({"train", "--out", f / "empty"}), 2, {"empty holds no run to go on from"});
}

TEST_CASE("data") {
  const Folder f;
  write_file(f / "empty", "");
  write_file(f / "binary", std::string("text\0text", 9) + std::string(100, '\1'));
  write_file(f / "cut.txt.gz", std::string("\x1f\x8b\x08\0\0\0\0\0\0\3", 10));
  write_file(f / "not.gz", some_text(100));
  write_file(f / "bad.jsonl", "{\"text\": \"fine\"}\n{\"words\": 1}\n");
  write_file(f / "short.txt", "too short");
  make_folders(f / "nothing");
  const std::vector<Case> cases = {
      {"none", {"missing.txt"}, 3, {"missing.txt", "no such file"}},
      {"empty", {f / "empty"}, 3, {"empty", "no text"}},
      {"binary", {f / "binary"}, 3, {"binary", "byte 4 is NUL", "--data-binary"}},
      {"cut gzip", {f / "cut.txt.gz"}, 3, {"cut.txt.gz", "ends early", "10 bytes"}},
      {"no gzip", {f / "not.gz"}, 3, {"not.gz", "gzip"}},
      {"jsonl", {f / "bad.jsonl"}, 3, {"bad.jsonl", "line 2", "\"text\""}},
      {"short", {f / "short.txt"}, 3, {"short.txt", "9 bytes", "33", "--seq-len 32"}},
      {"empty folder", {f / "nothing"}, 3, {"nothing", "no files"}},
  };
  for (const Case& c : cases) {
    INFO(c.name);
    check_refused(braid(train(c.args[0], f / "out")), c.code, c.words);
  }
}

TEST_CASE("a run that is refused leaves no folder behind") {
  const Folder f;
  write_file(f / "binary", std::string("text\0text", 9) + std::string(100, '\1'));
  const std::string out = f / "out";
  check_refused(braid(train(f / "binary", out)), 3, {"--data-binary"});
  CHECK_FALSE(path_exists(out));
  check_refused(braid(train(world().text, out, {"--freeze", "layers.*.kad.*"})), 2,
                {"layers.*.kad.*", "near are layers.0.kda.", "plan --parameters"});
  CHECK_FALSE(path_exists(out));
  check_refused(braid(train(world().text, out, {"--init-from", f / "missing"})), 3, {"missing"});
  CHECK_FALSE(path_exists(out));
  write_file(f / "short", "a few words");
  check_refused(braid(train(f / "short", out)), 3, {"fewer than one window"});
  CHECK_FALSE(path_exists(out));
  make_folders(out);  // which somebody made before stays
  check_refused(braid(train(f / "binary", out)), 3, {"--data-binary"});
  CHECK(path_exists(out));
}

TEST_CASE("report says what stands in place of a run") {
  const Folder f;
  make_folders(f / "hf");
  write_file(f / "hf/config.json", R"({"model_type":"qwen3"})");
  make_folders(f / "versus");
  write_file(f / "versus/comparison.json", "{}");
  check_refused(braid({"report", "-m", f / "hf"}), 2, {"hf", "a Hugging Face folder"});
  check_refused(braid({"report", "-m", f / "versus"}), 2, {"versus", "comparison", "compare.html"});
}

TEST_CASE("--mem counts the model that weights are taken from") {
  const Folder f;
  const std::string out = f / "out", big = f / "big";
  Args wide = train(world().text, big);
  *std::find(wide.begin(), wide.end(), "32") = "256";
  REQUIRE(braid(wide).code == 0);
  const Args small = train(world().text, out, {"--init-from", big, "--mem", "4M"});
  check_refused(braid(small), 4, {"--mem 4M allows 4.0 MiB", "the model of --init-from", "MiB"});
  CHECK_FALSE(path_exists(out));
}

TEST_CASE(
    "a checkpoint cut anywhere is refused by generate, and by train when it is the only one") {
  for (const char* file : {"weights.safetensors", "model.toml", "manifest.json",
                           "train/optimizer.safetensors", "train/state.json"}) {
    const bool inference = !std::string_view(file).starts_with("train/");
    for (const double share : {0.0, 0.01, 0.5, 0.999}) {
      INFO(file << " cut to " << share);
      const Folder f;
      copy_run(f / "run", true);
      const std::string path = join_path(f / "run", join_path("checkpoints/step-4", file));
      std::string bytes = read_file(path);
      bytes.resize(static_cast<size_t>(share * static_cast<double>(bytes.size() - 1)));
      write_file(path, bytes);
      const Args resume = {"train", "--data", world().text, "--out", f / "run", "--steps", "6"};
      check_refused(braid(resume), 3, {"step-4"});
      if (inference) check_refused(braid({"generate", "-m", f / "run", "-p", "x"}), 3, {"run"});
    }
  }
}

TEST_CASE("a checkpoint of another version") {
  const Folder f;
  copy_run(f / "run", false);
  const std::string path = f / "run/checkpoints/step-4/manifest.json";
  Json manifest = Json::parse(read_file(path));
  manifest.set("braid_checkpoint_version", 99);
  write_file(path, manifest.dump());
  const Args resume = {"train", "--data", world().text, "--out", f / "run", "--steps", "6"};
  check_refused(braid(resume), 3, {"step-4", "version 99", "reads version 1"});
  check_refused(braid({"generate", "-m", f / "run", "-p", "x"}), 3, {"version 99"});
}

TEST_CASE("a damaged state file") {
  const Folder f;
  const std::string state = f / "state";
  REQUIRE(
      braid({"generate", "-m", world().run, "-p", "The", "-n", "4", "--save-state", state}).code ==
      0);
  const std::string whole = read_file(state);
  const auto load = [&] {
    return braid({"generate", "-m", world().run, "-p", "x", "--load-state", state});
  };
  for (const size_t cut : {size_t{0}, size_t{7}, whole.size() / 2, whole.size() - 1}) {
    write_file(state, whole.substr(0, cut));
    check_refused(load(), 3, {state});
  }
  std::string flipped = whole;
  flipped[whole.size() - 5] ^= 1;
  write_file(state, flipped);
  check_refused(load(), 3, {state, "damaged"});
}

// Whole and with the digest of its content, but of parts that do not belong together.
TEST_CASE("a state file whose parts disagree") {
  const Folder f;
  const std::string state = f / "state";
  REQUIRE(
      braid({"generate", "-m", world().run, "-p", "The", "-n", "4", "--save-state", state}).code ==
      0);
  const Context ctx;
  const auto refused = [&](const std::string& name, int64_t count, float value,
                           const std::vector<std::string>& words) {
    INFO(name, " ", count);
    const SafetensorsFile file = SafetensorsFile::open(state);
    StateFileWriter out;
    for (const auto& [key, text] : file.metadata()) out.text(key, text);
    for (const SafetensorsEntry& e : file.entries()) {
      if (e.name != name) out.tensor(e.name, file.tensor(e.name));
    }
    out.integer(name + ".count", count);
    Tensor other = Tensor::empty(ctx, {count}, name == "tokens" ? DType::kI32 : DType::kF32);
    for (int64_t i = 0; i < count; ++i) {
      if (name == "tokens")
        other.data<int32_t>()[i] = static_cast<int32_t>(value);
      else
        other.data()[i] = value;
    }
    out.tensor(name, other);
    const std::string path = f / "other";
    out.write(path);
    check_refused(
        braid({"generate", "-m", world().run, "-n", "2", "--greedy", "--load-state", path}), 3,
        words);
  };
  refused("tokens", 6, 65, {"other", "6 tokens", "7"});
  refused("tokens", 0, 65, {"other", "0 tokens"});
  refused("tokens", 7, -1, {"other", "token -1"});
  refused("tokens", 7, 256, {"other", "token 256", "vocabulary of 256"});
  refused("logits", 12, 0, {"other", "12 logits"});
  CHECK(braid({"generate", "-m", world().run, "-n", "2", "--load-state", state}).code == 0);
}

TEST_CASE("a file in place of a folder") {
  const Folder f;
  write_file(f / "file", "x");
  check_refused(braid(train(world().text, f / "file")), 3, {"file", "in the way"});
  check_refused(braid(train(world().text, f / "file/run")), 3, {"file", "in the way"});
}

TEST_CASE("results that cannot be written are an error") {
  Setting full;
  full.stdout_path = "/dev/full";
  check_refused(braid({"plan", "gqa"}, full), 3, {"standard output", "No space left"});
}

TEST_CASE("a write that fails in a checkpoint leaves the earlier ones whole") {
  const Folder f;
  copy_run(f / "run", false);
  Setting limited;
  limited.most_file_bytes = 20000;  // weights are larger, the log is not
  const Args resume = {"train", "--data", world().text, "--out", f / "run", "--steps", "6"};
  const Outcome o = braid(resume, limited);
  INFO(o.all());
  CHECK(o.code == 3);
  CHECK(o.err.find("File too large") != std::string::npos);
  CHECK(braid({"generate", "-m", f / "run", "-p", "x", "-n", "1"}).code == 0);
  CHECK(braid(resume).code == 0);
}

TEST_CASE("a full disk (needs the right to mount)") {
  const Folder f;
  make_folders(f / "disk");
  if (::mount("tmpfs", (f / "disk").c_str(), "tmpfs", 0, "size=300k") != 0) {
    MESSAGE("NOT RUN: mounting a small tmpfs needs root; the failing write above stands for it");
    return;
  }
  const Outcome o = braid(train(world().text, f / "disk/run"));
  ::umount2((f / "disk").c_str(), MNT_DETACH);
  INFO(o.all());
  CHECK(o.code == 3);
  CHECK(o.err.find("No space left on device") != std::string::npos);
  CHECK(lines(o.err).back().starts_with("braid: cannot write"));
}

}  // namespace braid::e2e

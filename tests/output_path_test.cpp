// What a command is asked to write is refused at once where it cannot be written.

#include <sys/stat.h>

#include "tests/braid_process.h"

namespace braid::e2e {
namespace {

constexpr const char* kConfig = R"({"model_type":"llama","hidden_size":32,"num_hidden_layers":1,
    "intermediate_size":64,"num_attention_heads":2,"vocab_size":256,"hidden_act":"silu",
    "rms_norm_eps":1e-6,"max_position_embeddings":64,"tie_word_embeddings":false})";

// A model with random weights, a text, and places where nothing can be written.
struct Places {
  Folder folder;
  std::string model = folder / "model", text = folder / "text", own = folder / "own";
  std::string missing = folder / "no/such", file = folder / "file", device = folder / "device";
  Places() {
    make_folders(folder / "config");
    write_file(folder / "config/config.json", kConfig);
    REQUIRE(braid({"convert", "-m", folder / "config", "-o", model, "--random", "1"}).code == 0);
    REQUIRE(braid({"convert", "-m", model, "-o", own, "--to", "braid"}).code == 0);
    write_file(text, some_text(4000));
    write_file(file, "x");
    REQUIRE(::mkfifo(device.c_str(), 0600) == 0);
  }
};

Places& places() {
  static Places p;
  return p;
}

// Nothing was done before it was refused: no result, and no progress beside the one line.
void check_refused_first(const Args& args, const std::vector<std::string>& words) {
  const Outcome o = braid(args);
  INFO(o.all());
  CHECK(o.code == 3);
  CHECK(o.out.empty());
  const std::vector<std::string> err = lines(o.err);
  REQUIRE(err.size() == 1);
  CHECK(err[0].starts_with("braid: cannot write "));
  for (const std::string& word : words) {
    INFO(word);
    CHECK(err[0].find(word) != std::string::npos);
  }
}

TEST_CASE("a file that cannot be written is refused before the work") {
  const Places& p = places();
  const std::vector<std::pair<Args, std::string>> commands = {
      {{"generate", "-m", p.own, "-p", "x", "-n", "2"}, "--save-state"},
      {{"logits", "-m", p.own, "--tokens", "1,2"}, "--out"},
      {{"bench", "stack", "gqa, swiglu", "kda, swiglu"}, "--html"},
      {{"convert", "-m", p.model, "--to", "gguf"}, "-o"},
  };
  for (const auto& [args, flag] : commands) {
    CAPTURE(args[0]);
    check_refused_first(args + Args{flag, p.missing + "/out"},
                        {flag, "there is no folder " + p.missing});
    check_refused_first(args + Args{flag, p.file + "/out"}, {flag, p.file + " is not a folder"});
    if (flag == "-o") continue;  // what exists is refused as such
    check_refused_first(args + Args{flag, p.folder.path()}, {flag, "it is a folder"});
    check_refused_first(args + Args{flag, p.device}, {flag, "it is not a regular file"});
  }
}

TEST_CASE("a folder that cannot be filled is refused before the work") {
  const Places& p = places();
  const std::vector<Args> commands = {
      {"convert", "-m", p.model, "-o"},
      {"convert", "-m", p.model, "--to", "braid", "-o"},
      {"train", "--stack", "gqa", "--data", p.text, "--steps", "1", "--out"},
      {"compare", "gqa", "kda", "--data", p.text, "--steps", "1", "--out"},
      {"train-tokenizer", "--vocab", "300", p.text, "-o"},
  };
  for (const Args& args : commands) {
    CAPTURE(args[0]);
    check_refused_first(args + Args{p.file + "/a/b"}, {"the file " + p.file + " is in the way"});
  }
}

TEST_CASE("a path that can be written is left as it was until there is something to write") {
  const Places& p = places();
  const std::string state = p.folder / "state";
  write_file(state, "old");
  // Refused for another reason, after the path was tried.
  CHECK(braid({"generate", "-m", p.own, "-p", "", "--save-state", state}).code == 2);
  CHECK(read_file(state) == "old");
  for (const std::string& name : list_folder(p.folder.path()))
    CHECK(name.find(".tmp-") == std::string::npos);
  CHECK(braid({"generate", "-m", p.own, "-p", "x", "-n", "2", "--save-state", state}).code == 0);
  CHECK(read_file(state) != "old");
}

TEST_CASE("random weights are for a config.json alone, named by itself or by its folder") {
  const Places& p = places();
  const std::string out = p.folder / "by-file";
  const Outcome file =
      braid({"convert", "-m", p.folder / "config/config.json", "-o", out, "--random", "1"});
  CHECK_MESSAGE(file.code == 0, file.all());
  CHECK(read_file(out + "/model.safetensors") == read_file(p.model + "/model.safetensors"));
  for (const std::string& model : {p.model, p.own, p.model + "/config.json"}) {
    CAPTURE(model);
    const Outcome o = braid({"convert", "-m", model, "-o", p.folder / "no", "--random", "1"});
    CHECK_MESSAGE(o.code == 2, o.all());
    CHECK(o.err.find("has weights") != std::string::npos);
    CHECK_FALSE(path_exists(p.folder / "no"));
  }
}

TEST_CASE("convert takes the format from the name") {
  const Places& p = places();
  for (const char* to : {"hf", "braid"}) {
    const std::string slashed = p.folder / std::string(to) + "/";
    CHECK(braid({"convert", "-m", p.model, "-o", slashed, "--to", to}).code == 0);
    CHECK(is_folder(slashed));
    CHECK_FALSE(path_exists(slashed + ".unfinished"));
  }
  const std::string gguf = p.folder / "named.gguf", folder = p.folder / "named";
  REQUIRE(braid({"convert", "-m", p.model, "-o", gguf}).code == 0);
  CHECK(read_file(gguf).starts_with("GGUF"));
  const Outcome back = braid({"convert", "-m", gguf, "-o", folder});
  REQUIRE_MESSAGE(back.code == 0, back.all());
  CHECK(path_exists(folder + "/config.json"));
  const Outcome o = braid({"convert", "-m", p.model, "-o", p.folder / "x.gguf", "--to", "hf"});
  INFO(o.all());
  CHECK(o.code == 2);
  CHECK(o.err.find("--to hf writes a folder") != std::string::npos);
  CHECK_FALSE(path_exists(p.folder / "x.gguf"));
  CHECK(braid({"convert", "--help"}).out.find("gguf where -o ends in .gguf") != std::string::npos);
}

}  // namespace
}  // namespace braid::e2e

// What convert keeps of a model on the way from one form to another and back.

#include <cstdlib>
#include <map>

#include "braid/base/json.h"
#include "braid/formats/safetensors_folder.h"
#include "tests/braid_process.h"

namespace braid::e2e {
namespace {

std::string done(const Args& args) {
  const Outcome o = braid(args);
  INFO(o.all());
  REQUIRE(o.code == 0);
  return o.out + o.err;
}

Json config_of(const std::string& folder) {
  return Json::parse(read_file(folder + "/config.json"));
}

// What plan knows of a model apart from this machine.
Json planned(const std::string& model) {
  const Json all =
      Json::parse(done({"plan", "-m", model, "--contexts", "16", "--prefill", "8", "--json"}));
  Json out = Json::object();
  for (const char* key : {"stack", "settings", "positions", "windows", "parameters"})
    out.set(key, all.at(key));
  return out;
}

TEST_CASE("a model is made for as many tokens as it was trained on, in every form") {
  const Folder f;
  write_file(f / "text", some_text(4000));
  const auto train = [&](const std::string& out, const char* tokens, const Args& more) {
    done(Args{"train", "--data", f / "text", "--steps", "1", "--batch", "2", "--seq-len", tokens,
              "--out", out} +
         more);
  };
  train(f / "run", "48", {"--stack", "gqa, swiglu", "--width", "32", "--heads", "2"});
  done({"convert", "-m", f / "run", "-o", f / "hf"});
  CHECK(config_of(f / "hf").at("max_position_embeddings").as_int() == 48);
  done({"convert", "-m", f / "run", "-o", f / "own", "--to", "braid"});
  done({"convert", "-m", f / "own", "-o", f / "again"});
  CHECK(config_of(f / "again").at("max_position_embeddings").as_int() == 48);
  done({"convert", "-m", f / "run", "-o", f / "run.gguf"});
  for (const char* model : {"hf", "own", "again", "run.gguf"}) {
    CAPTURE(model);
    CHECK(planned(f / model).at("settings").at("max_position_embeddings").as_int() == 48);
    CHECK(done({"generate", "-m", f / model, "-p", "x", "-n", "60"})
              .find("the model was made for 48 ") != std::string::npos);
  }
  // One that begins with another model's weights is made for what that one was, unless its own
  // sequences are longer.
  train(f / "tuned", "16", {"--init-from", f / "hf"});
  done({"convert", "-m", f / "tuned", "-o", f / "tuned-hf"});
  CHECK(config_of(f / "tuned-hf").at("max_position_embeddings").as_int() == 48);
  train(f / "longer", "96", {"--init-from", f / "hf"});
  done({"convert", "-m", f / "longer", "-o", f / "longer-hf"});
  CHECK(config_of(f / "longer-hf").at("max_position_embeddings").as_int() == 96);
}

TEST_CASE("a model made for nobody knows how many tokens is not given a number") {
  const Folder f;
  write_file(f / "text", some_text(4000));
  done({"train", "--stack", "gqa, swiglu", "--width", "32", "--heads", "2", "--data", f / "text",
        "--steps", "1", "--batch", "2", "--seq-len", "48", "--out", f / "run"});
  done({"convert", "-m", f / "run", "-o", f / "own", "--to", "braid"});
  std::string settings = read_file(f / "own/model.toml");
  const size_t at = settings.find("max_position_embeddings");
  REQUIRE(at != std::string::npos);
  settings.erase(at, settings.find('\n', at) + 1 - at);
  write_file(f / "own/model.toml", settings);
  CHECK(done({"convert", "-m", f / "own", "-o", f / "hf"})
            .find("nobody knows for how many tokens this model was made") != std::string::npos);
  CHECK(config_of(f / "hf").find("max_position_embeddings") == nullptr);
}

// The tensors of a folder by name: type, shape and bytes.
std::map<std::string, std::string> tensors_of(const std::string& folder) {
  std::map<std::string, std::string> out;
  const SafetensorsFolder all = SafetensorsFolder::open(folder);
  for (const SafetensorsFile& file : all.files()) {
    for (const SafetensorsEntry& e : file.entries()) {
      const std::span<const std::byte> bytes = file.bytes(e);
      std::string& text = out[e.name] = e.dtype;
      for (const int64_t n : e.shape) text += format(" {}", n);
      text.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    }
  }
  return out;
}

TEST_CASE("a published checkpoint comes back from a braid folder as it was") {
  const char* goldens = std::getenv("BRAID_DEFAULT_GOLDEN");
  REQUIRE(goldens != nullptr);
  for (const char* name : {"llama3", "qwen3", "gemma3", "gpt_oss", "deepseek_v3"}) {
    CAPTURE(name);
    const Folder f;
    const std::string from = join_path(goldens, std::string("checkpoints/") + name);
    const bool bf16 = config_of(from).at("torch_dtype").as_string() == "bfloat16";
    done({"convert", "-m", from, "-o", f / "own", "--to", "braid"});
    done({"convert", "-m", f / "own", "-o", f / "back", "--weights", bf16 ? "bf16" : "f32"});
    auto want = tensors_of(from);
    // The layer for the token after the next, which no model of braid's has.
    if (name == std::string("deepseek_v3"))
      std::erase_if(want, [](const auto& t) { return t.first.starts_with("model.layers.3."); });
    CHECK(tensors_of(f / "back") == want);
    CHECK(planned(f / "back") == planned(from));
    const auto logits = [&](const std::string& model, const std::string& to) {
      done({"logits", "-m", model, "--tokens", "7,11,200,3,3,90,41,17,5,101,33,64", "--out", to});
      return read_file(to);
    };
    CHECK(logits(f / "back", f / "b") == logits(from, f / "a"));
    // Once more: what was written says all that it was written from.
    done({"convert", "-m", f / "back", "-o", f / "own2", "--to", "braid"});
    CHECK(read_file(f / "own2/model.toml") == read_file(f / "own/model.toml"));
  }
}

}  // namespace
}  // namespace braid::e2e

// `braid train-tokenizer` and `braid tokenize` as a person meets them.

#include <cmath>

#include "braid/base/json.h"
#include "tests/braid_process.h"

namespace braid::e2e {
namespace {

std::string sample_text() {
  std::string text;
  for (int i = 0; i < 300; ++i)
    text += format("the {} lowest newest of them, they're {}\n", i, i % 7);
  return text;
}

TEST_CASE("a vocabulary is learned, written, read back and used; the same twice") {
  const Folder folder;
  write_file(folder / "a.txt", sample_text());
  const auto train = [&](const std::string& out) {
    return braid({"train-tokenizer", "--vocab", "400", "--special", "<|endoftext|>", "-o", out,
                  folder / "a.txt", "--json"});
  };
  const Outcome o = train(folder / "one");
  REQUIRE_MESSAGE(o.code == 0, o.all());
  CHECK(Json::parse(o.out).at("bytes").as_int() == std::ssize(sample_text()));
  REQUIRE(train(folder / "two").code == 0);
  CHECK(read_file(folder / "one/tokenizer.json") == read_file(folder / "two/tokenizer.json"));
  const Outcome again = train(folder / "one");  // nothing is overwritten
  CHECK(again.code == 2);
  CHECK(again.err.find("exists") != std::string::npos);

  const std::string text = "the lowest \xE4\xB8\x96 they're<|endoftext|>";
  const Outcome ids = braid({"tokenize", "-m", folder / "one", "--ids", text});
  REQUIRE_MESSAGE(ids.code == 0, ids.all());
  CHECK(ids.out.ends_with(",0\n"));  // the special token
  const Outcome back = braid({"tokenize", "-m", folder / "one", "--decode", ids.out});
  CHECK(back.out == text + "\n");
  const Outcome skipped =
      braid({"tokenize", "-m", folder / "one", "--decode", "--skip-special", ids.out});
  CHECK(skipped.out == "the lowest \xE4\xB8\x96 they're\n");
  const Outcome untrusted = braid(
      {"tokenize", "--tokenizer", folder / "one/tokenizer.json", "--untrusted", "--json", text});
  REQUIRE_MESSAGE(untrusted.code == 0, untrusted.all());
  const Json read = Json::parse(untrusted.out);
  for (const Json& id : read.at("ids").elements()) CHECK(id.as_int() != 0);
}

TEST_CASE("a folder without a tokenizer is read as bytes") {
  const Folder folder;
  const Outcome o = braid({"tokenize", "-m", folder.path(), "--ids", "Hi"});
  CHECK(o.code == 0);
  CHECK(o.out == "72,105\n");
}

TEST_CASE("what cannot be is one line and an exit code") {
  const Folder folder;
  write_file(folder / "a.txt", "aaa bbb");
  write_file(folder / "tokenizer.json", R"({"model":{"type":"Nonsense"}})");
  const auto refuses = [](const Args& args, int code, const char* word) {
    const Outcome o = braid(args);
    CHECK_MESSAGE(o.code == code, o.all());
    CHECK_MESSAGE(o.err.find(word) != std::string::npos, o.all());
  };
  refuses({"tokenize", "text"}, 2, "--model");
  refuses({"tokenize", "-m", folder.path(), "text"}, 3, "Nonsense");
  refuses({"tokenize", "-m", "/nonexistent", "text"}, 3, "/nonexistent");
  remove_file(folder / "tokenizer.json");
  refuses({"tokenize", "-m", folder.path(), "--decode", "1,x"}, 2, "'x'");
  refuses({"tokenize", "-m", folder.path(), "--decode", "256"}, 2, "256");
  refuses({"train-tokenizer", "-o", folder / "o", "--vocab", "9", folder / "a.txt"}, 2, "256");
  refuses({"train-tokenizer", "-o", folder / "o", "--cut", "gpt9", folder / "a.txt"}, 2, "gpt2");
  refuses({"train-tokenizer", "-o", folder / "o", folder / "missing"}, 3, "missing");
  write_file(folder / "empty.txt", "");
  refuses({"train-tokenizer", "-o", folder / "o", folder / "empty.txt"}, 3,
          "empty.txt: there is no text to learn from");
  CHECK_FALSE(path_exists(folder / "o"));
}

}  // namespace
TEST_CASE("a run on tokens resumes bit for bit, and its folder brings the tokenizer") {
  const Folder folder;
  const std::string text = folder / "text.txt", tok = folder / "tok";
  write_file(text, some_text(40000));
  REQUIRE(braid({"train-tokenizer", "--vocab", "300", "-o", tok, text}).code == 0);
  const auto train = [&](const char* run, const char* steps, const Args& more) {
    return braid(Args{"train", "--out", folder / run, "--steps", steps} + more);
  };
  const Args flags = {"--stack",      "kda, swiglu", "--width",    "32",       "--heads",     "2",
                      "--data",       text,          "--batch",    "2",        "--seq-len",   "32",
                      "--save-every", "2",           "--schedule", "constant", "--tokenizer", tok};
  const Outcome whole = train("whole", "4", flags);
  REQUIRE_MESSAGE(whole.code == 0, whole.all());
  REQUIRE(train("parts", "2", flags).code == 0);
  const Outcome by_run = braid({"tokenize", "-m", folder / "parts", "--ids", "the lowest"});
  CHECK(by_run.out == braid({"tokenize", "-m", tok, "--ids", "the lowest"}).out);
  const auto against = [&](const std::string& data) {
    return braid({"eval", "-m", folder / "parts", "--against", folder / "whole", "--data", data,
                  "--contexts", "64", "--json"});
  };
  make_folders(folder / "texts");
  write_file(folder / "texts/a.txt", read_file(text));
  const Outcome file = against(text), of_folder = against(folder / "texts");
  REQUIRE_MESSAGE(file.code == 0, file.all());
  REQUIRE_MESSAGE(of_folder.code == 0, of_folder.all());
  CHECK(of_folder.out == file.out);
  remove_folder(tok);  // the run has its own
  const Outcome resumed = train("parts", "4", {});
  REQUIRE_MESSAGE(resumed.code == 0, resumed.all());
  for (const char* name :
       {"weights.safetensors", "train/optimizer.safetensors", "tokenizer.json"}) {
    CAPTURE(name);
    CHECK(read_file(folder / (std::string("whole/latest/") + name)) ==
          read_file(folder / (std::string("parts/latest/") + name)));
  }
  const std::string run = folder / "whole";
  const Outcome eval = braid({"eval", "-m", run, "--data", text, "--json"});
  REQUIRE_MESSAGE(eval.code == 0, eval.all());
  const Json e = Json::parse(eval.out);
  CHECK(e.at("seq_len").as_int() == 32);  // the run's own
  const double nats = e.at("nats_per_token").as_real(), tokens = e.at("tokens").as_real();
  const double bytes = e.at("bytes").as_real();
  CHECK(bytes > 1.5 * tokens);
  CHECK(bytes < 40100);
  CHECK(bytes > 39000);
  CHECK(e.at("bpb").as_real() ==
        doctest::Approx(nats * tokens / bytes / std::log(2.0)).epsilon(1e-12));
  CHECK(e.at("perplexity").as_real() == doctest::Approx(std::exp(nats)).epsilon(1e-12));
  CHECK(braid({"generate", "-m", run, "-p", "The quick", "-n", "4"}).code == 0);
  CHECK(braid({"report", "-m", run, "-n", "4", "--contexts", "64"}).code == 0);

  for (const char* to : {"hf", "braid"}) {
    CAPTURE(to);
    const Args flags = {"--stack",   "gqa, swiglu", "--width",     "32",           "--heads",
                        "2",         "--data",      text,          "--batch",      "2",
                        "--seq-len", "32",          "--tokenizer", run + "/latest"};
    if (!path_exists(folder / "dense")) REQUIRE(train("dense", "1", flags).code == 0);
    const std::string out = folder / (std::string("as-") + to);
    const Outcome converted = braid({"convert", "-m", folder / "dense", "-o", out, "--to", to});
    REQUIRE_MESSAGE(converted.code == 0, converted.all());
    CHECK(read_file(join_path(out, "tokenizer.json")) == read_file(run + "/latest/tokenizer.json"));
    CHECK(braid({"generate", "-m", out, "-p", "The quick", "-n", "2"}).code == 0);
  }
  const Args mixed = {"--stack",   "kda, swiglu, gqa, swiglu",
                      "--width",   "32",
                      "--data",    text,
                      "--batch",   "2",
                      "--seq-len", "32",
                      "--heads",   "2"};
  REQUIRE(train("mixed", "1", mixed).code == 0);
  const Outcome refused =
      braid({"convert", "-m", folder / "mixed", "-o", folder / "no", "--to", "gguf"});
  CHECK(refused.code == 2);
  CHECK(refused.err.find("--to braid") != std::string::npos);

  const Outcome small = train("small", "2",
                              Args{"--stack", "swiglu", "--width", "32", "--data", text, "--vocab",
                                   "299", "--tokenizer", run + "/latest"});
  CHECK(small.code == 2);
  CHECK_FALSE(path_exists(folder / "small"));
  CHECK(small.err.find("the tokenizer has 300 tokens, the model's vocabulary 299") !=
        std::string::npos);
}

TEST_CASE("a vocabulary goes along from folder to GGUF and back, whatever is converted") {
  const Folder folder;
  write_file(folder / "a.txt", sample_text());
  const std::string from = folder / "config";
  REQUIRE(braid({"train-tokenizer", "--vocab", "300", "--cut", "qwen", "--special", "<|end|>", "-o",
                 from, folder / "a.txt"})
              .code == 0);
  write_file(join_path(from, "config.json"), R"({"architectures":["Qwen3ForCausalLM"],
      "model_type":"qwen3","hidden_size":32,"num_hidden_layers":1,"intermediate_size":64,
      "num_attention_heads":2,"num_key_value_heads":1,"head_dim":16,"vocab_size":304,
      "max_position_embeddings":64,"rms_norm_eps":1e-6,"rope_theta":10000,
      "tie_word_embeddings":true,"hidden_act":"silu","attention_bias":false})");
  write_file(join_path(from, "generation_config.json"),
             R"({"bos_token_id":1,"eos_token_id":[0,7],"do_sample":true,"temperature":0.6,
                 "top_k":20,"top_p":0.95})");
  const auto convert = [&](const std::string& model, const char* out, const Args& more) {
    const Outcome o = braid(Args{"convert", "-m", model, "-o", folder / out} + more);
    REQUIRE_MESSAGE(o.code == 0, o.all());
    CHECK(o.err.empty());
    return folder / out;
  };
  const std::string hf = convert(from, "hf", {"--random", "1"});
  const std::string gguf = convert(hf, "a.gguf", {"--to", "gguf"});
  const std::string again = convert(gguf, "b.gguf", {"--to", "gguf", "--weights", "q8_0"});
  const auto ids = [](const std::string& model) {
    return braid({"tokenize", "-m", model, "--ids", "the lowest <|end|> they're \xE4\xB8\x96 42"})
        .out;
  };
  const std::string want = ids(hf);
  CHECK(want.find(",0,") != std::string::npos);  // the special token
  CHECK(ids(again) == want);
  const std::string back = convert(again, "back", {"--to", "hf"});
  CHECK(ids(back) == want);
  const std::string own = convert(gguf, "own", {"--to", "braid"});
  CHECK(ids(own) == want);
  const auto text = [](const std::string& at, const char* name) {
    return read_file(join_path(at, name));
  };
  CHECK(text(back, "tokenizer.json") == text(hf, "tokenizer.json"));
  const Json generation = Json::parse(text(hf, "generation_config.json"));
  CHECK(Json::parse(text(back, "generation_config.json")) == generation);
  CHECK(Json::parse(text(own, "generation_config.json")) == generation);
  // Every key that the first config had, and the ids of its generation_config.json.
  const Json first = Json::parse(text(hf, "config.json"));
  const Json last = Json::parse(text(back, "config.json"));
  for (const Json::Member& m : first.members()) {
    CAPTURE(m.key);
    if (m.key == "torch_dtype") continue;
    REQUIRE(last.find(m.key) != nullptr);
    if (m.value.is_number())
      CHECK(last.at(m.key).as_real() == m.value.as_real());  // 10000 is 10000.0
    else
      CHECK(last.at(m.key) == m.value);
  }
  CHECK(last.at("eos_token_id") == generation.at("eos_token_id"));
}

// A small Qwen3 whose texts say how it is talked to and how answers end.
std::string model_with_texts(const Folder& folder) {
  const std::string config = folder / "config", model = folder / "model";
  write_file(folder / "text", some_text(20000));
  REQUIRE(braid({"train-tokenizer", "--vocab", "300", "--cut", "qwen", "--special", "<|end|>", "-o",
                 config, folder / "text"})
              .code == 0);
  write_file(join_path(config, "config.json"), R"({"architectures":["Qwen3ForCausalLM"],
      "model_type":"qwen3","hidden_size":32,"num_hidden_layers":1,"intermediate_size":64,
      "num_attention_heads":2,"num_key_value_heads":1,"head_dim":16,"vocab_size":304,
      "max_position_embeddings":64,"rms_norm_eps":1e-6,"rope_theta":10000,
      "tie_word_embeddings":true,"hidden_act":"silu","attention_bias":false})");
  write_file(join_path(config, "generation_config.json"),
             R"({"eos_token_id":[0,5],"do_sample":true,"temperature":0.6})");
  write_file(join_path(config, "chat_template.jinja"),
             "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}");
  REQUIRE(braid({"convert", "-m", config, "-o", model, "--random", "1"}).code == 0);
  return model;
}

TEST_CASE("a run keeps the texts of the model it begins with, and convert carries them on") {
  const Folder folder;
  const std::string model = model_with_texts(folder);
  const auto done = [](const Args& args) {
    const Outcome o = braid(args);
    REQUIRE_MESSAGE(o.code == 0, o.all());
    return o.out + o.err;
  };
  const auto train = [&](const std::string& out, const char* steps, const Args& more) {
    done(Args{"train", "--data", folder / "text", "--steps", steps, "--batch", "2", "--seq-len",
              "32", "--out", folder / out} +
         more);
    return folder / out;
  };
  const std::string gguf = folder / "model.gguf";
  done({"convert", "-m", model, "-o", gguf});
  const std::string tuned = train("tuned", "1", {"--init-from", model});
  train("tuned", "2", {});  // the run has its own
  const std::string of_gguf = train("of-gguf", "1", {"--init-from", gguf});
  const std::string beside = train("beside", "1",
                                   {"--stack", "gqa, swiglu", "--width", "32", "--heads", "2",
                                    "--tokenizer", model + "/tokenizer.json"});
  const Json ends = Json::parse("[0,5]");
  write_file(folder / "lines", "hello\n");
  for (const std::string& run : {tuned, of_gguf, beside}) {
    CAPTURE(run);
    const auto generation = [](const std::string& at) {
      return Json::parse(read_file(join_path(at, "generation_config.json")));
    };
    CHECK(generation(run + "/latest").at("eos_token_id") == ends);
    CHECK(generation(run + "/latest").at("temperature").as_real() == 0.6);
    CHECK(read_file(run + "/latest/manifest.json").find("generation_config") != std::string::npos);
    Setting typed;
    typed.stdin_path = folder / "lines";
    const Outcome chat = braid({"chat", "-m", run, "-n", "2"}, typed);
    CHECK_MESSAGE(chat.code == 0, chat.all());
    CHECK(chat.err.find("no chat template") == std::string::npos);
    done({"convert", "-m", run, "-o", run + "-hf"});
    CHECK(generation(run + "-hf") == generation(run + "/latest"));
    CHECK(Json::parse(read_file(run + "-hf/config.json")).at("eos_token_id") == ends);
    done({"convert", "-m", run, "-o", run + ".gguf"});
    done({"convert", "-m", run + ".gguf", "-o", run + "-back"});
    CHECK(generation(run + "-back").at("eos_token_id") == ends);
    CHECK(read_file(run + "-back/tokenizer_config.json").find("m.role") != std::string::npos);
  }
  CHECK(read_file(tuned + "-hf/chat_template.jinja") == read_file(model + "/chat_template.jinja"));
  CHECK(read_file(of_gguf + "/latest/tokenizer.json") == read_file(model + "/tokenizer.json"));
  const Outcome bytes = braid(
      {"train", "--data", folder / "text", "--steps", "1", "-m", model, "--out", folder / "none"});
  CHECK(bytes.code == 2);
  CHECK(bytes.err.find("name its tokenizer with --tokenizer") != std::string::npos);
}

}  // namespace braid::e2e

#include "braid/text/tokenizer/postprocessor.h"

#include <algorithm>

#include "braid/base/error.h"
#include "braid/base/format.h"
#include "braid/base/strings.h"
#include "braid/text/tokenizer/component.h"
#include "braid/text/tokenizer/vocabulary.h"

namespace braid {
namespace {

int32_t checked_id(const Json& json) {
  const int64_t id = json.as_int();
  if (id < 0 || id > Vocabulary::kMaxId) {
    throw Error(ErrorKind::kBadInput,
                format("post_processor: id {} is not in 0 to {}", id, Vocabulary::kMaxId));
  }
  return static_cast<int32_t>(id);
}

IdTemplate parse_template(const Json& json) {
  IdTemplate form;
  const Json& special = json.at("special_tokens");
  for (const Json& item : json.at("single").elements()) {
    if (const Json* sequence = item.find("Sequence")) {
      const std::string& name = sequence->at("id").as_string();
      if (name != "A") {
        throw Error(ErrorKind::kBadInput,
                    format("post_processor: the template of one text names '{}'; it must be 'A'",
                           printable(name)));
      }
      if (std::find(form.begin(), form.end(), kTextItself) != form.end()) {
        throw Error(ErrorKind::kBadInput, "post_processor: a template that repeats the text");
      }
      form.push_back(kTextItself);
      continue;
    }
    const std::string& name = item.at("SpecialToken").at("id").as_string();
    for (const Json& id : special.at(name).at("ids").elements()) form.push_back(checked_id(id));
  }
  return form;
}

int32_t id_of_pair(const Json& json, const char* key) {
  const std::vector<Json>& pair = json.at(key).elements();
  if (pair.size() != 2) {
    throw Error(
        ErrorKind::kBadInput,
        format("post_processor: '{}' has {} elements; a token and its id are 2", key, pair.size()));
  }
  return checked_id(pair[1]);
}

void add_templates(const Json& json, int depth, std::vector<IdTemplate>& all) {
  const std::string& type = component_type(json);
  if (type == "Sequence") {
    if (depth == 0) throw Error(ErrorKind::kBadInput, "post_processor: sequences nested too deep");
    for (const Json& member : json.at("processors").elements()) {
      add_templates(member, depth - 1, all);
    }
  } else if (type == "TemplateProcessing") {
    all.push_back(parse_template(json));
  } else if (type == "BertProcessing" || type == "RobertaProcessing") {
    all.push_back({id_of_pair(json, "cls"), kTextItself, id_of_pair(json, "sep")});
  } else if (type != "ByteLevel") {  // which changes offsets only
    unknown_component("post_processor", json);
  }
}

}  // namespace

std::vector<IdTemplate> parse_postprocessor(const Json& json) {
  std::vector<IdTemplate> all;
  if (!json.is_null()) add_templates(json, 16, all);
  return all;
}

void apply_template(const IdTemplate& form, std::vector<int32_t>& ids) {
  std::vector<int32_t> out;
  out.reserve(ids.size() + form.size());
  for (const int32_t id : form) {
    if (id == kTextItself) {
      out.insert(out.end(), ids.begin(), ids.end());
    } else {
      out.push_back(id);
    }
  }
  ids = std::move(out);
}

}  // namespace braid

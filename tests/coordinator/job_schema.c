/* That configs/job.schema.json says to editors what the job reader says. */
#include <regex.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"
#include "base/text.h"
#include "base/yaml.h"
#include "coordinator/job.h"
#include "refused.h"

struct schema {
    struct arena arena;
    const struct json *top;
};

static void open_schema(struct schema *schema) {
    struct error error = {0};
    char *text;
    size_t length;
    assert_int_equal(arena_open(&schema->arena, 64 << 20, &error), ERR_OK);
    FILE *file = fopen("configs/job.schema.json", "rb");
    assert_non_null(file);
    text = arena_alloc(&schema->arena, 1 << 20);
    length = fread(text, 1, 1 << 20, file);
    fclose(file);
    assert_int_equal(json_parse(&schema->top, &schema->arena, text, length, &error), ERR_OK);
}

/* What JSON calls a scalar of YAML. */
struct reading {
    bool number, integer, boolean, string;
    double value; /* of a number */
};

static struct reading read_scalar(const struct yaml *node) {
    struct reading is = {0};
    int64_t whole;
    if (node->type != YAML_SCALAR)
        return is;
    if (!node->quoted) {
        is.number = text_to_double(node->text, &is.value);
        is.integer = text_to_int(node->text, &whole);
        is.boolean = !strcmp(node->text, "true") || !strcmp(node->text, "false");
    }
    is.string = !is.number && !is.boolean && (node->quoted || node->length);
    return is;
}

/* -- JSON Schema's keywords, those that the file uses: `node` keeps `word`, a part of `rule` -- */

typedef bool keyword(const struct schema *schema, const struct json *rule, const struct json *word,
                     const struct yaml *node);

static bool is_valid(const struct schema *schema, const struct json *rule, const struct yaml *node);

static bool is_silent(const struct schema *schema, const struct json *rule, const struct json *word,
                      const struct yaml *node) {
    return true;
}

static bool keeps_ref(const struct schema *schema, const struct json *rule, const struct json *word,
                      const struct yaml *node) {
    const struct json *at = schema->top;
    char path[128], *save = NULL;
    snprintf(path, sizeof path, "%s", word->string + strlen("#/"));
    for (char *part = strtok_r(path, "/", &save); part && at; part = strtok_r(NULL, "/", &save))
        at = json_get(at, part);
    assert_non_null(at);
    return is_valid(schema, at, node);
}

static bool keeps_type(const struct schema *schema, const struct json *rule,
                       const struct json *word, const struct yaml *node) {
    const char *type = word->string;
    struct reading is = read_scalar(node);
    return !strcmp(type, "object")    ? node->type == YAML_MAPPING
           : !strcmp(type, "array")   ? node->type == YAML_SEQUENCE
           : !strcmp(type, "string")  ? is.string
           : !strcmp(type, "number")  ? is.number
           : !strcmp(type, "integer") ? is.integer
                                      : is.boolean;
}

static bool keeps_enum(const struct schema *schema, const struct json *rule,
                       const struct json *word, const struct yaml *node) {
    bool found = false;
    for (const struct json *item = word->child; item; item = item->next)
        found |= node->type == YAML_SCALAR && !strcmp(item->string, node->text);
    return found;
}

static bool keeps_minimum(const struct schema *schema, const struct json *rule,
                          const struct json *word, const struct yaml *node) {
    struct reading is = read_scalar(node);
    return !is.number || is.value >= word->number;
}

static bool keeps_maximum(const struct schema *schema, const struct json *rule,
                          const struct json *word, const struct yaml *node) {
    struct reading is = read_scalar(node);
    return !is.number || is.value <= word->number;
}

static bool keeps_above(const struct schema *schema, const struct json *rule,
                        const struct json *word, const struct yaml *node) {
    struct reading is = read_scalar(node);
    return !is.number || is.value > word->number;
}

static bool keeps_least_length(const struct schema *schema, const struct json *rule,
                               const struct json *word, const struct yaml *node) {
    return !read_scalar(node).string || (int64_t)node->length >= word->integer;
}

static bool keeps_most_length(const struct schema *schema, const struct json *rule,
                              const struct json *word, const struct yaml *node) {
    return !read_scalar(node).string || (int64_t)node->length <= word->integer;
}

static bool keeps_pattern(const struct schema *schema, const struct json *rule,
                          const struct json *word, const struct yaml *node) {
    regex_t regex;
    assert_int_equal(regcomp(&regex, word->string, REG_EXTENDED | REG_NOSUB), 0);
    bool keeps = !read_scalar(node).string || !regexec(&regex, node->text, 0, NULL, 0);
    regfree(&regex);
    return keeps;
}

static bool keeps_least_items(const struct schema *schema, const struct json *rule,
                              const struct json *word, const struct yaml *node) {
    return node->type != YAML_SEQUENCE || (int64_t)node->length >= word->integer;
}

static bool keeps_most_items(const struct schema *schema, const struct json *rule,
                             const struct json *word, const struct yaml *node) {
    return node->type != YAML_SEQUENCE || (int64_t)node->length <= word->integer;
}

static bool keeps_items(const struct schema *schema, const struct json *rule,
                        const struct json *word, const struct yaml *node) {
    bool keeps = true;
    if (node->type == YAML_SEQUENCE)
        for (const struct yaml *item = node->child; item && keeps; item = item->next)
            keeps = is_valid(schema, word, item);
    return keeps;
}

static bool keeps_required(const struct schema *schema, const struct json *rule,
                           const struct json *word, const struct yaml *node) {
    bool keeps = true;
    if (node->type == YAML_MAPPING)
        for (const struct json *item = word->child; item && keeps; item = item->next)
            keeps = yaml_get(node, item->string) != NULL;
    return keeps;
}

static bool keeps_properties(const struct schema *schema, const struct json *rule,
                             const struct json *word, const struct yaml *node) {
    bool keeps = true, open = json_bool(rule, "additionalProperties", true);
    if (node->type == YAML_MAPPING)
        for (const struct yaml *item = node->child; item && keeps; item = item->next) {
            const struct json *inner = json_get(word, item->key);
            keeps = inner ? is_valid(schema, inner, item) : open;
        }
    return keeps;
}

static bool keeps_one_of(const struct schema *schema, const struct json *rule,
                         const struct json *word, const struct yaml *node) {
    int count = 0;
    for (const struct json *item = word->child; item; item = item->next)
        count += is_valid(schema, item, node);
    return count == 1;
}

static bool keeps_all_of(const struct schema *schema, const struct json *rule,
                         const struct json *word, const struct yaml *node) {
    bool keeps = true;
    for (const struct json *item = word->child; item && keeps; item = item->next)
        keeps = is_valid(schema, item, node);
    return keeps;
}

static bool keeps_not(const struct schema *schema, const struct json *rule, const struct json *word,
                      const struct yaml *node) {
    return !is_valid(schema, word, node);
}

static const struct {
    const char *key;
    keyword *keeps;
} keywords[] = {
    {"$ref", keeps_ref},
    {"type", keeps_type},
    {"enum", keeps_enum},
    {"minimum", keeps_minimum},
    {"maximum", keeps_maximum},
    {"exclusiveMinimum", keeps_above},
    {"minLength", keeps_least_length},
    {"maxLength", keeps_most_length},
    {"pattern", keeps_pattern},
    {"minItems", keeps_least_items},
    {"maxItems", keeps_most_items},
    {"items", keeps_items},
    {"required", keeps_required},
    {"properties", keeps_properties},
    {"additionalProperties", is_silent}, /* read with "properties" */
    {"oneOf", keeps_one_of},
    {"allOf", keeps_all_of},
    {"not", keeps_not},
    {"description", is_silent},
    {"title", is_silent},
    {"$schema", is_silent},
    {"$defs", is_silent},
};

static bool keeps_word(const struct schema *schema, const struct json *rule,
                       const struct json *word, const struct yaml *node) {
    for (size_t i = 0; i < sizeof keywords / sizeof keywords[0]; i++)
        if (!strcmp(keywords[i].key, word->key))
            return keywords[i].keeps(schema, rule, word, node);
    print_error("the schema uses \"%s\", which this test does not know\n", word->key);
    fail();
    return false;
}

static bool is_valid(const struct schema *schema, const struct json *rule,
                     const struct yaml *node) {
    bool valid = true;
    for (const struct json *word = rule->child; word && valid; word = word->next)
        valid = keeps_word(schema, rule, word, node);
    return valid;
}

static bool document_is_valid(const struct schema *schema, const char *yaml) {
    struct arena arena;
    struct error error = {0};
    const struct yaml *node = NULL;
    assert_int_equal(arena_open(&arena, 16 << 20, &error), ERR_OK);
    bool valid = yaml_parse(&node, &arena, "y", yaml, strlen(yaml), &error) == ERR_OK && node &&
                 is_valid(schema, schema->top, node);
    arena_close(&arena);
    return valid;
}

/* -- the schema's words are the reader's ------------------------------------------------------- */

/* `object`: an object whose keys are words, or an array of words. Every word that is a key has a
 * description, or refers to a definition. */
static void same_words(const struct json *object, const char *const *words, const char *what) {
    size_t count = 0;
    assert_non_null(object);
    for (const struct json *item = object->child; item; item = item->next, count++) {
        const char *name = object->type == JSON_ARRAY ? item->string : item->key;
        bool known = false;
        for (const char *const *word = words; *word; word++)
            known |= !strcmp(*word, name);
        if (!known) {
            print_error("%s: the schema has \"%s\", the reader does not\n", what, name);
            fail();
        }
        if (object->type == JSON_OBJECT && !json_get(item, "$ref"))
            assert_non_null(json_get(item, "description"));
    }
    size_t expected = 0;
    while (words[expected])
        expected++;
    if (count != expected) {
        print_error("%s: the schema has %zu words, the reader %zu\n", what, count, expected);
        fail();
    }
}

static void test_schema_words(void **state) {
    struct schema schema;
    open_schema(&schema);
    const struct json *defs = json_get(schema.top, "$defs");
    static const struct {
        const char *def;
        enum job_words words;
    } pairs[] = {
        {"model", JOB_KEYS_MODEL}, {"output", JOB_KEYS_OUTPUT}, {"defaults", JOB_KEYS_DEFAULTS},
        {"video", JOB_KEYS_VIDEO}, {"file", JOB_KEYS_FILE},     {"shot", JOB_KEYS_SHOT},
        {"lora", JOB_KEYS_LORA},   {"limits", JOB_KEYS_LIMITS}, {"stage", JOB_KEYS_STAGE}};
    same_words(json_get(schema.top, "properties"), job_words(JOB_KEYS_TOP), "job");
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++)
        same_words(json_get(json_get(defs, pairs[i].def), "properties"), job_words(pairs[i].words),
                   pairs[i].def);
    const struct json *output = json_get(json_get(defs, "output"), "properties");
    same_words(json_get(json_get(output, "codec"), "enum"), job_words(JOB_VALUES_CODEC), "codec");
    same_words(json_get(json_get(json_get(defs, "keys"), "sampler"), "enum"),
               job_words(JOB_VALUES_SAMPLER), "sampler");
    same_words(json_get(json_get(json_get(defs, "keys"), "noise"), "enum"),
               job_words(JOB_VALUES_NOISE), "noise");
    same_words(json_get(json_get(json_get(defs, "keys"), "attention"), "enum"),
               job_words(JOB_VALUES_ATTENTION), "attention");
    same_words(json_get(json_get(json_get(schema.top, "properties"), "weights"), "enum"),
               job_words(JOB_VALUES_WEIGHTS), "weights");
    same_words(json_get(json_get(json_get(json_get(defs, "lora"), "properties"), "stage"), "enum"),
               job_words(JOB_VALUES_STAGE), "stage");
    same_words(json_get(json_get(json_get(json_get(defs, "lora"), "properties"), "expert"), "enum"),
               job_words(JOB_VALUES_EXPERT), "expert");
    arena_close(&schema.arena);
}

static void test_schema_documents(void **state) {
    static const char *const good[] = {
        "model: pocket\nvideos: [{prompt: a, seconds: 1}]",
        "model: pocket\nweights: fp8\nlora: [{file: a.safetensors, strength: -0.5, stage: "
        "window}]\n"
        "videos: [{prompt: a, seconds: 1, windows: overlap 5, limits: {seam: 0.1, redraws: 2}}]",
        "model: {window: a, keyframe: b}\nvideos: {file: p.csv, seeds: 1..4}",
        "model: a\ndefaults: {steps: lightx2v, guidance_low: 2}\nvideos: [{prompt: a, frames: 17, "
        "end_image: b.png, keyframe: {sigmas: [1, 0.5, 0]}, window: {timesteps: [1000, 500]}}]",
        "model: pocket\noutput: {size: [160, 96], fps: 12.5, codec: vp9, quality: 0, overwrite: "
        "true}\nvideos: [{prompt: a, frames: 3, motion: \"\", seeds: [1, 2..5]}]",
        "model: pocket\noutput: {size: 160x96, fps: 30000/1001}\ndefaults: {shots: [{seconds: "
        "1}]}\n"
        "videos: [{file: x.txt}, {prompt: b, output: {path: x.mov}}]",
    };
    struct schema schema;
    open_schema(&schema);
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        if (!document_is_valid(&schema, good[i])) {
            print_error("the schema refuses:\n%s\n", good[i]);
            fail();
        }
    int failures = 0;
    for (size_t i = 0; i < refused_count; i++)
        if (document_is_valid(&schema, refused_files[i].yaml) != refused_files[i].beyond_schema) {
            print_error("the schema %s:\n%s\n",
                        refused_files[i].beyond_schema ? "refuses" : "accepts",
                        refused_files[i].yaml);
            failures++;
        }
    arena_close(&schema.arena);
    assert_int_equal(failures, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_schema_words),
        cmocka_unit_test(test_schema_documents),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

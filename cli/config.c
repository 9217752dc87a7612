/* Configuration files: YAML to options. */
#include "cli/config.h"

#include <string.h>

#include "base/file.h"
#include "base/yaml.h"

#define CONFIG_BYTES_MAX (64u << 10)

const char *config_path(const void *values, const struct verb *verb) {
    const char *nearest, *path = NULL;
    const struct option *option = options_find(verb, "config", &nearest);
    if (option)
        memcpy(&path, (const char *)values + option->offset, sizeof path);
    return path;
}

static enum error_code check_scalar(const struct yaml *node, const struct option *option,
                                    struct error *error) {
    bool is_text = option->type == OPTION_TEXT || option->type == OPTION_CHOICE;
    if (node->type != YAML_SCALAR)
        return error_set(error, ERR_FORMAT, "%s: expected one value, not a %s", node->key,
                         node->type == YAML_MAPPING ? "mapping" : "list");
    if (node->quoted && !is_text)
        return error_set(error, ERR_FORMAT, "%s: expected %s without quotes", node->key,
                         option->type == OPTION_FLAG ? "true or false" : "a number");
    return ERR_OK;
}

static enum error_code set_member(void *values, const struct verb *verb, const struct yaml *node,
                                  struct error *error) {
    const char *nearest;
    const struct option *option = options_find(verb, node->key, &nearest);
    if (!option && nearest)
        return error_set(error, ERR_FORMAT,
                         "%.64s is not a key of a %s's configuration: did you "
                         "mean %s?",
                         node->key, verb->name, nearest);
    if (!option)
        return error_set(error, ERR_FORMAT,
                         "%.64s is not a key of a %s's configuration: "
                         "'vidloom help %s' lists them",
                         node->key, verb->name, verb->name);
    if (option->command_line_only)
        return error_set(error, ERR_FORMAT, "%s can be given on the command line only", node->key);
    enum error_code code = check_scalar(node, option, error);
    if (code != ERR_OK)
        return code;
    if (options_set(values, option, node->text, error) != ERR_OK)
        return error_prefix(error, "%s: ", node->key);
    return ERR_OK;
}

enum error_code config_parse(void *values, const struct verb *verb, const char *name,
                             const char *text, size_t length, struct arena *arena,
                             struct error *error) {
    const struct yaml *root;
    enum error_code code = yaml_parse(&root, arena, name, text, length, error);
    if (code != ERR_OK)
        return code;
    if (root->type != YAML_MAPPING)
        return error_set(error, ERR_FORMAT, "%s:%d:%d: expected 'key: value' lines", name,
                         root->line, root->column);
    for (const struct yaml *node = root->child; node; node = node->next) {
        code = set_member(values, verb, node, error);
        if (code == ERR_OK)
            continue;
        const struct option *option = options_find(verb, node->key, &text);
        bool value_wrong = option && !option->command_line_only;
        return error_prefix(error, "%s:%d:%d: ", name, value_wrong ? node->line : node->key_line,
                            value_wrong ? node->column : node->key_column);
    }
    return ERR_OK;
}

enum error_code config_read(void *values, const struct verb *verb, const char *path,
                            struct arena *arena, struct error *error) {
    char *text;
    size_t length;
    enum error_code code = file_read(&text, &length, arena, path, CONFIG_BYTES_MAX, error);
    if (code != ERR_OK)
        return code;
    return config_parse(values, verb, path, text, length, arena, error);
}

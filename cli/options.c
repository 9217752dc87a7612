/* Options of a command line: found by name or letter, typed, bounded, spelled right. */
#include "cli/options.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"

#define CANDIDATES_MAX 64

/* -- finding ----------------------------------------------------------------------------------- */

enum error_code options_find_verb(const struct verb **out, const struct verb *const *verbs,
                                  const char *name, struct error *error) {
    const char *names[CANDIDATES_MAX + 1] = {0};
    for (int i = 0; i < CANDIDATES_MAX && verbs[i]; i++) {
        if (strcmp(verbs[i]->name, name) == 0) {
            *out = verbs[i];
            return ERR_OK;
        }
        names[i] = verbs[i]->name;
    }
    const char *nearest = text_nearest(name, names);
    if (nearest)
        return error_set(error, ERR_USAGE, "there is no verb '%.64s': did you mean '%s'?", name,
                         nearest);
    return error_set(error, ERR_USAGE, "there is no verb '%.64s': 'vidloom help' lists them", name);
}

const struct option *options_find(const struct verb *verb, const char *name, const char **nearest) {
    const char *names[CANDIDATES_MAX + 2] = {0};
    int count = 0;
    for (int i = 0; i < verb->option_count && count < CANDIDATES_MAX; i++) {
        if (strcmp(verb->options[i].name, name) == 0)
            return &verb->options[i];
        names[count++] = verb->options[i].name;
    }
    names[count] = "help";
    *nearest = text_nearest(name, names);
    return NULL;
}

static const struct option *find_letter(const struct verb *verb, char letter) {
    for (int i = 0; i < verb->option_count; i++)
        if (verb->options[i].letter == letter)
            return &verb->options[i];
    return NULL;
}

/* -- values ------------------------------------------------------------------------------------ */

static enum error_code set_int(void *member, const struct option *option, const char *text,
                               struct error *error) {
    int64_t value;
    if (!text_to_int(text, &value) || (double)value < option->min || (double)value > option->max)
        return error_set(error, ERR_USAGE, "expected a whole number from %.0f to %.0f, not '%.64s'",
                         option->min, option->max, text);
    memcpy(member, &value, sizeof value);
    return ERR_OK;
}

static enum error_code set_number(void *member, const struct option *option, const char *text,
                                  struct error *error) {
    double value;
    if (!text_to_double(text, &value) || value < option->min || value > option->max)
        return error_set(error, ERR_USAGE, "expected a number from %g to %g, not '%.64s'",
                         option->min, option->max, text);
    memcpy(member, &value, sizeof value);
    return ERR_OK;
}

static enum error_code set_choice(void *member, const struct option *option, const char *text,
                                  struct error *error) {
    struct buffer list = {0};
    for (int i = 0; option->choices[i]; i++) {
        if (strcmp(option->choices[i], text) == 0) {
            memcpy(member, &i, sizeof i);
            buffer_close(&list);
            return ERR_OK;
        }
        buffer_printf(&list, "%s%s", i ? ", " : "", option->choices[i]);
    }
    const char *nearest = text_nearest(text, option->choices);
    error_set(error, ERR_USAGE, "expected one of %s, not '%.64s'", list.data ? list.data : "",
              text);
    buffer_close(&list);
    if (nearest)
        return error_set(error, ERR_USAGE, "there is no '%.64s' here: did you mean '%s'?", text,
                         nearest);
    return ERR_USAGE;
}

static enum error_code set_size(void *member, const char *text, struct error *error) {
    uint64_t bytes;
    if (!text_to_bytes(text, &bytes))
        return error_set(error, ERR_USAGE, "expected a size such as 6GiB or 500MB, not '%.64s'",
                         text);
    memcpy(member, &bytes, sizeof bytes);
    return ERR_OK;
}

static enum error_code set_flag(void *member, const char *text, struct error *error) {
    bool value = !text || strcmp(text, "true") == 0;
    if (text && !value && strcmp(text, "false") != 0)
        return error_set(error, ERR_USAGE, "expected true or false, not '%.64s'", text);
    memcpy(member, &value, sizeof value);
    return ERR_OK;
}

enum error_code options_set(void *values, const struct option *option, const char *text,
                            struct error *error) {
    void *member = (char *)values + option->offset;
    switch (option->type) {
    case OPTION_FLAG:
        return set_flag(member, text, error);
    case OPTION_INT:
        return set_int(member, option, text, error);
    case OPTION_NUMBER:
        return set_number(member, option, text, error);
    case OPTION_SIZE:
        return set_size(member, text, error);
    case OPTION_CHOICE:
        return set_choice(member, option, text, error);
    case OPTION_TEXT:
        break;
    }
    size_t where;
    if (*text == '\0')
        return error_set(error, ERR_USAGE, "expected %s, not an empty text", option->value);
    if (!text_is_utf8(text, strlen(text), &where))
        return error_set(error, ERR_USAGE, "not UTF-8 at byte %zu", where);
    memcpy(member, &text, sizeof text);
    return ERR_OK;
}

void options_defaults(void *values, const struct verb *verb) {
    memset(values, 0, verb->values_bytes);
    for (int i = 0; i < verb->option_count; i++) {
        const struct option *option = &verb->options[i];
        /* A default that its own option refuses is our mistake: tests/cli/options.c checks all. */
        struct error ignored;
        if (option->fallback && options_set(values, option, option->fallback, &ignored) != ERR_OK)
            continue;
    }
}

/* -- the command line -------------------------------------------------------------------------- */

struct words {
    char *const *next;
    int left;
};

static const char *take_word(struct words *words) {
    if (words->left == 0)
        return NULL;
    words->left--;
    return *words->next++;
}

static enum error_code set_named(struct invocation *invocation, const struct option *option,
                                 const char *attached, struct words *words, const char *shown,
                                 struct error *error) {
    const char *text = attached;
    if (option->type == OPTION_FLAG && attached)
        return error_set(error, ERR_USAGE, "%s: takes no value", shown);
    if (option->type != OPTION_FLAG && !text)
        text = take_word(words);
    if (option->type != OPTION_FLAG && !text)
        return error_set(error, ERR_USAGE, "%s: expected %s after it", shown, option->value);
    if (options_set(invocation->values, option, text, error) != ERR_OK)
        return error_prefix(error, "%s: ", shown);
    return ERR_OK;
}

static enum error_code parse_long(struct invocation *invocation, const char *word,
                                  struct words *words, struct error *error) {
    char name[64], shown[sizeof name + 2];
    const char *equals = strchr(word, '=');
    size_t length = equals ? (size_t)(equals - word) : strlen(word);
    if (length >= sizeof name)
        length = sizeof name - 1;
    memcpy(name, word, length);
    name[length] = '\0';
    if (strcmp(name, "help") == 0) {
        invocation->help = true;
        return ERR_OK;
    }
    const char *nearest;
    const struct option *option = options_find(invocation->verb, name, &nearest);
    if (!option && nearest)
        return error_set(error, ERR_USAGE, "%s has no option --%s: did you mean --%s?",
                         invocation->verb->name, name, nearest);
    if (!option)
        return error_set(error, ERR_USAGE, "%s has no option --%s: 'vidloom help %s' lists them",
                         invocation->verb->name, name, invocation->verb->name);
    snprintf(shown, sizeof shown, "--%s", name);
    return set_named(invocation, option, equals ? equals + 1 : NULL, words, shown, error);
}

static enum error_code parse_letters(struct invocation *invocation, const char *word,
                                     struct words *words, struct error *error) {
    for (const char *at = word; *at; at++) {
        if (*at == 'h') {
            invocation->help = true;
            continue;
        }
        const char shown[3] = {'-', *at, '\0'};
        const struct option *option = find_letter(invocation->verb, *at);
        if (!option)
            return error_set(error, ERR_USAGE,
                             "%s has no option -%.8s: 'vidloom help %s' lists them",
                             invocation->verb->name, at, invocation->verb->name);
        const char *attached = option->type != OPTION_FLAG && at[1] ? at + 1 : NULL;
        if (set_named(invocation, option, attached, words, shown, error) != ERR_OK)
            return error->code;
        if (option->type != OPTION_FLAG)
            break;
    }
    return ERR_OK;
}

static enum error_code check_arguments(const struct invocation *invocation, struct error *error) {
    const struct verb *verb = invocation->verb;
    if (invocation->argument_count < verb->arguments_min)
        return error_set(error, ERR_USAGE, "%s: expected %s: 'vidloom help %s' explains",
                         verb->name, verb->arguments, verb->name);
    if (invocation->argument_count > verb->arguments_max)
        return error_set(error, ERR_USAGE, "%s: '%.64s' is one argument too many", verb->name,
                         invocation->arguments[verb->arguments_max]);
    for (int i = 0; i < invocation->argument_count; i++)
        if (*invocation->arguments[i] == '\0')
            return error_set(error, ERR_USAGE, "%s: argument %d is empty", verb->name, i + 1);
    return ERR_OK;
}

enum error_code options_parse(struct invocation *invocation, const struct verb *verb, int count,
                              char *const *words, struct error *error) {
    struct words left = {words, count};
    bool only_arguments = false;
    invocation->verb = verb;
    invocation->argument_count = 0;
    invocation->help = false;
    for (const char *word = take_word(&left); word; word = take_word(&left)) {
        enum error_code code = ERR_OK;
        if (only_arguments || word[0] != '-' || word[1] == '\0') {
            if (invocation->argument_count == VERB_ARGUMENTS_MAX)
                return error_set(error, ERR_USAGE, "more than %d arguments", VERB_ARGUMENTS_MAX);
            invocation->arguments[invocation->argument_count++] = word;
        } else if (strcmp(word, "--") == 0) {
            only_arguments = true;
        } else if (word[1] == '-') {
            code = parse_long(invocation, word + 2, &left, error);
        } else {
            code = parse_letters(invocation, word + 1, &left, error);
        }
        if (code != ERR_OK)
            return code;
    }
    return invocation->help ? ERR_OK : check_arguments(invocation, error);
}

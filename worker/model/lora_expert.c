/* Which of two experts a LoRA is for, by the names that trainers give their files. */
#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "worker/model/model.h"

/* A word begins here: "…_low", "v2Low", not "slow". */
static bool begins_word(const char *name, const char *at) {
    if (at == name || !isalpha((unsigned char)at[-1]))
        return true;
    return islower((unsigned char)at[-1]) && isupper((unsigned char)at[0]);
}

static bool says_noise(const char *name, const char *word) {
    for (const char *at = name; (at = strcasestr(at, word)) != NULL; at++) {
        const char *after = at + strlen(word);
        after += *after != 0 && strchr("_-. ", *after) != NULL;
        if (begins_word(name, at) && strncasecmp(after, "noise", 5) == 0)
            return true;
    }
    return false;
}

static bool is_token(const char *at, size_t length, const char *word) {
    return length == strlen(word) && strncasecmp(at, word, length) == 0;
}

/* Up to the extension, nothing but versions, types, ranks and steps, which have a digit, and what
 * every such file could be called. */
static bool only_versions(const char *at) {
    const char *end = strrchr(at, '.');
    end = end == NULL ? at + strlen(at) : end;
    while (at < end) {
        size_t length = strcspn(at, "_-. ");
        size_t digit = strcspn(at, "0123456789");
        if (length > 0 && digit >= length && !is_token(at, length, "lora") &&
            !is_token(at, length, "model"))
            return false;
        at += length + 1;
    }
    return true;
}

static bool says_word(const char *name, const char *word) {
    for (const char *at = name; (at = strcasestr(at, word)) != NULL; at++) {
        const char *after = at + strlen(word);
        if (begins_word(name, at) && !isalpha((unsigned char)*after) && only_versions(after))
            return true;
    }
    return false;
}

enum lora_expert model_lora_expert(const struct model_lora *lora) {
    if (lora->expert != LORA_BY_NAME)
        return lora->expert;
    const char *slash = strrchr(lora->path, '/'), *name = slash == NULL ? lora->path : slash + 1;
    bool high = says_noise(name, "high"), low = says_noise(name, "low");
    if (!high && !low) {
        high = says_word(name, "high");
        low = says_word(name, "low");
    }
    return high == low ? LORA_BOTH : high ? LORA_HIGH : LORA_LOW;
}

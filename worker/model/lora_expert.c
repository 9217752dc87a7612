/* Which of two experts a LoRA is for, by the names that trainers give their files. */
#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "worker/model/model.h"

#define SEPARATORS   "_-. ()[]+,&"
#define EPOCH_DIGITS 4 /* at least: "…_H-000020" */

/* What is said of any such file, so that a HIGH before it is not of it: no "low poly". */
static const char *const common[] = {
    "lora",      "model",     "safetensors", "adapter",   "transformer", "expert",     "scaled",
    "resized",   "pruned",    "merged",      "distilled", "distill",     "lightning",  "wan",
    "final",     "ema",       "comfy",       "comfyui",   "kijai",       "checkpoint", "noise",
    "converted", "quantized", "high",        "low",       NULL};
/* The same where a number follows: "rank_64", not "low_rank_adapter". */
static const char *const counted[] = {"rank", "dim", "alpha", "epoch", "step", "steps", NULL};

static bool is_one_of(const char *const *words, const char *at, size_t length) {
    for (; *words; words++)
        if (strlen(*words) == length && strncasecmp(*words, at, length) == 0)
            return true;
    return false;
}

/* A word begins here: "…_low", "v2Low", not "slow". */
static bool begins_word(const char *name, const char *at) {
    if (at == name || !isalpha((unsigned char)at[-1]))
        return true;
    return islower((unsigned char)at[-1]) && isupper((unsigned char)at[0]);
}

/* One ends before here: "HIGH_…", "LowV2", not "highway". */
static bool ends_word(const char *end) {
    if (!isalpha((unsigned char)*end))
        return true;
    return islower((unsigned char)end[-1]) && isupper((unsigned char)*end);
}

static bool is_capitals(const char *at, size_t length) {
    for (size_t i = 0; i < length; i++)
        if (!isupper((unsigned char)at[i]))
            return false;
    return true;
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

/* The word at `at` is about the file, not about what follows: that is a version, a type or a common
 * word, or the word's capitals set it off. */
static bool is_of_file(const char *at, size_t length) {
    const char *next = at + length + strspn(at + length, SEPARATORS);
    size_t next_length = strcspn(next, SEPARATORS);
    const char *then = next + next_length + strspn(next + next_length, SEPARATORS);
    if (strcspn(next, "0123456789") < next_length || is_one_of(common, next, next_length))
        return true;
    if (is_one_of(counted, next, next_length) && isdigit((unsigned char)*then))
        return true;
    return next_length == 0 || (is_capitals(at, length) && !is_capitals(next, next_length));
}

/* "low_rank_32", "LowRank": a way to make LoRAs, and no expert's. LOW in capitals before another
 * word is one's: "LOW_rank_32". */
static bool is_low_rank(const char *at, size_t length) {
    const char *next = at + length + strspn(at + length, SEPARATORS);
    return strncasecmp(at, "low", length) == 0 && strncasecmp(next, "rank", 4) == 0 &&
           !(is_capitals(at, length) && !is_capitals(next, 4));
}

/* `*holds` where the word is there at all. */
static bool says_word(bool *holds, const char *name, const char *word) {
    size_t length = strlen(word);
    for (const char *at = name; (at = strcasestr(at, word)) != NULL; at++) {
        if (!begins_word(name, at) || !ends_word(at + length))
            continue;
        *holds = true;
        if (!is_low_rank(at, length) && is_of_file(at, length))
            return true;
    }
    return false;
}

/* Whether a word that a single letter stands for ends what the name says: what follows is a
 * version, a type, an epoch or a common word. "ViT-L-14" and "H.264" are other things. */
static bool is_last(const char *at, size_t length) {
    const char *next = at + length + strspn(at + length, SEPARATORS);
    size_t next_length = strcspn(next, SEPARATORS), digits = strspn(next, "0123456789");
    bool counts = is_one_of(counted, next, next_length);
    if (digits > 0)
        return digits >= EPOCH_DIGITS && digits == next_length;
    return next_length == 0 || is_one_of(common, next, next_length) || counts ||
           strcspn(next, "0123456789") < next_length;
}

/* "…_H", "…-LN-v2": a word of its own, in capitals. `*holds` where it is there, but not so. */
static bool says_letter(bool *holds, const char *name, const char *word) {
    size_t length = strlen(word);
    for (const char *at = name; (at = strcasestr(at, word)) != NULL; at++) {
        if ((at > name && !strchr(SEPARATORS, at[-1])) || !strchr(SEPARATORS, at[length]))
            continue;
        bool capitals = is_capitals(at, length), last = is_last(at, length);
        *holds |= capitals || last;
        if (capitals && last)
            return true;
    }
    return false;
}

static bool says_short(bool *holds, const char *name, const char *letter, const char *letters) {
    bool one = says_letter(holds, name, letter), two = says_letter(holds, name, letters);
    return one || two;
}

/* LORA_BY_NAME: it has the words, but does not tell. */
static enum lora_expert expert_by_name(const char *path) {
    const char *slash = strrchr(path, '/'), *name = slash == NULL ? path : slash + 1;
    bool high = says_noise(name, "high"), low = says_noise(name, "low"), holds = high || low;
    if (!holds) {
        high = says_word(&holds, name, "high");
        low = says_word(&holds, name, "low");
    }
    bool against = false; /* a letter for the other: "low_noise_H" */
    if (high != low && says_short(&against, name, high ? "L" : "H", high ? "LN" : "HN"))
        high = low = false;
    if (!holds) { /* a letter is so little that one of the other kind anywhere makes it unclear */
        bool of_high = false, of_low = false;
        high = says_short(&of_high, name, "H", "HN");
        low = says_short(&of_low, name, "L", "LN");
        holds = of_high || of_low;
        if (of_high && of_low)
            high = low = false;
    }
    if (high == low)
        return holds ? LORA_BY_NAME : LORA_BOTH;
    return high ? LORA_HIGH : LORA_LOW;
}

enum lora_expert model_lora_expert(const struct model_lora *lora) {
    if (lora->expert != LORA_BY_NAME)
        return lora->expert;
    enum lora_expert expert = expert_by_name(lora->path);
    return expert == LORA_BY_NAME ? LORA_BOTH : expert;
}

bool model_lora_is_unclear(const struct model_lora *lora) {
    return lora->expert == LORA_BY_NAME && expert_by_name(lora->path) == LORA_BY_NAME;
}

/* The one file that calls SentencePiece. No exception leaves it. */
#include <cstring>
#include <exception>
#include <new>
#include <sentencepiece_processor.h>
#include <string>
#include <unistd.h>
#include <vector>

extern "C" {
#include "base/arena.h"
#include "base/file.h"
#include "worker/model/tokenizer.h"
#include "worker/model/unigram.h"
}

struct tokenizer {
    struct unigram *unigram = nullptr; /* of a tokenizer.json; else the processor is used */
    sentencepiece::SentencePieceProcessor processor;

    ~tokenizer() {
        unigram_close(&unigram);
    }
};

static bool is_json(const char *name) {
    size_t length = strlen(name);
    return length >= 5 && strcmp(name + length - 5, ".json") == 0;
}

extern "C" enum error_code tokenizer_open_memory(struct tokenizer **out, const void *bytes,
                                                 size_t length, const char *name,
                                                 struct error *error) {
    *out = nullptr;
    struct unigram *unigram = nullptr;
    enum error_code code = is_json(name) ? unigram_open(&unigram, bytes, length, name, error)
                                         : tokenizer_check(bytes, length, name, error);
    if (code != ERR_OK)
        return code;
    try {
        auto *made = new tokenizer;
        made->unigram = unigram;
        if (unigram != nullptr) {
            *out = made;
            return ERR_OK;
        }
        auto status =
            made->processor.LoadFromSerializedProto(std::string((const char *)bytes, length));
        if (!status.ok()) {
            code = error_set(error, ERR_FORMAT, "%s: SentencePiece refuses it: %.200s", name,
                             status.error_message());
        } else if (made->processor.pad_id() != TOKENIZER_PAD ||
                   made->processor.eos_id() != TOKENIZER_END) {
            code = error_set(error, ERR_UNSUPPORTED,
                             "%s: <pad> is %d and </s> is %d; expected 0 and 1 as in umT5", name,
                             made->processor.pad_id(), made->processor.eos_id());
        }
        if (code != ERR_OK)
            delete made;
        else
            *out = made;
        return code;
    } catch (const std::exception &exception) {
        if (*out == nullptr)
            unigram_close(&unigram);
        return error_set(error, ERR_MEMORY, "%s: %.200s", name, exception.what());
    }
}

extern "C" bool tokenizer_is_built(void) {
    return true;
}

extern "C" enum error_code tokenizer_open(struct tokenizer **out, const char *path,
                                          struct error *error) {
    *out = nullptr;
    struct arena arena = {};
    char *bytes = nullptr;
    size_t length = 0;
    enum error_code code = arena_open(&arena, (size_t)TOKENIZER_BYTES_MAX + 4096, error);
    if (code == ERR_OK)
        code = file_read(&bytes, &length, &arena, path, TOKENIZER_BYTES_MAX, error);
    if (code == ERR_OK)
        code = tokenizer_open_memory(out, bytes, length, path, error);
    arena_close(&arena);
    return code;
}

extern "C" enum error_code tokenizer_open_folder(struct tokenizer **out, const char *folder,
                                                 struct error *error) {
    *out = nullptr;
    char path[FILE_PATH_BYTES];
    for (const char *name : {"tokenizer.json", "spiece.model"}) {
        enum error_code code = file_join(path, folder, name, error);
        if (code != ERR_OK)
            return code;
        if (access(path, F_OK) == 0)
            return tokenizer_open(out, path, error);
    }
    return error_set(error, ERR_MISSING, "%s has neither tokenizer.json nor spiece.model", folder);
}

extern "C" void tokenizer_close(struct tokenizer **tokenizer) {
    delete *tokenizer;
    *tokenizer = nullptr;
}

extern "C" int tokenizer_pieces(const struct tokenizer *tokenizer) {
    return tokenizer->unigram != nullptr ? tokenizer->unigram->ids
                                         : tokenizer->processor.GetPieceSize();
}

extern "C" enum error_code tokenizer_encode(const struct tokenizer *tokenizer, int32_t *ids,
                                            int *count, int max, const char *text, size_t length,
                                            struct error *error) {
    if (tokenizer->unigram != nullptr) {
        enum error_code code =
            unigram_encode(tokenizer->unigram, ids, count, max - 1, text, length, error);
        ids[(*count)++] = TOKENIZER_END;
        return code;
    }
    try {
        std::vector<int> pieces;
        auto status = tokenizer->processor.Encode(std::string(text, length), &pieces);
        if (!status.ok())
            return error_set(error, ERR_FORMAT, "the text cannot be tokenised: %.200s",
                             status.error_message());
        size_t keep = pieces.size() < (size_t)max - 1 ? pieces.size() : (size_t)max - 1;
        for (size_t i = 0; i < keep; i++)
            ids[i] = pieces[i];
        ids[keep] = TOKENIZER_END;
        *count = (int)keep + 1;
        return ERR_OK;
    } catch (const std::exception &exception) {
        return error_set(error, ERR_MEMORY, "tokenising: %.200s", exception.what());
    }
}

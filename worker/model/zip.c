#include "worker/model/zip.h"

#include <stdlib.h>
#include <string.h>

#include "base/text.h"

#define LOCAL_BYTES     30 /* without name and extra field */
#define CENTRAL_BYTES   46
#define END_BYTES       22
#define LOCATOR_BYTES   20
#define END64_BYTES     56
#define COMMENT_MAX     65535
#define LOCAL_MAGIC     0x04034b50u
#define CENTRAL_MAGIC   0x02014b50u
#define END_MAGIC       0x06054b50u
#define LOCATOR_MAGIC   0x07064b50u
#define END64_MAGIC     0x06064b50u
#define EXTRA_ZIP64     1
#define FLAG_ENCRYPTED  1u
#define CENTRAL_ALL_MAX ((uint64_t)100 << 20) /* bytes of the directory */

static uint64_t number(const uint8_t *from, int bytes) {
    uint64_t value = 0;
    while (bytes-- > 0)
        value = value << 8 | from[bytes];
    return value;
}

bool zip_is(const uint8_t *bytes, size_t size) {
    return size >= 4 && number(bytes, 4) == LOCAL_MAGIC;
}

struct directory {
    uint64_t offset, size, count;
    uint64_t end; /* of everything before the end records */
};

static enum error_code bad(struct error *error, const char *what) {
    return error_set(error, ERR_FORMAT, "its ZIP directory: %s", what);
}

/* What the ZIP64 record says, where the short one's fields overflow. */
static enum error_code read_end64(struct directory *out, const uint8_t *bytes, uint64_t at,
                                  struct error *error) {
    if (at < LOCATOR_BYTES || number(bytes + at - LOCATOR_BYTES, 4) != LOCATOR_MAGIC)
        return bad(error, "the ZIP64 record is missing");
    uint64_t end64 = number(bytes + at - LOCATOR_BYTES + 8, 8), limit = at - LOCATOR_BYTES;
    if (end64 > limit || limit - end64 < END64_BYTES || number(bytes + end64, 4) != END64_MAGIC)
        return bad(error, "the ZIP64 record is not where it should be");
    out->count = number(bytes + end64 + 32, 8);
    out->size = number(bytes + end64 + 40, 8);
    out->offset = number(bytes + end64 + 48, 8);
    out->end = end64;
    return ERR_OK;
}

/* The end record is the last thing in the file, but for a comment. */
static enum error_code find_directory(struct directory *out, const uint8_t *bytes, size_t size,
                                      struct error *error) {
    if (size < END_BYTES)
        return bad(error, "the file is too short for one");
    uint64_t at = size - END_BYTES, low = at > COMMENT_MAX ? at - COMMENT_MAX : 0;
    while (number(bytes + at, 4) != END_MAGIC ||
           number(bytes + at + 20, 2) != size - at - END_BYTES)
        if (at-- == low)
            return bad(error, "there is none at the end: the file was cut short; copy it again");
    *out = (struct directory){.count = number(bytes + at + 10, 2),
                              .size = number(bytes + at + 12, 4),
                              .offset = number(bytes + at + 16, 4),
                              .end = at};
    if (number(bytes + at + 4, 2) != 0 && number(bytes + at + 4, 2) != 0xffff)
        return bad(error, "a ZIP of several disks");
    enum error_code code = ERR_OK;
    if (out->count == 0xffff || out->size == 0xffffffff || out->offset == 0xffffffff)
        code = read_end64(out, bytes, at, error);
    if (code != ERR_OK)
        return code;
    if (out->count > ZIP_MEMBERS_MAX || out->size > CENTRAL_ALL_MAX)
        return error_set(error, ERR_LIMIT, "its ZIP directory says it has %llu members; at most %d",
                         (unsigned long long)out->count, ZIP_MEMBERS_MAX);
    if (out->offset > out->end || out->size > out->end - out->offset)
        return bad(error, "it leaves the file");
    return ERR_OK;
}

/* Fields that do not fit 32 bits are in the extra field, in this order, each only if needed. */
static enum error_code read_zip64(uint64_t *stored, uint64_t *whole, uint64_t *offset,
                                  const uint8_t *extra, size_t length, struct error *error) {
    uint64_t *const fields[] = {whole, stored, offset};
    bool needed = false;
    for (int i = 0; i < 3; i++)
        needed = needed || *fields[i] == 0xffffffff;
    while (needed && length >= 4) {
        size_t id = (size_t)number(extra, 2), bytes = (size_t)number(extra + 2, 2);
        if (bytes > length - 4)
            break;
        const uint8_t *at = extra + 4;
        for (int i = 0; id == EXTRA_ZIP64 && i < 3; i++) {
            if (*fields[i] != 0xffffffff)
                continue;
            if (bytes < 8)
                return bad(error, "a ZIP64 field is missing");
            *fields[i] = number(at, 8);
            at += 8;
            bytes -= 8;
        }
        if (id == EXTRA_ZIP64)
            return ERR_OK;
        extra += 4 + bytes;
        length -= 4 + bytes;
    }
    return needed ? bad(error, "a ZIP64 field is missing") : ERR_OK;
}

/* Relative, and not out of its folder: "a/data/0". */
static bool name_is_safe(const char *name, size_t length) {
    if (length == 0 || name[0] == '/' || memchr(name, 0, length) != NULL ||
        memchr(name, '\\', length) != NULL || !text_is_utf8(name, length, NULL))
        return false;
    for (size_t i = 0; i + 1 < length; i++)
        if (name[i] == '.' && name[i + 1] == '.' && (i == 0 || name[i - 1] == '/') &&
            (i + 2 == length || name[i + 2] == '/'))
            return false;
    return true;
}

/* The local header names the same member, and its bytes lie before the directory. */
static enum error_code place(struct zip_member *member, uint64_t stored, const char *name,
                             size_t length, const uint8_t *bytes, uint64_t end,
                             struct error *error) {
    uint64_t at = member->header;
    if (at > end || end - at < LOCAL_BYTES || number(bytes + at, 4) != LOCAL_MAGIC)
        return error_set(error, ERR_FORMAT, "its ZIP member '%.128s' is not where it should be",
                         member->name);
    uint64_t before = LOCAL_BYTES + number(bytes + at + 26, 2) + number(bytes + at + 28, 2);
    if (end - at < before || end - at - before < stored || number(bytes + at + 26, 2) != length ||
        memcmp(bytes + at + LOCAL_BYTES, name, length) != 0)
        return error_set(error, ERR_FORMAT,
                         "its ZIP member '%.128s' and the header before it differ, or it leaves "
                         "the file: it was cut short; copy it again",
                         member->name);
    member->begin = at + before;
    member->end = member->begin + stored;
    return ERR_OK;
}

/* The member at `at` of the directory, and how many bytes that takes. */
static enum error_code read_member(struct zip_member *out, uint64_t *taken, struct arena *arena,
                                   const uint8_t *at, uint64_t room, const uint8_t *bytes,
                                   uint64_t end, struct error *error) {
    if (room < CENTRAL_BYTES || number(at, 4) != CENTRAL_MAGIC)
        return bad(error, "it has fewer members than it says");
    size_t length = (size_t)number(at + 28, 2), extra = (size_t)number(at + 30, 2);
    *taken = CENTRAL_BYTES + length + extra + number(at + 32, 2);
    if (*taken > room)
        return bad(error, "a member leaves it");
    const char *name = (const char *)at + CENTRAL_BYTES;
    if (!name_is_safe(name, length))
        return bad(error, "a member's name leads out of its folder, or is no UTF-8");
    uint64_t stored = number(at + 20, 4), whole = number(at + 24, 4);
    *out = (struct zip_member){.name = arena_strdup(arena, name, length),
                               .header = number(at + 42, 4),
                               .crc = (uint32_t)number(at + 16, 4)};
    if (out->name == NULL)
        return error_set(error, ERR_LIMIT, "its ZIP directory is too large");
    if (number(at + 10, 2) != 0 || (number(at + 8, 2) & FLAG_ENCRYPTED) != 0)
        return error_set(error, ERR_UNSUPPORTED,
                         "its ZIP member '%.128s' is compressed or encrypted; torch.save stores",
                         out->name);
    enum error_code code =
        read_zip64(&stored, &whole, &out->header, at + CENTRAL_BYTES + length, extra, error);
    if (code == ERR_OK && stored != whole)
        code = error_set(error, ERR_FORMAT, "its ZIP member '%.128s' is stored in another size",
                         out->name);
    return code == ERR_OK ? place(out, stored, name, length, bytes, end, error) : code;
}

static int by_header(const void *a, const void *b) {
    const struct zip_member *x = a, *y = b;
    return (x->header > y->header) - (x->header < y->header);
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const struct zip_member *)a)->name, ((const struct zip_member *)b)->name);
}

/* No byte belongs to two, no name is there twice. Leaves them in order of names. */
static enum error_code check_members(struct zip *zip, struct error *error) {
    if (zip->count == 0)
        return bad(error, "it is empty");
    qsort(zip->member, zip->count, sizeof *zip->member, by_header);
    for (size_t i = 1; i < zip->count; i++)
        if (zip->member[i].header < zip->member[i - 1].end)
            return error_set(error, ERR_FORMAT, "its ZIP members '%.128s' and '%.128s' overlap",
                             zip->member[i - 1].name, zip->member[i].name);
    qsort(zip->member, zip->count, sizeof *zip->member, by_name);
    for (size_t i = 1; i < zip->count; i++)
        if (strcmp(zip->member[i].name, zip->member[i - 1].name) == 0)
            return error_set(error, ERR_FORMAT, "its ZIP member '%.128s' is there twice",
                             zip->member[i].name);
    return ERR_OK;
}

enum error_code zip_read(struct zip *out, struct arena *arena, const uint8_t *bytes, size_t size,
                         struct error *error) {
    struct directory directory = {0};
    enum error_code code = find_directory(&directory, bytes, size, error);
    if (code != ERR_OK)
        return code;
    /* A member takes CENTRAL_BYTES at least: no count makes us reserve more than the file has. */
    if (directory.count > directory.size / CENTRAL_BYTES)
        return bad(error, "it has fewer members than it says");
    *out = (struct zip){.count = (size_t)directory.count};
    out->member = arena_array(arena, out->count, sizeof *out->member);
    if (out->member == NULL)
        return error_set(error, ERR_LIMIT, "its ZIP directory is too large");
    const uint8_t *at = bytes + directory.offset;
    uint64_t room = directory.size, taken = 0;
    for (size_t i = 0; i < out->count && code == ERR_OK; i++) {
        code =
            read_member(&out->member[i], &taken, arena, at, room, bytes, directory.offset, error);
        at += taken;
        room -= taken;
    }
    if (code == ERR_OK && room != 0)
        code = bad(error, "it has more in it than its members");
    return code == ERR_OK ? check_members(out, error) : code;
}

const struct zip_member *zip_find(const struct zip *zip, const char *name) {
    const struct zip_member key = {.name = name};
    return bsearch(&key, zip->member, zip->count, sizeof key, by_name);
}

bool zip_is_whole(const struct zip_member *member, const uint8_t *bytes) {
    uint32_t crc = UINT32_MAX;
    for (uint64_t i = member->begin; i < member->end; i++) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ ((crc & 1) != 0 ? 0xedb88320u : 0);
    }
    return ~crc == member->crc;
}

#include "tests/worker/model/zip_build.h"

#include <string.h>

void put_number(struct buffer *out, uint64_t value, int bytes) {
    for (; bytes > 0; bytes--, value >>= 8)
        buffer_add(out, &(uint8_t){(uint8_t)value}, 1);
}

static uint32_t crc_of(const uint8_t *bytes, size_t length) {
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < length; i++) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ ((crc & 1) != 0 ? 0xedb88320u : 0);
    }
    return ~crc;
}

static void put_member(struct buffer *out, struct buffer *directory, const struct zip_build *m) {
    const char *local = m->local_name != NULL ? m->local_name : m->name;
    uint64_t offset = out->length + m->offset_added, size = m->length + m->size_added;
    uint32_t crc = crc_of(m->bytes, m->length);
    put_number(out, 0x04034b50, 4);
    put_number(out, 0, 2 + 2 + 2 + 2);
    put_number(out, 0, 2);
    put_number(out, crc, 4);
    put_number(out, 0, 4 + 4);
    put_number(out, strlen(local), 2);
    put_number(out, 0, 2);
    buffer_add_text(out, local);
    buffer_add(out, m->bytes, m->length);
    put_number(directory, 0x02014b50, 4);
    put_number(directory, 0, 4);
    put_number(directory, (uint64_t)m->flags, 2);
    put_number(directory, (uint64_t)m->method, 2);
    put_number(directory, 0, 4);
    put_number(directory, crc, 4);
    put_number(directory, m->zip64 ? 0xffffffff : size, 4);
    put_number(directory, m->zip64 ? 0xffffffff : size, 4);
    put_number(directory, strlen(m->name), 2);
    put_number(directory, m->zip64 ? 28 : 0, 2);
    put_number(directory, 0, 2 + 2 + 2);
    put_number(directory, 0, 4);
    put_number(directory, m->zip64 ? 0xffffffff : offset, 4);
    buffer_add_text(directory, m->name);
    if (m->zip64) {
        put_number(directory, 1, 2);
        put_number(directory, 24, 2);
        put_number(directory, size, 8);
        put_number(directory, size, 8);
        put_number(directory, offset, 8);
    }
}

static void put_end(struct buffer *out, const struct buffer *directory, uint64_t count,
                    bool zip64) {
    uint64_t at = out->length, end64 = at + directory->length;
    buffer_add(out, directory->data, directory->length);
    if (zip64) {
        put_number(out, 0x06064b50, 4);
        put_number(out, 44, 8);
        put_number(out, 0, 4);
        put_number(out, 0, 8);
        put_number(out, count, 8);
        put_number(out, count, 8);
        put_number(out, directory->length, 8);
        put_number(out, at, 8);
        put_number(out, 0x07064b50, 4);
        put_number(out, 0, 4);
        put_number(out, end64, 8);
        put_number(out, 1, 4);
    }
    put_number(out, 0x06054b50, 4);
    put_number(out, 0, 4);
    put_number(out, zip64 ? 0xffff : count, 2);
    put_number(out, zip64 ? 0xffff : count, 2);
    put_number(out, zip64 ? 0xffffffff : directory->length, 4);
    put_number(out, zip64 ? 0xffffffff : at, 4);
    put_number(out, 0, 2);
}

struct buffer zip_build(const struct zip_build *members, size_t count, bool zip64,
                        uint64_t stated) {
    struct buffer out = {0}, directory = {0};
    for (size_t i = 0; i < count; i++)
        put_member(&out, &directory, &members[i]);
    put_end(&out, &directory, stated, zip64);
    buffer_close(&directory);
    return out;
}

/* Files of torch.save. Bytes that begin like a ZIP are one; any others are the pickle of a good
 * one, so that its checksum does not end every try. Opening ends, and what is handed out can be
 * read. */
#include <string.h>

#include "tests/fuzz/read_weights.h"
#include "tests/worker/model/zip_build.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    static const uint8_t storage[64] = {1, 2, 3};
    if (length >= 2 && memcmp(bytes, "PK", 2) == 0) {
        read_weights(bytes, length);
        return 0;
    }
    const struct zip_build members[] = {{.name = "x/data.pkl", .bytes = bytes, .length = length},
                                        {.name = "x/data/0", .bytes = storage, .length = 24},
                                        {.name = "x/data/1", .bytes = storage, .length = 64}};
    struct buffer zip = zip_build(members, 3, false, 3);
    read_weights(zip.data, zip.length);
    buffer_close(&zip);
    return 0;
}

/* Of a build without libsodium, which runs models but makes no task keys. */
#include <string.h>

#include "worker/model/fingerprint.h"

enum error_code fingerprint(struct hash *out, const char *folder, const char *const *names,
                            const struct weights *const *files, int count, struct error *error) {
    memset(out, 0, sizeof *out);
    return ERR_OK;
}

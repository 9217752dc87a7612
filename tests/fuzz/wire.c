/* Frames from outside. What is accepted can be encoded, and then is the same message. */
#include <stdlib.h>
#include <string.h>

#include "proto/message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct message first, second; /* large */
    struct error error;
    if (message_decode(&first, data, size, &error) != ERR_OK)
        return 0;
    if (message_senders(first.envelope.which_body) == 0)
        abort();
    struct buffer one = {0}, two = {0};
    /* Texts with a NUL inside get shorter, unknown fields go; nothing gets longer than its place,
     * but for numbers that were written short. */
    if (message_encode(&one, &first.envelope, &error) == ERR_OK) {
        if (message_decode(&second, one.data, one.length, &error) != ERR_OK ||
            message_encode(&two, &second.envelope, &error) != ERR_OK || one.length != two.length ||
            memcmp(one.data, two.data, one.length) != 0)
            abort();
    }
    buffer_close(&one);
    buffer_close(&two);
    return 0;
}

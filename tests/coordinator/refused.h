/* Job files that are refused, and what is said of each. */
#ifndef VIDLOOM_TESTS_COORDINATOR_REFUSED_H
#define VIDLOOM_TESTS_COORDINATOR_REFUSED_H

#include "base/error.h"
#include "fake.h"

struct refused {
    const char *yaml, *expected; /* job.yaml, and the error's text */
    enum error_code code;
    bool beyond_schema; /* no schema can say this */
};
extern const struct refused refused_files[];
extern const size_t refused_count;
extern const struct fake refused_lists; /* the prompt lists that they name */

#endif

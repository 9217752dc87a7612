/* Benchmark results: rows, as a table or JSON, and compared with an earlier result. Pure. */
#ifndef VIDLOOM_CLI_REPORT_H
#define VIDLOOM_CLI_REPORT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/arena.h"
#include "base/buffer.h"
#include "base/error.h"

#define REPORT_ROWS_MAX 256

struct report_row {
    char name[80]; /* "attention bf16 L4096 N12 E128": the same in every report */
    char unit[16]; /* "GFLOP/s", "x real time", "MiB" */
    double value;
    double share;      /* of oneDNN alone on this shape in this run; negative: does not apply */
    bool lower_better; /* memory, times */
};

struct report {
    char version[32];
    char device[128], class[64];
    struct report_row rows[REPORT_ROWS_MAX];
    int count;
};

/* A row with a printf'ed name; NULL when the report is full. */
struct report_row *report_add(struct report *report, double value, const char *unit,
                              const char *name_format, ...) PRINTF_LIKE(4, 5);

void report_table(struct buffer *out, const struct report *report);
void report_json(struct buffer *out, const struct report *report);

/* What report_json wrote. `name` is for errors. ERR_FORMAT. */
MUST_CHECK enum error_code report_parse(struct report *out, const char *name, const char *text,
                                        size_t length, struct arena *arena, struct error *error);

/* A table of then and now; a row that is worse by more than `tolerance` (0.1: a tenth) is named a
 * regression. Gives how many of them there are. Rows that only one report has are told. */
int report_compare(struct buffer *out, const struct report *now, const struct report *then,
                   double tolerance);

#endif

/* Benchmark results: rows, as a table or JSON, and compared with an earlier result. Pure. */
#ifndef VIDLOOM_CLI_BENCH_REPORT_H
#define VIDLOOM_CLI_BENCH_REPORT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/arena.h"
#include "base/buffer.h"
#include "base/error.h"

#define BENCH_ROWS_MAX 256

struct bench_row {
    char name[80]; /* "attention bf16 L4096 N12 E128": the same in every report */
    char unit[16]; /* "GFLOP/s", "x real time", "MiB" */
    double value;
    double share;      /* of the machine's measured peak, 0..1; negative: does not apply */
    bool lower_better; /* memory, times */
};

struct bench_report {
    char version[32];
    char device[128], class[64];
    struct bench_row rows[BENCH_ROWS_MAX];
    int count;
};

/* A row with a printf'ed name; NULL when the report is full. */
struct bench_row *bench_add(struct bench_report *report, double value, const char *unit,
                            const char *name_format, ...) PRINTF_LIKE(4, 5);

void bench_table(struct buffer *out, const struct bench_report *report);
void bench_json(struct buffer *out, const struct bench_report *report);

/* What bench_json wrote. `name` is for errors. ERR_FORMAT. */
MUST_CHECK enum error_code bench_parse(struct bench_report *out, const char *name, const char *text,
                                       size_t length, struct arena *arena, struct error *error);

/* A table of then and now; a row that is worse by more than `tolerance` (0.1: a tenth) is named a
 * regression. Gives how many of them there are. Rows that only one report has are told. */
int bench_compare(struct buffer *out, const struct bench_report *now,
                  const struct bench_report *then, double tolerance);

#endif

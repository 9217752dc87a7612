/* The table of bench.h as text: vidloom_kernel_bench [quick] [threads]. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/bench.h"

int main(int argc, char **argv) {
    static struct bench_row rows[BENCH_ROWS_MAX];
    struct bench_config config = {0};
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "quick") == 0) {
            config.quick = true;
        } else {
            config.threads = (int)strtol(argv[i], NULL, 10);
        }
    }
    struct error error = {0};
    int count = 0;
    enum error_code code = bench_run(rows, &count, &config, &error);
    printf("%-27s %-26s %-5s %10s %9s %9s %6s\n", "", "shape", "type", "ms", "GFLOP/s", "of",
           "share");
    for (int i = 0; i < count; i++) {
        printf("%-27s %-26s %-5s %10.3f %9.1f", rows[i].name, rows[i].shape, rows[i].dtype,
               rows[i].seconds * 1e3, rows[i].gflops);
        if (rows[i].reference > 0) {
            printf(" %9.1f %5.0f%%", rows[i].reference, rows[i].share * 100);
        }
        printf("\n");
    }
    if (code != ERR_OK) {
        fprintf(stderr, "%s: %s\n", error_name(code), error.detail);
        return error_exit_status(code);
    }
    return 0;
}

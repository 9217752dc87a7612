/* The figures of kernels/speed.h and speed_models.h, a line each:
 *
 *     vidloom_speed [--table NAME:INDEX] [--size full|small]
 *
 * "key<TAB>value<TAB>unit<TAB>what"; the first two lines are
 * "device<TAB>class<TAB>-<TAB>name" and "size<TAB>full|small". */
#include <stdio.h>
#include <string.h>

#include "worker/model/speed_models.h"

static void print(void *user, const struct figure *figure) {
    (void)printf("%s\t%.6g\t%s\t%s\n", figure->key, figure->value, figure->unit, figure->what);
    (void)fflush(stdout);
}

static enum error_code print_device(const struct speed_config *config, struct error *error) {
    struct device *device = NULL;
    struct device_info info;
    enum error_code code = config->ops->device_open(&device, &config->device, error);
    if (code != ERR_OK)
        return code;
    config->ops->device_info(device, &info);
    config->ops->device_close(&device);
    (void)printf("device\t%s\t-\t%s\nsize\t%s\n", info.class, info.name,
                 config->small ? "small" : "full");
    return ERR_OK;
}

int main(int argc, char **argv) {
    struct speed_config config = {.put = print};
    struct error error = {0};
    const char *table = "cpu";
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--table") == 0)
            table = argv[i + 1];
        if (strcmp(argv[i], "--size") == 0)
            config.small = strcmp(argv[i + 1], "small") == 0;
    }
    if (config.small)
        config.seconds = 0.02;
    enum error_code code = ops_find(&config.ops, &config.device.index, table, &error);
    if (code == ERR_OK)
        code = print_device(&config, &error);
    if (code == ERR_OK)
        code = speed_kernels(&config, &error);
    if (code == ERR_OK)
        code = speed_models(&config, &error);
    if (code == ERR_OK)
        return 0;
    (void)fprintf(stderr, "vidloom_speed: %s: %s\n", table, error.detail);
    return error_exit_status(code);
}

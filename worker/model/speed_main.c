/* The figures of kernels/speed.h and speed_models.h, a line each:
 *
 *     vidloom_speed [--table NAME:INDEX] [--size full|small] [--only GROUP[,GROUP]]
 *
 * "key<TAB>value<TAB>unit<TAB>what", and "<TAB>error" where the result was compared with f64's; the
 * first two lines are "device<TAB>class<TAB>-<TAB>name" and "size<TAB>full|small". */
#include <stdio.h>
#include <string.h>

#include "worker/model/speed_models.h"

static const struct {
    const char *name;
    enum speed_group group;
} groups[] = {
    {"attention", SPEED_ATTENTION},     {"linear", SPEED_LINEAR}, {"conv", SPEED_CONV},
    {"elementwise", SPEED_ELEMENTWISE}, {"vae", SPEED_VAE},       {"denoise", SPEED_DENOISE},
    {"denoise8", SPEED_DENOISE8}};

/* "attention,vae" to bits. */
static enum error_code read_groups(unsigned *out, const char *text, struct error *error) {
    *out = 0;
    for (const char *name = text, *end; name != NULL; name = *end == ',' ? end + 1 : NULL) {
        const size_t length = strcspn(name, ",");
        unsigned found = 0;
        end = name + length;
        for (size_t i = 0; i < sizeof groups / sizeof *groups; i++) {
            if (strlen(groups[i].name) == length && strncmp(groups[i].name, name, length) == 0)
                found = groups[i].group;
        }
        if (found == 0)
            return error_set(error, ERR_USAGE,
                             "--only: there is no group '%.*s': attention, linear, conv, "
                             "elementwise, vae, denoise and denoise8 are there",
                             (int)length, name);
        *out |= found;
    }
    return ERR_OK;
}

static void print(void *user, const struct figure *figure) {
    (void)printf("%s\t%.6g\t%s\t%s", figure->key, figure->value, figure->unit, figure->what);
    if (figure->error > 0)
        (void)printf("\t%.2g", figure->error);
    (void)printf("\n");
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

/* Of the arguments; *table is the one that they name, or the CPU's. */
static enum error_code read_arguments(struct speed_config *out, const char **table, int argc,
                                      char **argv, struct error *error) {
    enum error_code code = ERR_OK;
    for (int i = 1; i < argc && code == ERR_OK; i += 2) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (value != NULL && strcmp(argv[i], "--table") == 0)
            *table = value;
        else if (value != NULL && strcmp(argv[i], "--size") == 0 &&
                 (strcmp(value, "small") == 0 || strcmp(value, "full") == 0))
            out->small = strcmp(value, "small") == 0;
        else if (value != NULL && strcmp(argv[i], "--only") == 0)
            code = read_groups(&out->groups, value, error);
        else
            code = error_set(error, ERR_USAGE,
                             "what is '%s %s'? usage: vidloom_speed [--table NAME:INDEX] "
                             "[--size full|small] [--only GROUP[,GROUP]]",
                             argv[i], value != NULL ? value : "");
    }
    if (out->small)
        out->seconds = 0.02;
    return code == ERR_OK ? ops_find(&out->ops, &out->device.index, *table, error) : code;
}

int main(int argc, char **argv) {
    struct speed_config config = {.put = print, .groups = SPEED_ALL};
    struct error error = {0};
    const char *table = "cpu";
    enum error_code code = read_arguments(&config, &table, argc, argv, &error);
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

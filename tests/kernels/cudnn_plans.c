/* cuDNN itself has a compiled kernel for every convolution of the models' VAEs, on every kind of
 * card that we know the properties of: it is asked for plans by properties alone, without a card.
 * Nothing is run. What it would compile at run time takes half a second a plan, and is a failure
 * here. What it proposes beside the first plan is written down and read again as it was. */
#define graph_run run_nothing
/* NOLINTNEXTLINE(bugprone-suspicious-include): its graphs, for a card that is not there */
#include "kernels/cuda/convolve.c"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static const struct card {
    const char *name, *properties;
} cards[] = {
    {"H100",
     "{\"maxGridSize\":[2147483647,65535,65535],\"maxBlockSize\":[1024,1024,64],"
     "\"regsPerBlock\":65536,\"multiProcessorCount\":132,\"warpSize\":32,"
     "\"maxSharedMemoryPerBlock\":49152,\"maxSharedMemoryPerBlockOptin\":232448,"
     "\"reservedSharedMemoryPerBlock\":1024,\"maxRegistersPerSM\":65536,\"maxCtasPerSM\":32,"
     "\"maxThreadsPerBlock\":1024,\"maxThreadsPerSM\":2048,\"pciDeviceId\":9008,"
     "\"isTccDriver\":0,\"supportCoopLaunch\":1,\"totalGlobalMem\":84900000000,"
     "\"smClockRateKHz\":1980000,\"memClockRateKHz\":2619000,\"l2CacheSize\":52428800,"
     "\"cudaDeviceId\":0,\"deviceVer\":900,\"driverVer\":13000,"
     "\"deviceName\":\"NVIDIA H100 80GB HBM3\"}"},
    {"A100",
     "{\"maxGridSize\":[2147483647,65535,65535],\"maxBlockSize\":[1024,1024,64],"
     "\"regsPerBlock\":65536,\"multiProcessorCount\":108,\"warpSize\":32,"
     "\"maxSharedMemoryPerBlock\":49152,\"maxSharedMemoryPerBlockOptin\":166912,"
     "\"reservedSharedMemoryPerBlock\":1024,\"maxRegistersPerSM\":65536,\"maxCtasPerSM\":32,"
     "\"maxThreadsPerBlock\":1024,\"maxThreadsPerSM\":2048,\"pciDeviceId\":8370,"
     "\"isTccDriver\":0,\"supportCoopLaunch\":1,\"totalGlobalMem\":84900000000,"
     "\"smClockRateKHz\":1410000,\"memClockRateKHz\":1593000,\"l2CacheSize\":41943040,"
     "\"cudaDeviceId\":0,\"deviceVer\":800,\"driverVer\":13000,"
     "\"deviceName\":\"NVIDIA A100-SXM4-80GB\"}"},
    {"RTX 4090",
     "{\"maxGridSize\":[2147483647,65535,65535],\"maxBlockSize\":[1024,1024,64],"
     "\"regsPerBlock\":65536,\"multiProcessorCount\":128,\"warpSize\":32,"
     "\"maxSharedMemoryPerBlock\":49152,\"maxSharedMemoryPerBlockOptin\":101376,"
     "\"reservedSharedMemoryPerBlock\":1024,\"maxRegistersPerSM\":65536,\"maxCtasPerSM\":24,"
     "\"maxThreadsPerBlock\":1024,\"maxThreadsPerSM\":1536,\"pciDeviceId\":9860,"
     "\"isTccDriver\":0,\"supportCoopLaunch\":1,\"totalGlobalMem\":25200000000,"
     "\"smClockRateKHz\":2520000,\"memClockRateKHz\":10501000,\"l2CacheSize\":75497472,"
     "\"cudaDeviceId\":0,\"deviceVer\":890,\"driverVer\":13000,"
     "\"deviceName\":\"NVIDIA GeForce RTX 4090\"}"},
    {"RTX 5090",
     "{\"maxGridSize\":[2147483647,65535,65535],\"maxBlockSize\":[1024,1024,64],"
     "\"regsPerBlock\":65536,\"multiProcessorCount\":170,\"warpSize\":32,"
     "\"maxSharedMemoryPerBlock\":49152,\"maxSharedMemoryPerBlockOptin\":101376,"
     "\"reservedSharedMemoryPerBlock\":1024,\"maxRegistersPerSM\":65536,\"maxCtasPerSM\":24,"
     "\"maxThreadsPerBlock\":1024,\"maxThreadsPerSM\":1536,\"pciDeviceId\":11141,"
     "\"isTccDriver\":0,\"supportCoopLaunch\":1,\"totalGlobalMem\":34000000000,"
     "\"smClockRateKHz\":2407000,\"memClockRateKHz\":14001000,\"l2CacheSize\":100663296,"
     "\"cudaDeviceId\":0,\"deviceVer\":1200,\"driverVer\":13000,"
     "\"deviceName\":\"NVIDIA GeForce RTX 5090\"}"},
};

/* Convolutions of Wan2.1's VAE at 480x832 and 720x1280, of 2.2's at 704x1280, by a GPU's chunks and
 * by a CPU's, and of a pocket one. The one to 3 channels over 14 frames has a plan by halves alone.
 */
static const struct {
    struct conv_shape shape;
    struct conv_args args;
    bool residual;
} layers[] = {
    {{3, 3, 3, 1, 1, 1, 384, 384}, {.frames = 6, .height = 60, .width = 104}, false},
    {{3, 3, 3, 1, 1, 1, 384, 384}, {.frames = 6, .height = 60, .width = 104}, true},
    {{3, 3, 3, 1, 1, 1, 384, 384},
     {.history_frames = 2, .frames = 1, .height = 60, .width = 104},
     true},
    {{3, 3, 3, 1, 1, 1, 192, 192}, {.frames = 6, .height = 240, .width = 416}, true},
    {{3, 3, 3, 1, 1, 1, 96, 96}, {.frames = 6, .height = 480, .width = 832}, true},
    {{3, 3, 3, 1, 1, 1, 96, 3}, {.frames = 6, .height = 480, .width = 832}, false},
    {{3, 3, 3, 1, 1, 1, 256, 12}, {.frames = 6, .height = 352, .width = 640}, false},
    {{3, 3, 3, 1, 1, 1, 3, 96}, {.frames = 6, .height = 480, .width = 832}, false},
    {{3, 3, 3, 1, 1, 1, 12, 160}, {.frames = 6, .height = 352, .width = 640}, false},
    {{3, 3, 3, 1, 1, 1, 16, 384}, {.frames = 3, .height = 60, .width = 104}, false},
    {{3, 3, 3, 1, 1, 1, 384, 32}, {.frames = 3, .height = 60, .width = 104}, false},
    {{1, 1, 1, 1, 1, 1, 16, 16}, {.frames = 1, .height = 60, .width = 104}, false},
    {{1, 1, 1, 1, 1, 1, 192, 384}, {.frames = 4, .height = 120, .width = 208}, false},
    {{1, 1, 1, 1, 1, 1, 384, 384}, {.frames = 1, .height = 60, .width = 104}, true},
    {{1, 1, 1, 1, 1, 1, 384, 1152}, {.frames = 1, .height = 60, .width = 104}, false},
    {{1, 3, 3, 1, 1, 1, 384, 192}, {.frames = 4, .height = 120, .width = 208}, false},
    {{1, 3, 3, 1, 2, 2, 96, 96},
     {.frames = 4, .height = 480, .width = 832, .pad_bottom = 1, .pad_right = 1},
     false},
    {{3, 1, 1, 2, 1, 1, 192, 192}, {.frames = 5, .height = 120, .width = 208}, false},
    {{3, 1, 1, 1, 1, 1, 384, 768}, {.frames = 4, .height = 60, .width = 104}, false},
    {{3, 3, 3, 1, 1, 1, 24, 24}, {.frames = 6, .height = 96, .width = 160}, true},
    {{3, 3, 3, 1, 1, 1, 384, 384}, {.frames = 5, .height = 90, .width = 160}, true},
    {{3, 3, 3, 1, 1, 1, 192, 192}, {.frames = 14, .height = 240, .width = 416}, true},
    {{3, 3, 3, 1, 1, 1, 96, 96}, {.frames = 14, .height = 480, .width = 832}, true},
    {{3, 3, 3, 1, 1, 1, 96, 3}, {.frames = 14, .height = 480, .width = 832}, false},
    {{3, 3, 3, 1, 1, 1, 96, 96}, {.frames = 6, .height = 720, .width = 1280}, true},
    {{3, 3, 3, 1, 1, 1, 96, 3}, {.frames = 6, .height = 720, .width = 1280}, false},
    {{3, 3, 3, 1, 1, 1, 1024, 1024}, {.frames = 4, .height = 44, .width = 80}, true},
    {{3, 3, 3, 1, 1, 1, 1024, 512}, {.frames = 6, .height = 176, .width = 320}, false},
    {{3, 3, 3, 1, 1, 1, 512, 512}, {.frames = 6, .height = 176, .width = 320}, true},
    {{3, 3, 3, 1, 1, 1, 256, 256}, {.frames = 6, .height = 352, .width = 640}, true},
    {{3, 3, 3, 1, 1, 1, 640, 640}, {.frames = 4, .height = 44, .width = 80}, true},
    {{3, 3, 3, 1, 1, 1, 320, 320}, {.frames = 6, .height = 176, .width = 320}, true},
    {{3, 3, 3, 1, 1, 1, 160, 160}, {.frames = 6, .height = 352, .width = 640}, true},
    {{1, 1, 1, 1, 1, 1, 1024, 3072}, {.frames = 1, .height = 44, .width = 80}, false},
};

static bool left_over; /* a part, to the plain kernel */

void device_line(char out[DEVICE_LINE_BYTES], const struct device *device, const char *library,
                 size_t version) {
    (void)device, (void)library, (void)version;
    out[0] = '\0';
}

void device_fail(struct device *device, enum error_code code, const char *format, ...) {
    (void)device, (void)code;
    fail_msg("%s", format);
}

void graphs_forget(struct device *device) {
    (void)device;
}

int product_conv(struct device *device, const struct conv *conv, const struct conv_args *args) {
    (void)device, (void)conv, (void)args;
    left_over = true;
    return 0;
}

bool device_noted(struct device *device, cudaError_t code, const char *what) {
    (void)device, (void)what;
    return code == cudaSuccess;
}

bool graphs_recording(const struct device *device) {
    (void)device;
    return false;
}

cudnnStatus_t run_nothing(const struct graph_plan *plan, cudnnHandle_t handle, const int64_t *ids,
                          const void *const *data, int64_t count, void *workspace) {
    (void)plan, (void)handle, (void)ids, (void)data, (void)count, (void)workspace;
    return CUDNN_STATUS_SUCCESS;
}

/* There is nothing to measure on. */
int convolve_fastest(struct device *device, cudnnBackendDescriptor_t graph,
                     const struct conv_shape *shape, const struct conv_args *args,
                     const struct tuning_algorithm *algorithms, int count) {
    (void)device, (void)graph, (void)shape, (void)args, (void)algorithms, (void)count;
    return -1;
}

#define JSON_BYTES 65536

/* What a plan is, by cuDNN's own account. */
static const char *account(char out[JSON_BYTES], cudnnBackendDescriptor_t plan) {
    int64_t length = 0;
    assert_int_equal(cudnnBackendGetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION,
                                              CUDNN_TYPE_CHAR, JSON_BYTES, &length, out),
                     CUDNN_STATUS_SUCCESS);
    assert_true(length > 0 && length < JSON_BYTES);
    out[length] = '\0';
    return out;
}

static struct graph_plan made_again(const struct graph_card *card, cudnnBackendDescriptor_t graph,
                                    const struct tuning_algorithm *algorithm) {
    struct graph_plan out = {0};
    struct graph_builder builder = {&out, true};
    (void)graph_make_plan(&builder, card, graph, WORKSPACE_BYTES, algorithm);
    return out;
}

/* The first plan is among the proposals, which need no compiler, and is the same one when it is
 * made of its words; most others can be made of theirs, but for what wants too much memory. */
static bool plan_is_compiled(const struct graph_card *card, const struct plan *plan) {
    static char first_account[JSON_BYTES], other_account[JSON_BYTES];
    struct graph_plan own = {0};
    struct graph_builder builder = {&own, true};
    struct tuning_algorithm first, proposals[CANDIDATES_MAX];
    bool compiled = false;
    int made = 0;
    cudnnBackendDescriptor_t graph = describe(&builder, plan, card);
    graph_choose(&builder, card, graph, CUDNN_HEUR_MODE_A, WORKSPACE_BYTES, &first);
    assert_non_null(own.execution);
    account(first_account, own.execution);
    const int proposed = graph_propose(card, graph, proposals, CANDIDATES_MAX);
    for (int i = 0; i < proposed; i++) {
        struct graph_plan other = made_again(card, graph, &proposals[i]);
        made += other.execution != NULL;
        if (same_algorithm(&first, &proposals[i])) {
            assert_non_null(other.execution);
            assert_string_equal(first_account, account(other_account, other.execution));
            compiled = true;
        }
        graph_plan_free(&other);
    }
    graph_plan_free(&own);
    assert_true(2 * made > proposed);
    return compiled;
}

static void check_layer(const struct card *card, cudnnBackendDescriptor_t properties, size_t i) {
    struct convolve convolve = {.card = {.properties = properties}};
    struct device device = {.convolve = &convolve};
    struct error error;
    const struct conv conv = {.shape = layers[i].shape, .dtype = DTYPE_BF16};
    const struct conv_shape *shape = &conv.shape;
    struct conv_args args = layers[i].args;
    const char *fault = NULL;
    if (args.pad_bottom == 0) {
        args.pad_top = args.pad_bottom = shape->kernel_h / 2;
        args.pad_left = args.pad_right = shape->kernel_w / 2;
    }
    args.in = args.out = (void *)(uintptr_t)4096; /* aligned; nobody looks */
    args.residual = layers[i].residual ? args.out : NULL;
    left_over = false;
    assert_int_equal(tuning_open(&convolve.tuning, NULL, "convolutions", "none", &error), ERR_OK);
    if (!convolve_run(&device, &conv, &args) || left_over) {
        fault = "no plan";
    }
    while (convolve.plans != NULL) {
        struct plan *plan = convolve.plans;
        if (plan->graph.execution != NULL && !plan_is_compiled(&convolve.card, plan)) {
            fault = "compiled at run time";
        }
        convolve.plans = plan->next;
        plan_free(plan);
    }
    if (fault != NULL) {
        char why[256];
        cudnnGetLastErrorString(why, sizeof why);
        fail_msg("%s, %dx%dx%d, %d to %d channels%s, %lld frames: %s: %s", card->name,
                 shape->kernel_t, shape->kernel_h, shape->kernel_w, shape->in_channels,
                 shape->out_channels, args.residual != NULL ? " and a residual" : "",
                 (long long)args.frames, fault, why);
    }
    tuning_close(&convolve.tuning);
}

static void convolutions_have_compiled_kernels(void **state) {
    (void)state;
    for (size_t c = 0; c < sizeof cards / sizeof *cards; c++) {
        struct graph_plan kept = {0};
        struct graph_builder builder = {&kept, true};
        cudnnBackendDescriptor_t properties =
            graph_make(&builder, CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
        graph_put(&builder, properties, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR,
                  (int64_t)strlen(cards[c].properties), cards[c].properties);
        graph_finish(&builder, properties);
        assert_true(builder.ok);
        for (size_t i = 0; i < sizeof layers / sizeof *layers; i++) {
            check_layer(&cards[c], properties, i);
        }
        graph_plan_free(&kept);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(convolutions_have_compiled_kernels)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

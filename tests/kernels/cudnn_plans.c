/* cuDNN itself has a compiled kernel for every convolution of the models' VAEs, on every kind of
 * card that we know the properties of: it is asked for plans by properties alone, without a card.
 * Nothing is run. What it would compile at run time takes half a second a plan, and is a failure
 * here. */
/* NOLINTNEXTLINE(bugprone-suspicious-include): another graph_choose and graph_run for its graphs */
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

static cudnnBackendDescriptor_t properties;  /* of the card that is asked about */
static bool compiled_at_run_time, left_over; /* a plan; a part, to the plain kernel */

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

static int64_t get(cudnnBackendDescriptor_t from, cudnnBackendAttributeName_t name,
                   cudnnBackendAttributeType_t type, int64_t most, void *out) {
    int64_t count = 0;
    assert_int_equal(cudnnBackendGetAttribute(from, name, type, most, &count, out),
                     CUDNN_STATUS_SUCCESS);
    return count;
}

static bool runs_a_compiler(struct graph_builder *builder, cudnnBackendDescriptor_t config) {
    cudnnBackendBehaviorNote_t notes[CUDNN_BEHAVIOR_NOTE_TYPE_COUNT];
    cudnnBackendDescriptor_t engine = graph_make(builder, CUDNN_BACKEND_ENGINE_DESCRIPTOR);
    (void)get(config, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &engine);
    int64_t count = get(engine, CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE, CUDNN_TYPE_BEHAVIOR_NOTE,
                        CUDNN_BEHAVIOR_NOTE_TYPE_COUNT, notes);
    for (int64_t i = 0; i < count; i++) {
        if (notes[i] == CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION) {
            return true;
        }
    }
    return false;
}

/* NULL: cuDNN makes none of it, or it wants more memory. */
static cudnnBackendDescriptor_t plan_of_choice(struct graph_plan *kept,
                                               cudnnBackendDescriptor_t config, size_t workspace) {
    struct graph_builder builder = {kept, true};
    int64_t bytes = 0;
    cudnnBackendDescriptor_t plan = graph_make(&builder, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    graph_link(&builder, plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, config);
    graph_link(&builder, plan, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, properties);
    graph_finish(&builder, plan);
    if (!builder.ok) {
        return NULL;
    }
    (void)get(plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &bytes);
    return bytes <= (int64_t)workspace ? plan : NULL;
}

#define CHOICES 8 /* as cudnn_plan.c */

/* cudnn_plan.c's, for properties in the place of a card, and without its fallback. */
void graph_choose(struct graph_builder *builder, cudnnHandle_t handle,
                  const cudnnBackendDescriptor_t *operations, int64_t count, size_t workspace) {
    const cudnnBackendHeurMode_t mode = CUDNN_HEUR_MODE_A;
    (void)handle;
    cudnnBackendDescriptor_t set = graph_make(builder, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    graph_put(builder, set, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, count,
              operations);
    graph_finish(builder, set);
    cudnnBackendDescriptor_t order = graph_make(builder, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    graph_link(builder, order, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, set);
    graph_put(builder, order, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
    graph_link(builder, order, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, properties);
    graph_finish(builder, order);
    cudnnBackendDescriptor_t configs[CHOICES];
    for (int i = 0; i < CHOICES; i++) {
        configs[i] = graph_make(builder, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    }
    assert_true(builder->ok);
    int64_t choices =
        get(order, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, CHOICES, configs);
    for (int64_t i = 0; i < choices && builder->plan->execution == NULL; i++) {
        builder->plan->execution = plan_of_choice(builder->plan, configs[i], workspace);
        compiled_at_run_time = compiled_at_run_time || (builder->plan->execution != NULL &&
                                                        runs_a_compiler(builder, configs[i]));
    }
}

cudnnStatus_t graph_run(const struct graph_plan *plan, cudnnHandle_t handle, const int64_t *ids,
                        const void *const *data, int64_t count, void *workspace) {
    (void)plan, (void)handle, (void)ids, (void)data, (void)count, (void)workspace;
    return CUDNN_STATUS_SUCCESS;
}

static void check_layer(const char *card, size_t i) {
    struct device device = {.convolve = calloc(1, sizeof *device.convolve)};
    const struct conv conv = {.shape = layers[i].shape, .dtype = DTYPE_BF16};
    const struct conv_shape *shape = &conv.shape;
    struct conv_args args = layers[i].args;
    if (args.pad_bottom == 0) {
        args.pad_top = args.pad_bottom = shape->kernel_h / 2;
        args.pad_left = args.pad_right = shape->kernel_w / 2;
    }
    args.in = args.out = (void *)(uintptr_t)4096; /* aligned; nobody looks */
    args.residual = layers[i].residual ? args.out : NULL;
    compiled_at_run_time = left_over = false;
    assert_non_null(device.convolve);
    if (!convolve_run(&device, &conv, &args) || left_over || compiled_at_run_time) {
        char why[256];
        cudnnGetLastErrorString(why, sizeof why);
        fail_msg("%s, %dx%dx%d, %d to %d channels%s, %lld frames: %s: %s", card, shape->kernel_t,
                 shape->kernel_h, shape->kernel_w, shape->in_channels, shape->out_channels,
                 args.residual != NULL ? " and a residual" : "", (long long)args.frames,
                 compiled_at_run_time ? "compiled at run time" : "no plan", why);
    }
    convolve_close(&device);
}

static void convolutions_have_compiled_kernels(void **state) {
    (void)state;
    for (size_t c = 0; c < sizeof cards / sizeof *cards; c++) {
        struct graph_plan kept = {0};
        struct graph_builder builder = {&kept, true};
        properties = graph_make(&builder, CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
        graph_put(&builder, properties, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR,
                  (int64_t)strlen(cards[c].properties), cards[c].properties);
        graph_finish(&builder, properties);
        assert_true(builder.ok);
        for (size_t i = 0; i < sizeof layers / sizeof *layers; i++) {
            check_layer(cards[c].name, i);
        }
        graph_plan_free(&kept);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(convolutions_have_compiled_kernels)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Frames in the memory of an NVIDIA card, for encoders that take them from there. */
#include "worker/media/internal.h"

/* FFmpeg's header wants two types of CUDA's, which are pointers: its own header is not needed to
 * build this, nor its libraries. */
#define CUDA_VERSION 0
typedef struct CUctx_st *CUcontext;
typedef struct CUstream_st *CUstream;
#include <libavutil/hwcontext_cuda.h>

bool media_has_cuda(void) {
    enum AVHWDeviceType type = AV_HWDEVICE_TYPE_NONE;
    while ((type = av_hwdevice_iterate_types(type)) != AV_HWDEVICE_TYPE_NONE)
        if (type == AV_HWDEVICE_TYPE_CUDA)
            return true;
    return false;
}

/* The context stays the caller's. */
static int open_device(AVBufferRef **out, void *cuda) {
    *out = av_hwdevice_ctx_alloc(AV_HWDEVICE_TYPE_CUDA);
    if (!*out)
        return AVERROR(ENOMEM);
    AVHWDeviceContext *device = (AVHWDeviceContext *)(*out)->data;
    ((AVCUDADeviceContext *)device->hwctx)->cuda_ctx = cuda;
    return av_hwdevice_ctx_init(*out);
}

static int open_frames(AVBufferRef **out, AVBufferRef *device, int width, int height) {
    *out = av_hwframe_ctx_alloc(device);
    if (!*out)
        return AVERROR(ENOMEM);
    AVHWFramesContext *frames = (AVHWFramesContext *)(*out)->data;
    frames->format = AV_PIX_FMT_CUDA;
    frames->sw_format = AV_PIX_FMT_NV12;
    frames->width = width;
    frames->height = height;
    return av_hwframe_ctx_init(*out);
}

enum error_code media_card_frames(AVBufferRef **out, void *cuda, int width, int height,
                                  struct error *error) {
    AVBufferRef *device = NULL;
    *out = NULL;
    int number = open_device(&device, cuda);
    if (number >= 0)
        number = open_frames(out, device, width, height);
    av_buffer_unref(&device);
    if (number >= 0)
        return ERR_OK;
    av_buffer_unref(out);
    return media_error(error, number, ERR_DEVICE, "frames on the card");
}

#include "worker/agent_internal.h"

/* Leases to hold at once: one runs, the next is here when it ends, so the device never waits for
 * the coordinator's commit. */
#define SLOTS        2
#define HELLO_MAX_NS (32 * CLOCK_S)

/* True when it was queued. */
static bool say(struct agent *agent) {
    struct error error;
    enum error_code code = message_encode(&agent->frame, &agent->out, &error);
    if (code == ERR_OK)
        code = endpoint_send(agent->endpoint, 0, agent->frame.data, agent->frame.length, &error);
    if (code != ERR_OK && code != ERR_BUSY)
        log_line(agent->config.log, LOG_WARNING, "worker", "%s not sent: %s",
                 message_name(agent->out.which_body), error.detail);
    return code == ERR_OK;
}

void agent_say_hello(struct agent *agent, int64_t now) {
    message_begin(&agent->out, vidloom_Envelope_hello_tag);
    vidloom_Hello *hello = &agent->out.body.hello;
    message_set_text(hello->name, sizeof hello->name, agent->config.name);
    message_set_text(hello->class, sizeof hello->class, agent->device.class);
    message_set_text(hello->device, sizeof hello->device, agent->device.name);
    message_set_text(hello->program, sizeof hello->program, VIDLOOM_VERSION);
    hello->threads = (uint32_t)agent->device.threads;
    hello->memory = agent->device.memory;
    hello->kinds = agent->config.kinds ? agent->config.kinds : (1u << WORK_KIND_COUNT) - 1;
    hello->nonce = agent->nonce;
    agent->hello_ns = now + agent->hello_pause_ns;
    if (!say(agent))
        return; /* nobody is there to be spared */
    agent->hello_pause_ns *= 2;
    if (agent->hello_pause_ns > HELLO_MAX_NS)
        agent->hello_pause_ns = HELLO_MAX_NS;
}

void agent_say_plain(struct agent *agent, pb_size_t body) {
    message_begin(&agent->out, body);
    say(agent);
}

void agent_say_request(struct agent *agent) {
    message_begin(&agent->out, vidloom_Envelope_request_work_tag);
    agent->out.body.request_work.slots = agent_is_leaving(agent) || agent->stalled ? 0 : SLOTS;
    say(agent);
}

void agent_say_result(struct agent *agent, const struct work *work) {
    message_begin(&agent->out, vidloom_Envelope_result_tag);
    vidloom_Result *result = &agent->out.body.result;
    message_set_hash(result->key, &work->key);
    result->epoch = work->epoch;
    result->code = (uint32_t)work->code;
    if (work->code != ERR_OK)
        message_set_text(result->detail, sizeof result->detail, work->error.detail);
    result->outputs_count = (pb_size_t)work->result.output_count;
    for (int i = 0; i < work->result.output_count; i++) {
        const struct stage_artifact *output = &work->result.outputs[i];
        message_set_text(result->outputs[i].name, sizeof result->outputs[i].name, output->name);
        message_set_hash(result->outputs[i].hash, &output->hash);
        result->outputs[i].size = output->size;
    }
    result->has_measures = work->result.measured;
    result->measures = (vidloom_Measures){.colour = work->result.measures.colour,
                                          .luminance = work->result.measures.luminance,
                                          .sharpness = work->result.measures.sharpness,
                                          .seam = work->result.measures.seam};
    result->object_missing = work->result.object_missing;
    message_set_hash(result->object, &work->result.object);
    result->milliseconds = (uint64_t)(work->seconds * 1e3);
    say(agent);
}

void agent_say_progress(struct agent *agent, const struct compute_progress *progress, int64_t now) {
    message_begin(&agent->out, vidloom_Envelope_progress_tag);
    vidloom_Progress *body = &agent->out.body.progress;
    message_set_hash(body->key, &progress->key);
    body->epoch = progress->epoch;
    body->step = (uint32_t)progress->step;
    body->steps = (uint32_t)progress->steps;
    if (progress->steps > 0)
        body->fraction =
            progress->step < progress->steps ? (double)progress->step / progress->steps : 1;
    if (say(agent) && progress->running) {
        agent->seen_said = true;
        agent->progress_ns = now;
    }
}

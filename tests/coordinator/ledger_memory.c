/* Rows are kept in arrays in the order in which they came; results also in a hash table. It must
 * behave as ledger_sqlite.c does: one test runs against both. */
#include "tests/coordinator/ledger_memory.h"

#include <stdlib.h>
#include <string.h>

struct job_row {
    struct ledger_job row;
    char *name, *yaml, *document, *submission;
};
struct video_row {
    struct ledger_video row;
    char *class, *detail;
};
struct result_row {
    struct ledger_result row;
    char *class;
    int next; /* in its bucket; -1: the last */
    bool gone;
};
struct attempt_row {
    struct ledger_attempt row;
    char *worker, *class, *detail;
};
struct publication_row {
    struct ledger_publication row;
    char *path, *staged;
};
struct event_row {
    struct ledger_event row;
    char *text;
};

struct table {
    void *rows;
    size_t count, capacity;
};

struct ledger_memory {
    struct ledger ledger;
    struct table jobs, videos, results, attempts, publications, events;
    int *buckets; /* of results; first row, or -1 */
    size_t bucket_count;
};

static void *table_add(struct table *table, size_t size) {
    if (table->count == table->capacity) {
        size_t capacity = table->capacity ? 2 * table->capacity : 16;
        void *rows = realloc(table->rows, capacity * size);
        if (!rows)
            return NULL;
        table->rows = rows;
        table->capacity = capacity;
    }
    void *row = (char *)table->rows + table->count++ * size;
    memset(row, 0, size);
    return row;
}

static char *copy(const char *text) {
    return strdup(text ? text : "");
}

static char *copy_bytes(const char *bytes, size_t length) {
    char *made = malloc(length + 1);
    if (made) {
        if (length)
            memcpy(made, bytes, length);
        made[length] = '\0';
    }
    return made;
}

static size_t bucket_of(const struct ledger_memory *self, const struct hash *key) {
    uint64_t number;
    memcpy(&number, key->bytes, sizeof number);
    return number & (self->bucket_count - 1);
}

static struct result_row *find_result(const struct ledger_memory *self, const struct hash *key,
                                      const char *class) {
    struct result_row *rows = self->results.rows;
    if (!self->bucket_count)
        return NULL;
    for (int at = self->buckets[bucket_of(self, key)]; at >= 0; at = rows[at].next)
        if (!rows[at].gone && hash_equal(&rows[at].row.key, key) && !strcmp(rows[at].class, class))
            return &rows[at];
    return NULL;
}

static bool add_result(struct ledger_memory *self, const struct ledger_result *result) {
    struct result_row *row = find_result(self, &result->key, result->class);
    if (row) {
        row->row.job = result->job;
        row->row.result = result->result;
        return true;
    }
    if (self->results.count >= self->bucket_count) {
        size_t count = self->bucket_count ? 2 * self->bucket_count : 64;
        int *buckets = malloc(count * sizeof *buckets);
        if (!buckets)
            return false;
        for (size_t i = 0; i < count; i++)
            buckets[i] = -1;
        free(self->buckets);
        self->buckets = buckets;
        self->bucket_count = count;
        struct result_row *rows = self->results.rows;
        for (size_t i = 0; i < self->results.count; i++) {
            size_t at = bucket_of(self, &rows[i].row.key);
            rows[i].next = buckets[at];
            buckets[at] = (int)i;
        }
    }
    row = table_add(&self->results, sizeof *row);
    if (!row)
        return false;
    row->row = *result;
    row->class = copy(result->class);
    row->row.class = row->class;
    size_t at = bucket_of(self, &result->key);
    row->next = self->buckets[at];
    self->buckets[at] = (int)self->results.count - 1;
    return row->class != NULL;
}

static struct job_row *find_job(const struct ledger_memory *self, uint64_t id) {
    struct job_row *rows = self->jobs.rows;
    for (size_t i = 0; i < self->jobs.count; i++)
        if (rows[i].row.id == id)
            return &rows[i];
    return NULL;
}

static struct publication_row *find_publication(const struct ledger_memory *self,
                                                const char *path) {
    struct publication_row *rows = self->publications.rows;
    for (size_t i = 0; i < self->publications.count; i++)
        if (!strcmp(rows[i].path, path))
            return &rows[i];
    return NULL;
}

static bool add_job(struct ledger_memory *self, const struct ledger_job *job) {
    struct job_row *row = table_add(&self->jobs, sizeof *row);
    if (!row)
        return false;
    row->row = *job;
    row->row.name = row->name = copy(job->name);
    row->row.yaml = row->yaml = copy_bytes(job->yaml, job->yaml_length);
    row->row.document = row->document = copy_bytes(job->document, job->document_length);
    row->row.submission = row->submission = copy(job->submission);
    return row->name && row->yaml && row->document && row->submission;
}

static void set_job_state(struct ledger_memory *self, const struct ledger_job *job) {
    struct job_row *row = find_job(self, job->id);
    if (row)
        row->row.state = job->state;
}

static bool put_video(struct ledger_memory *self, const struct ledger_video *video) {
    struct video_row *rows = self->videos.rows, *row = NULL;
    for (size_t i = 0; i < self->videos.count && !row; i++)
        if (rows[i].row.job == video->job && rows[i].row.video == video->video)
            row = &rows[i];
    if (!row && !(row = table_add(&self->videos, sizeof *row)))
        return false;
    free(row->class);
    free(row->detail);
    row->row = *video;
    row->row.class = row->class = copy(video->class);
    row->row.detail = row->detail = copy(video->detail);
    return row->class && row->detail;
}

static void set_result_gone(struct ledger_memory *self, const struct ledger_result *result) {
    struct result_row *row = find_result(self, &result->key, result->class);
    if (row)
        row->gone = true;
}

static bool add_attempt(struct ledger_memory *self, const struct ledger_attempt *attempt) {
    struct attempt_row *row = table_add(&self->attempts, sizeof *row);
    if (!row)
        return false;
    row->row = *attempt;
    row->row.worker = row->worker = copy(attempt->worker);
    row->row.class = row->class = copy(attempt->class);
    row->row.detail = row->detail = copy(attempt->detail);
    return row->worker && row->class && row->detail;
}

static bool put_publication(struct ledger_memory *self,
                            const struct ledger_publication *publication) {
    struct publication_row *row = find_publication(self, publication->path);
    if (!row && !(row = table_add(&self->publications, sizeof *row)))
        return false;
    char *path = copy(publication->path), *staged = copy(publication->staged);
    bool replaces = row->path && (row->row.done || row->row.replaces);
    free(row->path);
    free(row->staged);
    row->row = *publication;
    row->row.replaces = replaces || row->row.done;
    row->row.path = row->path = path;
    row->row.staged = row->staged = staged;
    return path && staged;
}

static bool add_event(struct ledger_memory *self, const struct ledger_event *event) {
    struct event_row *row = table_add(&self->events, sizeof *row);
    if (!row)
        return false;
    row->row = *event;
    row->row.text = row->text = copy(event->text);
    return row->text != NULL;
}

static bool apply_one(struct ledger_memory *self, const struct ledger_record *record) {
    switch (record->kind) {
    case LEDGER_JOB:
        return add_job(self, &record->job);
    case LEDGER_JOB_STATE:
        set_job_state(self, &record->job);
        return true;
    case LEDGER_VIDEO:
        return put_video(self, &record->video);
    case LEDGER_RESULT:
        return add_result(self, &record->result);
    case LEDGER_RESULT_GONE:
        set_result_gone(self, &record->result);
        return true;
    case LEDGER_ATTEMPT:
        return add_attempt(self, &record->attempt);
    case LEDGER_PUBLICATION:
        return put_publication(self, &record->publication);
    case LEDGER_EVENT:
        return add_event(self, &record->event);
    }
    return false;
}

static enum error_code memory_apply(struct ledger *ledger, const struct ledger_record *records,
                                    size_t count, struct error *error) {
    struct ledger_memory *self = (struct ledger_memory *)ledger;
    /* The one way in which a batch can be refused, looked for before anything is changed. */
    for (size_t i = 0; i < count; i++) {
        if (records[i].kind != LEDGER_JOB)
            continue;
        const struct job_row *rows = self->jobs.rows;
        const char *submission = records[i].job.submission;
        for (size_t j = 0; j < self->jobs.count; j++)
            if (rows[j].row.id == records[i].job.id ||
                (submission && *submission && !strcmp(rows[j].submission, submission)))
                return error_set(error, ERR_BUSY,
                                 "a job with number %llu or submission key \"%s\" is there already",
                                 (unsigned long long)records[i].job.id,
                                 submission ? submission : "");
    }
    for (size_t i = 0; i < count; i++)
        if (!apply_one(self, &records[i]))
            return error_set(error, ERR_MEMORY, "no memory for the ledger");
    return ERR_OK;
}

static int compare_videos(const void *a, const void *b) {
    const struct ledger_video *left = &((const struct video_row *)a)->row,
                              *right = &((const struct video_row *)b)->row;
    if (left->job != right->job)
        return left->job < right->job ? -1 : 1;
    return left->video < right->video ? -1 : left->video > right->video;
}

static enum error_code memory_load(struct ledger *ledger, const struct ledger_visitor *visitor,
                                   struct error *error) {
    struct ledger_memory *self = (struct ledger_memory *)ledger;
    enum error_code code = ERR_OK;
    struct job_row *jobs = self->jobs.rows;
    struct video_row *videos = self->videos.rows;
    struct publication_row *publications = self->publications.rows;
    for (size_t i = 0; i < self->jobs.count && visitor->job && !code; i++)
        code = visitor->job(visitor->user, &jobs[i].row, error);
    if (self->videos.count)
        qsort(videos, self->videos.count, sizeof *videos, compare_videos);
    for (size_t i = 0; i < self->videos.count && visitor->video && !code; i++)
        code = visitor->video(visitor->user, &videos[i].row, error);
    for (size_t i = 0; i < self->publications.count && visitor->publication && !code; i++)
        if (!publications[i].row.done)
            code = visitor->publication(visitor->user, &publications[i].row, error);
    return code;
}

static enum error_code memory_find_result(struct ledger *ledger, struct task_result *out,
                                          bool *found, const struct hash *key, const char *class,
                                          struct error *error) {
    const struct result_row *row = find_result((struct ledger_memory *)ledger, key, class);
    *found = row != NULL;
    if (row)
        *out = row->row.result;
    return ERR_OK;
}

static enum error_code memory_find_publication(struct ledger *ledger,
                                               struct ledger_publication *out, bool *found,
                                               const char *path, struct buffer *texts,
                                               struct error *error) {
    const struct publication_row *row = find_publication((struct ledger_memory *)ledger, path);
    *found = false;
    if (!row)
        return ERR_OK;
    size_t length = strlen(row->path) + 1;
    texts->length = 0;
    buffer_add(texts, row->path, length);
    buffer_add(texts, row->staged, strlen(row->staged) + 1);
    if (texts->failed)
        return error_set(error, ERR_MEMORY, "no memory");
    *out = row->row;
    out->path = texts->data;
    out->staged = texts->data + length;
    *found = true;
    return ERR_OK;
}

static enum error_code memory_read_attempts(struct ledger *ledger,
                                            const struct ledger_visitor *visitor, uint64_t job,
                                            int video, int limit, struct error *error) {
    struct ledger_memory *self = (struct ledger_memory *)ledger;
    const struct attempt_row *rows = self->attempts.rows;
    size_t first = self->attempts.count;
    for (int count = 0; first > 0 && count < limit; first--)
        if (rows[first - 1].row.job == job && (video < 0 || rows[first - 1].row.video == video))
            count++;
    enum error_code code = ERR_OK;
    for (size_t i = first; i < self->attempts.count && !code; i++)
        if (rows[i].row.job == job && (video < 0 || rows[i].row.video == video))
            code = visitor->attempt(visitor->user, &rows[i].row, error);
    return code;
}

static enum error_code memory_read_events(struct ledger *ledger,
                                          const struct ledger_visitor *visitor, uint64_t job,
                                          uint64_t after, int limit, struct error *error) {
    struct ledger_memory *self = (struct ledger_memory *)ledger;
    const struct event_row *rows = self->events.rows;
    enum error_code code = ERR_OK;
    for (size_t i = (size_t)after; i < self->events.count && limit > 0 && !code; i++)
        if (!job || rows[i].row.job == job) {
            code = visitor->event(visitor->user, i + 1, &rows[i].row, error);
            limit--;
        }
    return code;
}

static bool object_is_used(const struct ledger_memory *self, const struct hash *object) {
    const struct result_row *rows = self->results.rows;
    for (size_t i = 0; i < self->results.count; i++)
        for (int j = 0; j < rows[i].row.result.output_count && !rows[i].gone; j++)
            if (hash_equal(&rows[i].row.result.outputs[j].hash, object))
                return true;
    return false;
}

static enum error_code memory_collect(struct ledger *ledger, uint64_t job,
                                      bool (*keep)(void *, const struct hash *, const char *),
                                      void (*removed)(void *, const struct hash *), void *user,
                                      struct error *error) {
    struct ledger_memory *self = (struct ledger_memory *)ledger;
    struct result_row *rows = self->results.rows;
    for (size_t i = 0; i < self->results.count; i++) {
        if (rows[i].gone || rows[i].row.job != job ||
            (keep && keep(user, &rows[i].row.key, rows[i].class)))
            continue;
        rows[i].gone = true;
        for (int j = 0; j < rows[i].row.result.output_count; j++)
            if (!object_is_used(self, &rows[i].row.result.outputs[j].hash))
                removed(user, &rows[i].row.result.outputs[j].hash);
    }
    return ERR_OK;
}

static void memory_close(struct ledger *ledger) {
    struct ledger_memory *self = (struct ledger_memory *)ledger;
    struct job_row *jobs = self->jobs.rows;
    struct video_row *videos = self->videos.rows;
    struct result_row *results = self->results.rows;
    struct attempt_row *attempts = self->attempts.rows;
    struct publication_row *publications = self->publications.rows;
    struct event_row *events = self->events.rows;
    for (size_t i = 0; i < self->jobs.count; i++) {
        free(jobs[i].name);
        free(jobs[i].yaml);
        free(jobs[i].document);
        free(jobs[i].submission);
    }
    for (size_t i = 0; i < self->videos.count; i++) {
        free(videos[i].class);
        free(videos[i].detail);
    }
    for (size_t i = 0; i < self->results.count; i++)
        free(results[i].class);
    for (size_t i = 0; i < self->attempts.count; i++) {
        free(attempts[i].worker);
        free(attempts[i].class);
        free(attempts[i].detail);
    }
    for (size_t i = 0; i < self->publications.count; i++) {
        free(publications[i].path);
        free(publications[i].staged);
    }
    for (size_t i = 0; i < self->events.count; i++)
        free(events[i].text);
    free(jobs);
    free(videos);
    free(results);
    free(attempts);
    free(publications);
    free(events);
    free(self->buckets);
    free(self);
}

static const struct ledger_table memory_table = {
    .close = memory_close,
    .apply = memory_apply,
    .load = memory_load,
    .find_result = memory_find_result,
    .find_publication = memory_find_publication,
    .read_attempts = memory_read_attempts,
    .read_events = memory_read_events,
    .collect = memory_collect,
};

enum error_code ledger_memory_open(struct ledger **out, struct error *error) {
    *out = NULL;
    struct ledger_memory *self = calloc(1, sizeof *self);
    if (!self)
        return error_set(error, ERR_MEMORY, "no memory for the ledger");
    self->ledger.table = &memory_table;
    self->ledger.leader = 1;
    *out = &self->ledger;
    return ERR_OK;
}

void ledger_memory_reopen(struct ledger *ledger) {
    ledger->leader++;
}

#include "coordinator/job_list.h"

#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/text.h"
#include "coordinator/limits.h"

struct list {
    const char *name;
    const char *text;
    size_t length, at;
    int line;
    const char *const *header;
    struct arena *scratch;
    job_list_sink sink;
    void *user;
    struct error *error;
};

static struct yaml *list_node(struct list *list, enum yaml_type type, int line, int column) {
    struct yaml *node = arena_zalloc(list->scratch, sizeof *node);
    if (node) {
        node->type = type;
        node->line = line;
        node->column = column;
    }
    return node;
}

static enum error_code list_no_memory(struct list *list) {
    return error_set(list->error, ERR_MEMORY, "%s:%d: no memory for this line", list->name,
                     list->line);
}

/* The next line, without its end: [*start, *start + *length). False at the end of the text. */
static bool list_next_line(struct list *list, const char **start, size_t *length) {
    if (list->at >= list->length)
        return false;
    const char *from = list->text + list->at;
    const char *end = memchr(from, '\n', list->length - list->at);
    size_t whole = end ? (size_t)(end - from) : list->length - list->at;
    list->at += whole + (end ? 1 : 0);
    list->line++;
    if (whole && from[whole - 1] == '\r')
        whole--;
    *start = from;
    *length = whole;
    return true;
}

static bool list_is_space(char c) {
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* -- text ------------------------------------------------------------------------------------- */

static enum error_code list_read_text(struct list *list) {
    static const char prompt_key[] = "prompt";
    const char *line;
    size_t length;
    while (list_next_line(list, &line, &length)) {
        if (length > LIMIT_PROMPT_LINE_BYTES)
            return error_set(list->error, ERR_LIMIT, "%s:%d:1: a line of %zu bytes; at most %u",
                             list->name, list->line, length, LIMIT_PROMPT_LINE_BYTES);
        size_t from = 0, to = length;
        while (from < to && list_is_space(line[from]))
            from++;
        while (to > from && list_is_space(line[to - 1]))
            to--;
        if (from == to || line[from] == '#')
            continue;
        size_t mark = list->scratch->used;
        struct yaml *row = list_node(list, YAML_MAPPING, list->line, (int)from + 1);
        struct yaml *prompt = list_node(list, YAML_SCALAR, list->line, (int)from + 1);
        char *copy = arena_strdup(list->scratch, line + from, to - from);
        if (!row || !prompt || !copy)
            return list_no_memory(list);
        prompt->key = prompt_key;
        prompt->key_line = list->line;
        prompt->key_column = (int)from + 1;
        prompt->text = copy;
        prompt->length = to - from;
        row->child = prompt;
        row->length = 1;
        enum error_code code = list->sink(list->user, row, false, list->error);
        if (code)
            return code;
        arena_reset(list->scratch, mark);
    }
    return ERR_OK;
}

/* -- CSV -------------------------------------------------------------------------------------- */

struct csv_field {
    char *text;
    size_t length;
    int line, column;
};

/* The place is the list's; columns count bytes from the start of its line. */
struct csv {
    struct list *list;
    size_t line_start;
};

static int csv_column(const struct csv *csv, size_t at) {
    return (int)(at - csv->line_start) + 1;
}

/* The character there; -1 past the end. */
static int csv_peek(const struct list *list, size_t at) {
    return at < list->length ? (unsigned char)list->text[at] : -1;
}

static void csv_skip_blank_lines(struct list *list) {
    for (;;) {
        size_t at = list->at;
        if (csv_peek(list, at) == '\r')
            at++;
        if (at >= list->length)
            list->at = list->length;
        if (csv_peek(list, at) != '\n')
            return;
        list->at = at + 1;
        list->line++;
    }
}

static enum error_code csv_too_long(const struct list *list, const struct csv_field *field) {
    return error_set(list->error, ERR_LIMIT, "%s:%d:%d: a field of more than %u bytes", list->name,
                     field->line, field->column, LIMIT_PROMPT_LINE_BYTES);
}

static enum error_code csv_read_quoted(struct csv *csv, struct csv_field *field) {
    struct list *list = csv->list;
    const char *text = list->text;
    size_t from = list->at + 1, to = from;
    /* A first pass finds the end and the length, so that the copy is exact. */
    for (;; to++) {
        if (to >= list->length)
            return error_set(list->error, ERR_FORMAT, "%s:%d:%d: a quote that is never closed",
                             list->name, field->line, field->column);
        if (text[to] == '"' && csv_peek(list, ++to) != '"')
            break;
        if (text[to] == '\n') {
            list->line++;
            csv->line_start = to + 1;
        }
        if (++field->length > LIMIT_PROMPT_LINE_BYTES)
            return csv_too_long(list, field);
    }
    if (!(field->text = arena_alloc(list->scratch, field->length + 1)))
        return list_no_memory(list);
    for (size_t put = 0; put < field->length; from++) {
        if (text[from] == '"')
            from++;
        field->text[put++] = text[from];
    }
    field->text[field->length] = '\0';
    list->at = to;
    int next = csv_peek(list, to);
    if (next >= 0 && next != ',' && next != '\n' && next != '\r')
        return error_set(list->error, ERR_FORMAT,
                         "%s:%d:%d: text after the closing quote; expected a comma or the end of "
                         "the line (a quote inside a field is written twice)",
                         list->name, list->line, csv_column(csv, to));
    return ERR_OK;
}

static enum error_code csv_read_plain(struct csv *csv, struct csv_field *field) {
    struct list *list = csv->list;
    const char *text = list->text + list->at;
    size_t left = list->length - list->at, used = 0;
    while (used < left && text[used] != ',' && text[used] != '\n' && text[used] != '"')
        used++;
    if (used < left && text[used] == '"')
        return error_set(list->error, ERR_FORMAT,
                         "%s:%d:%d: a quote inside a field that does not start with one; put the "
                         "whole field in quotes and write the inner one twice",
                         list->name, list->line, csv_column(csv, list->at + used));
    list->at += used;
    if (used && text[used - 1] == '\r' && csv_peek(list, list->at) != ',')
        used--;
    if (used > LIMIT_PROMPT_LINE_BYTES)
        return csv_too_long(list, field);
    field->length = used;
    field->text = arena_strdup(list->scratch, text, used);
    return field->text ? ERR_OK : list_no_memory(list);
}

/* Past what ends a field; *more: the record has another one. */
static enum error_code csv_read_separator(struct csv *csv, bool *more) {
    struct list *list = csv->list;
    if (csv_peek(list, list->at) == '\r')
        list->at++;
    int next = csv_peek(list, list->at);
    if (next >= 0 && next != ',' && next != '\n')
        return error_set(list->error, ERR_FORMAT, "%s:%d:%d: a carriage return inside a line",
                         list->name, list->line, csv_column(csv, list->at) - 1);
    *more = next == ',';
    if (next >= 0)
        list->at++;
    if (!*more)
        list->line++;
    return ERR_OK;
}

/* One record into fields[0..*count), texts in the scratch arena. *count 0 at the end of the text.
 */
static enum error_code csv_read_record(struct list *list, struct csv_field *fields, int *count) {
    csv_skip_blank_lines(list);
    struct csv csv = {list, list->at};
    const size_t start = list->at;
    enum error_code code = ERR_OK;
    bool more = start < list->length;
    *count = 0;
    while (more && !code) {
        if (*count == LIMIT_CSV_COLUMNS)
            return error_set(list->error, ERR_LIMIT, "%s:%d:%d: more than %d columns", list->name,
                             list->line, csv_column(&csv, list->at), LIMIT_CSV_COLUMNS);
        if (list->at - start > 16U * LIMIT_PROMPT_LINE_BYTES)
            return error_set(list->error, ERR_LIMIT, "%s:%d:1: a record of more than %u bytes",
                             list->name, list->line, 16U * LIMIT_PROMPT_LINE_BYTES);
        struct csv_field *field = &fields[(*count)++];
        *field = (struct csv_field){.line = list->line, .column = csv_column(&csv, list->at)};
        code = csv_peek(list, list->at) == '"' ? csv_read_quoted(&csv, field)
                                               : csv_read_plain(&csv, field);
        if (!code)
            code = csv_read_separator(&csv, &more);
    }
    return code;
}

/* The keys that the columns are: known ones, each once. */
static enum error_code csv_check_header(const struct list *list, const struct csv_field *header,
                                        int columns) {
    if (!columns)
        return error_set(list->error, ERR_FORMAT,
                         "%s:1:1: an empty list; expected a header that names the keys, e.g. "
                         "name,prompt,motion,seconds",
                         list->name);
    for (int i = 0; i < columns; i++) {
        bool known = false;
        for (const char *const *word = list->header; *word && !known; word++)
            known = !strcmp(*word, header[i].text);
        if (!known) {
            const char *near = text_nearest(header[i].text, list->header);
            return error_set(list->error, ERR_USAGE,
                             "%s:%d:%d: no key is called \"%.64s\"%s%s%s; the first line of a CSV "
                             "list names the keys of its columns",
                             list->name, header[i].line, header[i].column, header[i].text,
                             near ? "; did you mean \"" : "", near ? near : "", near ? "\"" : "");
        }
        for (int j = 0; j < i; j++)
            if (!strcmp(header[i].text, header[j].text))
                return error_set(list->error, ERR_FORMAT, "%s:%d:%d: two columns are called \"%s\"",
                                 list->name, header[i].line, header[i].column, header[i].text);
    }
    return ERR_OK;
}

/* A record as a mapping of what is not empty. */
static enum error_code csv_give(struct list *list, const struct csv_field *header,
                                const struct csv_field *fields, int count) {
    struct yaml *row = list_node(list, YAML_MAPPING, fields[0].line, 1);
    if (!row)
        return list_no_memory(list);
    const struct yaml **link = &row->child;
    for (int i = 0; i < count; i++) {
        if (!fields[i].length)
            continue;
        struct yaml *node = list_node(list, YAML_SCALAR, fields[i].line, fields[i].column);
        if (!node)
            return list_no_memory(list);
        node->key = header[i].text;
        node->key_line = fields[i].line;
        node->key_column = fields[i].column;
        node->text = fields[i].text;
        node->length = fields[i].length;
        *link = node;
        link = &node->next;
        row->length++;
    }
    return list->sink(list->user, row, false, list->error);
}

static enum error_code list_read_csv(struct list *list) {
    struct csv_field header[LIMIT_CSV_COLUMNS], fields[LIMIT_CSV_COLUMNS];
    int columns, count;
    list->line = 1;
    enum error_code code = csv_read_record(list, header, &columns);
    if (!code)
        code = csv_check_header(list, header, columns);
    const size_t mark = list->scratch->used;
    while (!code) {
        arena_reset(list->scratch, mark);
        code = csv_read_record(list, fields, &count);
        if (code || !count)
            break;
        if (count != columns)
            return error_set(list->error, ERR_FORMAT,
                             "%s:%d:1: %d field%s; the header names %d column%s%s", list->name,
                             fields[0].line, count, count == 1 ? "" : "s", columns,
                             columns == 1 ? "" : "s",
                             count > columns ? " (a field with a comma in it needs quotes)" : "");
        code = csv_give(list, header, fields, count);
    }
    return code;
}

/* -- JSON lines ------------------------------------------------------------------------------- */

/* json.h gives no places within a line; a key is looked for as it is usually written. */
static int json_column(const char *line, size_t length, const char *key) {
    if (key) {
        char quoted[LIMIT_NAME_BYTES];
        int bytes = snprintf(quoted, sizeof quoted, "\"%s\"", key);
        const char *found =
            bytes < (int)sizeof quoted ? memmem(line, length, quoted, (size_t)bytes) : NULL;
        if (found)
            return (int)(found - line) + 1;
    }
    return 1;
}

static struct yaml *json_to_yaml(struct list *list, const struct json *json, const char *line,
                                 size_t length, int column) {
    if (json->key)
        column = json_column(line, length, json->key);
    enum yaml_type type = json->type == JSON_ARRAY    ? YAML_SEQUENCE
                          : json->type == JSON_OBJECT ? YAML_MAPPING
                                                      : YAML_SCALAR;
    struct yaml *node = list_node(list, type, list->line, column);
    if (!node)
        return NULL;
    node->key = json->key;
    node->key_line = list->line;
    node->key_column = column;
    char number[40];
    switch (json->type) {
    case JSON_STRING:
        node->text = json->string;
        node->length = json->length;
        node->quoted = true;
        return node;
    case JSON_NUMBER:
        if (json->is_integer)
            snprintf(number, sizeof number, "%lld", (long long)json->integer);
        else
            snprintf(number, sizeof number, "%.17g", json->number);
        node->length = strlen(number);
        node->text = arena_strdup(list->scratch, number, node->length);
        return node->text ? node : NULL;
    case JSON_BOOL:
        node->text = json->boolean ? "true" : "false";
        node->length = strlen(node->text);
        return node;
    case JSON_NULL:
        node->text = "";
        return node;
    default:
        break;
    }
    const struct yaml **link = &node->child;
    for (const struct json *child = json->child; child; child = child->next) {
        struct yaml *made = json_to_yaml(list, child, line, length, column);
        if (!made)
            return NULL;
        *link = made;
        link = &made->next;
    }
    node->length = json->length;
    return node;
}

static enum error_code list_read_json(struct list *list) {
    const char *line;
    size_t length;
    while (list_next_line(list, &line, &length)) {
        size_t from = 0;
        while (from < length && list_is_space(line[from]))
            from++;
        if (from == length)
            continue;
        if (length > LIMIT_PROMPT_LINE_BYTES)
            return error_set(list->error, ERR_LIMIT, "%s:%d:1: a line of %zu bytes; at most %u",
                             list->name, list->line, length, LIMIT_PROMPT_LINE_BYTES);
        size_t mark = list->scratch->used;
        const struct json *json;
        struct error inner = {0};
        enum error_code code = json_parse(&json, list->scratch, line, length, &inner);
        if (code) {
            /* The place within the line is "1:column: "; the line is ours. */
            const char *detail = inner.detail;
            if (!strncmp(detail, "1:", 2))
                return error_set(list->error, code, "%s:%d:%s", list->name, list->line, detail + 2);
            return error_set(list->error, code, "%s:%d:1: %s", list->name, list->line, detail);
        }
        if (json->type != JSON_OBJECT)
            return error_set(list->error, ERR_FORMAT,
                             "%s:%d:%zu: expected an object, e.g. {\"prompt\": \"…\"}", list->name,
                             list->line, from + 1);
        const struct yaml *row = json_to_yaml(list, json, line, length, (int)from + 1);
        if (!row)
            return list_no_memory(list);
        code = list->sink(list->user, row, true, list->error);
        if (code)
            return code;
        arena_reset(list->scratch, mark);
    }
    return ERR_OK;
}

/* -- the door --------------------------------------------------------------------------------- */

enum error_code job_list_read(const char *name, const char *text, size_t length,
                              const char *const *header, struct arena *scratch, job_list_sink sink,
                              void *user, struct error *error) {
    struct list list = {
        .name = name,
        .text = text,
        .length = length,
        .header = header,
        .scratch = scratch,
        .sink = sink,
        .user = user,
        .error = error,
    };
    size_t where = 0;
    if (memchr(text, 0, length) || !text_is_utf8(text, length, &where)) {
        const char *nul = memchr(text, 0, length);
        if (nul && (text_is_utf8(text, length, &where) || (size_t)(nul - text) < where))
            where = (size_t)(nul - text);
        int line = 1;
        size_t start = 0;
        for (size_t i = 0; i < where; i++)
            if (text[i] == '\n') {
                line++;
                start = i + 1;
            }
        return error_set(error, ERR_FORMAT,
                         "%s:%d:%zu: byte 0x%02x is not UTF-8 text; save the list as UTF-8", name,
                         line, where - start + 1, (unsigned)(unsigned char)text[where]);
    }
    if (length >= 3 && !memcmp(text, "\xEF\xBB\xBF", 3)) {
        list.text += 3;
        list.length -= 3;
    }
    const char *dot = strrchr(name, '.');
    if (dot && (!strcmp(dot, ".txt") || !strcmp(dot, ".text")))
        return list_read_text(&list);
    if (dot && !strcmp(dot, ".csv"))
        return list_read_csv(&list);
    if (dot && (!strcmp(dot, ".jsonl") || !strcmp(dot, ".ndjson")))
        return list_read_json(&list);
    return error_set(error, ERR_USAGE,
                     "%s: expected the name of a list that ends with .txt (a prompt a line), .csv "
                     "or .jsonl",
                     name);
}

#include "cli/report.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"

#define FORMAT 1

struct report_row *report_add(struct report *report, double value, const char *unit,
                              const char *name_format, ...) {
    if (report->count == REPORT_ROWS_MAX)
        return NULL;
    struct report_row *row = &report->rows[report->count++];
    va_list arguments;
    *row = (struct report_row){.value = value, .share = -1};
    va_start(arguments, name_format);
    vsnprintf(row->name, sizeof row->name, name_format, arguments);
    va_end(arguments);
    snprintf(row->unit, sizeof row->unit, "%s", unit);
    return row;
}

static int name_width(const struct report *report) {
    int width = 20;
    for (int i = 0; i < report->count; i++) {
        int length = (int)strlen(report->rows[i].name);
        width = length > width ? length : width;
    }
    return width;
}

void report_table(struct buffer *out, const struct report *report) {
    int width = name_width(report);
    buffer_printf(out, "vidloom %s on %s (%s)\n\n", report->version, report->device, report->class);
    buffer_printf(out, "%-*s  %12s  %-14s  %s\n", width, "what", "value", "", "of oneDNN");
    for (int i = 0; i < report->count; i++) {
        const struct report_row *row = &report->rows[i];
        buffer_printf(out, "%-*s  %12.4g  %-14s", width, row->name, row->value, row->unit);
        if (row->share >= 0)
            buffer_printf(out, "  %4.0f %%", 100 * row->share);
        buffer_add_text(out, "\n");
    }
}

void report_json(struct buffer *out, const struct report *report) {
    struct json_writer writer = {.buffer = out};
    json_begin_object(&writer, NULL);
    json_put_int(&writer, "format", FORMAT);
    json_put_text(&writer, "version", report->version);
    json_put_text(&writer, "device", report->device);
    json_put_text(&writer, "class", report->class);
    json_begin_array(&writer, "rows");
    for (int i = 0; i < report->count; i++) {
        const struct report_row *row = &report->rows[i];
        json_begin_object(&writer, NULL);
        json_put_text(&writer, "name", row->name);
        json_put_double(&writer, "value", row->value);
        json_put_text(&writer, "unit", row->unit);
        if (row->share >= 0)
            json_put_double(&writer, "share", row->share);
        json_put_text(&writer, "better", row->lower_better ? "lower" : "higher");
        json_end_object(&writer);
    }
    json_end_array(&writer);
    json_end_object(&writer);
    buffer_add_text(out, "\n");
}

enum error_code report_parse(struct report *out, const char *name, const char *text, size_t length,
                             struct arena *arena, struct error *error) {
    const struct json *root;
    memset(out, 0, sizeof *out);
    if (json_parse(&root, arena, text, length, error) != ERR_OK)
        return error_prefix(error, "%s:", name);
    const struct json *rows = root->type == JSON_OBJECT ? json_get(root, "rows") : NULL;
    if (!rows || rows->type != JSON_ARRAY || json_int(root, "format", 0) != FORMAT)
        return error_set(error, ERR_FORMAT, "%s: expected what 'vidloom bench --json' printed",
                         name);
    snprintf(out->version, sizeof out->version, "%s", json_text(root, "version", "?"));
    snprintf(out->device, sizeof out->device, "%s", json_text(root, "device", "?"));
    snprintf(out->class, sizeof out->class, "%s", json_text(root, "class", "?"));
    for (const struct json *row = rows->child; row; row = row->next) {
        const char *row_name = row->type == JSON_OBJECT ? json_text(row, "name", NULL) : NULL;
        const struct json *value = row_name ? json_get(row, "value") : NULL;
        if (!value || value->type != JSON_NUMBER)
            return error_set(error, ERR_FORMAT, "%s: row %d has no name or no value", name,
                             out->count + 1);
        struct report_row *it =
            report_add(out, value->number, json_text(row, "unit", ""), "%s", row_name);
        if (!it)
            return error_set(error, ERR_LIMIT, "%s: more than %d rows", name, REPORT_ROWS_MAX);
        it->lower_better = strcmp(json_text(row, "better", "higher"), "lower") == 0;
    }
    return ERR_OK;
}

static const struct report_row *find_row(const struct report *report, const char *name) {
    for (int i = 0; i < report->count; i++)
        if (strcmp(report->rows[i].name, name) == 0)
            return &report->rows[i];
    return NULL;
}

int report_compare(struct buffer *out, const struct report *now, const struct report *then,
                   double tolerance) {
    int width = name_width(now), regressions = 0;
    if (strcmp(now->class, then->class) != 0)
        buffer_printf(out, "Another kind of device: %s then, %s now.\n", then->class, now->class);
    buffer_printf(out, "%-*s  %12s  %12s  %8s\n", width, "what", "then", "now", "change");
    for (int i = 0; i < now->count; i++) {
        const struct report_row *row = &now->rows[i], *old = find_row(then, row->name);
        if (!old || old->value <= 0) {
            buffer_printf(out, "%-*s  %12s  %12.4g\n", width, row->name, "-", row->value);
            continue;
        }
        double ratio = row->value / old->value;
        bool worse = row->lower_better ? ratio > 1 + tolerance : ratio < 1 - tolerance;
        regressions += worse;
        buffer_printf(out, "%-*s  %12.4g  %12.4g  %+6.1f %%%s\n", width, row->name, old->value,
                      row->value, 100 * (ratio - 1), worse ? "  REGRESSION" : "");
    }
    for (int i = 0; i < then->count; i++)
        if (!find_row(now, then->rows[i].name))
            buffer_printf(out, "%-*s  %12.4g  %12s\n", width, then->rows[i].name,
                          then->rows[i].value, "gone");
    return regressions;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd.h"

#include <inttypes.h>
#include <string.h>

/* A JSON writer that cannot leave a document half quoted: indented, one member a line. */

static void newline(struct cli_json *j)
{
    fputc('\n', j->out);
    for (unsigned i = 0; i < j->depth; i++)
        fputs("  ", j->out);
}

/* Bytes of the UTF-8 sequence at @s, 0 if it is malformed. */
static size_t utf8_len(const unsigned char *s)
{
    size_t n = s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;

    if (s[0] < 0xc2 || s[0] > 0xf4)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
        (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
        return 0;
    return n;
}

void cli_json_quote(FILE *out, const char *text)
{
    const unsigned char *s = (const unsigned char *)text;

    fputc('"', out);
    while (*s != '\0') {
        size_t n = 1;

        if (*s == '"' || *s == '\\') {
            fputc('\\', out);
            fputc(*s, out);
        } else if (*s == '\n') {
            fputs("\\n", out);
        } else if (*s < 0x20 || *s == 0x7f) {
            fprintf(out, "\\u%04x", *s);
        } else if (*s < 0x80) {
            fputc(*s, out);
        } else {
            n = utf8_len(s);
            if (n == 0) {
                fputs("\\ufffd", out);
                n = 1;
            } else {
                fwrite(s, 1, n, out);
            }
        }
        s += n;
    }
    fputc('"', out);
}

/* Comma, indentation and "key": before a value. */
static void lead(struct cli_json *j, const char *key)
{
    if (j->depth > 0) {
        if (j->has[j->depth - 1])
            fputc(',', j->out);
        j->has[j->depth - 1] = true;
        newline(j);
    }
    if (key != NULL) {
        cli_json_quote(j->out, key);
        fputs(": ", j->out);
    }
}

void cli_json_start(struct cli_json *j, FILE *out)
{
    memset(j, 0, sizeof *j);
    j->out = out;
}

void cli_json_finish(struct cli_json *j)
{
    fputc('\n', j->out);
}

void cli_json_open(struct cli_json *j, const char *key, char bracket)
{
    lead(j, key);
    fputc(bracket, j->out);
    if (j->depth < CLI_JSON_DEPTH)
        j->has[j->depth++] = false;
}

void cli_json_close(struct cli_json *j, char bracket)
{
    bool had = j->depth > 0 && j->has[j->depth - 1];

    if (j->depth > 0)
        j->depth--;
    if (had)
        newline(j);
    fputc(bracket, j->out);
}

void cli_json_text(struct cli_json *j, const char *key, const char *value)
{
    lead(j, key);
    if (value == NULL)
        fputs("null", j->out);
    else
        cli_json_quote(j->out, value);
}

void cli_json_int(struct cli_json *j, const char *key, int64_t value)
{
    lead(j, key);
    fprintf(j->out, "%" PRId64, value);
}

void cli_json_bool(struct cli_json *j, const char *key, bool value)
{
    lead(j, key);
    fputs(value ? "true" : "false", j->out);
}

void cli_json_time(struct cli_json *j, const char *key, int64_t unix_s)
{
    char text[CLI_TIME_SIZE];

    cli_json_text(j, key, cli_time_iso(unix_s, text));
}

void cli_json_text_if(struct cli_json *j, const char *key, const char *value)
{
    cli_json_text(j, key, value[0] != '\0' ? value : NULL);
}

void cli_json_time_if(struct cli_json *j, const char *key, int64_t unix_s)
{
    if (unix_s != 0)
        cli_json_time(j, key, unix_s);
    else
        cli_json_text(j, key, NULL);
}

void cli_json_err(struct cli_json *j, const char *key, const struct cm_err *err)
{
    cli_json_open(j, key, '{');
    cli_json_text(j, "status", cm_status_name(err->status));
    cli_json_text(j, "message", err->msg);
    if (err->problem[0] != '\0')
        cli_json_text(j, "problem", err->problem);
    if (err->http_status != 0)
        cli_json_int(j, "http_status", err->http_status);
    if (err->retry_after_s > 0)
        cli_json_int(j, "retry_after_s", err->retry_after_s);
    cli_json_close(j, '}');
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "base.h"

#include <stdio.h>
#include <string.h>

#define LOG_MSG_MAX    1024u
#define LOG_VALUE_MAX  256u
#define LOG_FIELDS_MAX 16u

void cm_logf(const struct cm_log *log, enum cm_log_level level, const char *event,
             const struct cm_log_field *fields, size_t n, const char *fmt, ...)
{
    struct cm_log_field clean[LOG_FIELDS_MAX];
    char values[LOG_FIELDS_MAX][LOG_VALUE_MAX + 1];
    char text[LOG_MSG_MAX];
    char msg[LOG_MSG_MAX];
    size_t used = 0;
    va_list ap;

    if (log == NULL || log->write == NULL || level < log->min_level)
        return;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    (void)cm_escape(text, strnlen(text, sizeof text), msg, sizeof msg);

    while (fields != NULL && used < n && used < LOG_FIELDS_MAX && fields[used].key != NULL) {
        const char *value = fields[used].value != NULL ? fields[used].value : "";

        clean[used].key = fields[used].key;
        clean[used].value = cm_escape(value, strlen(value), values[used], sizeof values[used]);
        used++;
    }
    log->write(log->user, level, event, msg, clean, used);
}

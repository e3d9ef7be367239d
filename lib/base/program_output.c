/* SPDX-License-Identifier: Apache-2.0 */
#include "program.h"

#include <string.h>

/* What a program wrote, made fit for a line of an error. */

#define SECRET_MIN 4u /* shorter ones would blot out half of any text */
#define LINES_MAX  4u

void cm_program_blot(struct cm_buf *output, const char *const *secrets)
{
    for (; secrets != NULL && *secrets != NULL && output->len > 0; secrets++) {
        size_t len = strlen(*secrets);
        uint8_t *at = output->data;
        uint8_t *end = output->data + output->len;

        while (len >= SECRET_MIN && (size_t)(end - at) >= len &&
               (at = memmem(at, (size_t)(end - at), *secrets, len)) != NULL) {
            (void)memset(at, '*', len);
            at += len;
        }
    }
}

static bool is_space(uint8_t c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t' || c == '\0';
}

/* The line that ends before @end, without the blanks around it; false when there is none. @end
 * becomes where it begins. */
static bool line_before(const struct cm_buf *b, size_t *end, struct cm_span *ret)
{
    size_t from;
    size_t to = *end;

    while (to > 0 && is_space(b->data[to - 1]))
        to--;
    from = to;
    while (from > 0 && b->data[from - 1] != '\n')
        from--;
    *end = from;
    while (from < to && is_space(b->data[from]))
        from++;
    *ret = (struct cm_span){ b->data != NULL ? b->data + from : NULL, to - from };
    return to > from;
}

const char *cm_program_quote(const struct cm_buf *output, char *out, size_t size)
{
    static const char between[] = " | ";
    struct cm_span lines[LINES_MAX];
    size_t n = 0;
    size_t used = 0;
    size_t room = 0;
    size_t end = output->len;

    if (size == 0)
        return "";
    out[0] = '\0';
    /* As many of the last lines as there is room for; at least one, should it fit or not. */
    while (n < LINES_MAX && line_before(output, &end, &lines[n])) {
        room += lines[n].len + sizeof between;
        if (n > 0 && room > size)
            break;
        n++;
    }
    while (n-- > 0) {
        (void)cm_escape((const char *)lines[n].data, lines[n].len, out + used, size - used);
        used += strlen(out + used);
        if (n == 0 || used + sizeof between > size)
            break;
        (void)memcpy(out + used, between, sizeof between);
        used += sizeof between - 1;
    }
    return out;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd.h"

#include <string.h>

/* Whether a text is JSON, without making anything of it: a state of a few bytes. */

#define DEPTH_MAX 64

struct scan {
    const uint8_t *at;
    const uint8_t *end;
};

static void blanks(struct scan *s)
{
    while (s->at < s->end && (*s->at == ' ' || *s->at == '\t' || *s->at == '\n' || *s->at == '\r'))
        s->at++;
}

static bool take(struct scan *s, uint8_t c)
{
    if (s->at == s->end || *s->at != c)
        return false;
    s->at++;
    return true;
}

static bool word(struct scan *s, const char *w)
{
    size_t n = strlen(w);

    if ((size_t)(s->end - s->at) < n || memcmp(s->at, w, n) != 0)
        return false;
    s->at += n;
    return true;
}

static bool digits(struct scan *s)
{
    const uint8_t *from = s->at;

    while (s->at < s->end && *s->at >= '0' && *s->at <= '9')
        s->at++;
    return s->at > from;
}

static bool number(struct scan *s)
{
    (void)take(s, '-');
    if (!take(s, '0') && !digits(s))
        return false;
    if (take(s, '.') && !digits(s))
        return false;
    if (take(s, 'e') || take(s, 'E')) {
        if (!take(s, '+'))
            (void)take(s, '-');
        return digits(s);
    }
    return true;
}

/* One character beyond ASCII: well-formed, no surrogate, nothing longer than needed. */
static bool utf8(struct scan *s)
{
    uint8_t c = *s->at;
    size_t n = c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
    uint32_t v = c & (0xFFu >> (n + 1));

    if (c < 0xC2 || c > 0xF4 || (size_t)(s->end - s->at) < n)
        return false;
    for (size_t i = 1; i < n; i++) {
        if ((s->at[i] & 0xC0) != 0x80)
            return false;
        v = v << 6 | (s->at[i] & 0x3Fu);
    }
    s->at += n;
    return !(n == 3 && (v < 0x800 || (v >= 0xD800 && v < 0xE000))) &&
           !(n == 4 && (v < 0x10000 || v > 0x10FFFF));
}

static bool string(struct scan *s)
{
    if (!take(s, '"'))
        return false;
    while (s->at < s->end && *s->at != '"') {
        if (*s->at < 0x20)
            return false;
        if (*s->at >= 0x80) {
            if (!utf8(s))
                return false;
        } else if (*s->at++ == '\\') {
            if (s->at == s->end || *s->at == '\0' || strchr("\"\\/bfnrtu", *s->at) == NULL)
                return false;
            if (*s->at++ == 'u')
                for (int i = 0; i < 4; i++, s->at++)
                    if (s->at == s->end || *s->at == '\0' ||
                        strchr("0123456789abcdefABCDEF", *s->at) == NULL)
                        return false;
        }
    }
    return take(s, '"');
}

/* Without recursion: @open holds the brackets that are open. */
bool cli_json_valid(struct cm_span text)
{
    struct scan s = { text.data, text.data + text.len };
    char open[DEPTH_MAX];
    size_t depth = 0;

    for (;;) {
        bool empty = false;

        /* a value, or the beginning of one */
        blanks(&s);
        if (s.at < s.end && (*s.at == '{' || *s.at == '[')) {
            if (depth == DEPTH_MAX)
                return false;
            open[depth++] = (char)*s.at++;
            blanks(&s);
            empty = s.at < s.end && *s.at == (open[depth - 1] == '{' ? '}' : ']');
            if (!empty && open[depth - 1] == '[')
                continue;
        } else if (s.at == s.end || !(*s.at == '"' ? string(&s)
                                                   : word(&s, "true") || word(&s, "false") ||
                                                         word(&s, "null") || number(&s))) {
            return false;
        } else {
            empty = true; /* it is whole: what follows is its end, or a ',' */
        }
        /* ends, then a ',' or the end of all */
        while (empty) {
            blanks(&s);
            if (depth == 0)
                return s.at == s.end;
            if (take(&s, open[depth - 1] == '{' ? '}' : ']')) {
                depth--;
                continue;
            }
            if (!take(&s, ','))
                return false;
            empty = false;
        }
        if (open[depth - 1] == '{') {
            blanks(&s);
            if (!string(&s))
                return false;
            blanks(&s);
            if (!take(&s, ':'))
                return false;
        }
    }
}

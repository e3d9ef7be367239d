/* SPDX-License-Identifier: Apache-2.0 */
#include "file.h"

#include <stdio.h>
#include <string.h>

/* How nodes on one kernel learn of each other's changes without a word on the disk: each value is
 * written to certmesh/tmp and moved from there to its place, each lock is moved there when it is
 * given back. So who watches that one directory sees all of it, however many names there are, if
 * the names in it say what they are about. Only for a removal a file is made and taken away again.
 *
 *   new-4711-12-0123456789abcdef-certificates,ca.example-dir,example.com,=.crt
 *
 * What follows the fourth '-' is the key: ',' for '/', and '=' for a component that is, or begins
 * with, the one before. These two, '%', and a space (names stand in commit records between spaces)
 * are written as in URLs. Nobody depends on it: what cannot be read is not told. */

#define SPECIAL "%,= /"
#define HYPHENS 4u

static bool put(char **at, const char *end, const char *bytes, size_t len)
{
    if ((size_t)(end - *at) < len)
        return false;
    memcpy(*at, bytes, len);
    *at += len;
    return true;
}

static bool put_component(char **at, const char *end, const char *c, size_t len, const char *before,
                          size_t before_len)
{
    static const char hex[] = "0123456789ABCDEF";
    bool repeats = before_len > 0 && len >= before_len && memcmp(c, before, before_len) == 0;
    size_t from = repeats ? before_len : 0;

    if (repeats && !put(at, end, "=", 1))
        return false;
    for (size_t i = from; i < len; i++) {
        const unsigned char byte = (unsigned char)c[i];
        const char escaped[3] = { '%', hex[byte >> 4], hex[byte & 15] };
        bool special = strchr(SPECIAL, c[i]) != NULL;

        if (!put(at, end, special ? escaped : &c[i], special ? 3 : 1))
            return false;
    }
    return true;
}

/* Components as far as they fit; *@ret_end is behind the last. False if some do not. */
static bool put_all(char *at, const char *end, const char *about, char **ret_end)
{
    const char *before = NULL;
    size_t before_len = 0;

    for (;;) {
        size_t len = strcspn(about, "/");

        if (before != NULL && !put(&at, end, ",", 1))
            return false;
        if (!put_component(&at, end, about, len, before, before_len))
            return false;
        *ret_end = at;
        if (about[len] == '\0')
            return true;
        before = about;
        before_len = len;
        about += len + 1;
    }
}

void fst_bell_name(char *name, size_t len, size_t name_max, const char *what, const char *about)
{
    size_t max = name_max < FST_NAME_MAX - 1 ? name_max : FST_NAME_MAX - 1;
    char *from = name + len;
    char *to = from;

    if (len + 2 > max)
        return;
    *from = '-';
    bool whole = put_all(from + 1, name + max, about, &to);
    if (!whole && strcmp(what, FST_BELL_LOCK) == 0)
        to = from;
    *to = '\0'; /* nothing fitted: not even the hyphen */
}

/* ------------------------------------------------------------------ parse */

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

struct decoding {
    char *out;
    size_t n;
    size_t at;     /* where the component begins */
    size_t before; /* and the one before it */
    size_t before_len;
};

static bool append(struct decoding *d, const char *bytes, size_t len)
{
    if (d->n + len > CM_STORAGE_KEY_MAX)
        return false;
    memmove(d->out + d->n, bytes, len);
    d->n += len;
    return true;
}

static bool decode_one(struct decoding *d, const char **c)
{
    if (**c == ',') {
        d->before = d->at;
        d->before_len = d->n - d->at;
        d->at = d->n + 1;
        return append(d, "/", 1);
    }
    if (**c == '=')
        return d->n == d->at && d->before_len > 0 && append(d, d->out + d->before, d->before_len);
    if (**c == '%') {
        int hi = hex_digit((*c)[1]);
        int lo = hi >= 0 ? hex_digit((*c)[2]) : -1;
        char byte = (char)(hi * 16 + lo);

        if (hi < 0 || lo < 0 || byte == '\0')
            return false;
        *c += 2;
        return append(d, &byte, 1);
    }
    return append(d, *c, 1);
}

bool fst_bell_parse(const char *name, const char **ret_what, char ret[CM_STORAGE_KEY_MAX + 1])
{
    static const char *const whats[] = { FST_BELL_NEW, FST_BELL_OLD, FST_BELL_GONE, FST_BELL_LOCK };
    size_t len = strcspn(name, "-");
    const char *what = NULL;
    struct decoding d = { .out = ret };
    const char *c = name;

    for (size_t i = 0; i < CM_ARRAY_LEN(whats); i++)
        if (strlen(whats[i]) == len && memcmp(whats[i], name, len) == 0)
            what = whats[i];
    for (unsigned i = 0; i < HYPHENS && c != NULL; i++) {
        c = strchr(c, '-');
        c = c != NULL ? c + 1 : NULL;
    }
    if (what == NULL || c == NULL || *c == '\0')
        return false;
    for (; *c != '\0'; c++)
        if (!decode_one(&d, &c))
            return false;
    ret[d.n] = '\0';
    *ret_what = what;
    return true;
}

/* ---------------------------------------------------------------- removal */

void fst_bell_gone(struct file_storage *fs, const char *key)
{
    CM_AUTO_CLOSE int tmp_dir = -1;
    char name[FST_NAME_MAX];
    int fd = -1;

    if (fst_open_dir(fs, FST_TMP_DIR, strlen(FST_TMP_DIR), false, &tmp_dir, NULL) != CM_OK ||
        fst_temp_name(fs, FST_BELL_GONE, key, name, NULL) != CM_OK ||
        fst_sys_create(tmp_dir, name, &fd) != 0)
        return;
    (void)fst_sys_close(&fd, name);
    (void)fst_sys_unlink(tmp_dir, name, 0); /* the sweep takes what stays */
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "nodes.h"
#include "record.h"

#include <inttypes.h>
#include <json-c/json.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

/* The form of what nodes say of themselves. All of it was written by somebody else. */

#define PAGE_MAGIC "certmesh-names 1"
#define TIME_LAST  INT64_C(9000000000)
#define SERIAL_MAX 63u

bool cm_node_is_id(const char *text)
{
    return strlen(text) == 2 * CM_NODE_ID_BYTES &&
           strspn(text, "0123456789abcdef") == 2 * CM_NODE_ID_BYTES;
}

cm_status cm_node_path(const char *id, const char *what, char ret[CM_KEY_BUF], struct cm_err *err)
{
    int n = what != NULL ? snprintf(ret, CM_KEY_BUF, CM_NODES_DIR "/%s/%s", id, what)
                         : snprintf(ret, CM_KEY_BUF, CM_NODES_DIR "/%s", id);

    if (n < 0 || n >= (int)CM_KEY_BUF)
        return cm_fail(err, CM_E_INVAL, "no storage key for node '%s': it is too long", id);
    return CM_OK;
}

cm_status cm_node_page_path(const char *id, unsigned page, char ret[CM_KEY_BUF], struct cm_err *err)
{
    char what[32];

    (void)snprintf(what, sizeof what, "names-%u", page);
    return cm_node_path(id, what, ret, err);
}

/* ---- the note ---- */

cm_status cm_node_format(const struct cm_node *n, struct cm_buf *out, struct cm_err *err)
{
    struct cm_record r;
    char digest[17];

    (void)snprintf(digest, sizeof digest, "%016" PRIx64, n->digest);
    cm_record_begin(&r);
    cm_record_text(&r, "node", n->name);
    cm_record_text(&r, "host", n->host);
    cm_record_text(&r, "version", n->version);
    cm_record_number(&r, "pid", n->pid);
    cm_record_time(&r, "started", n->started_s);
    cm_record_time(&r, "seen", n->seen_s);
    cm_record_number(&r, "names", n->n_names);
    cm_record_number(&r, "pages", n->n_pages);
    cm_record_text(&r, "digest", digest);
    cm_status rc = r.rc;
    if (rc == CM_OK)
        rc = cm_buf_append(out, r.text.data, r.text.len, err);
    if (rc == CM_OK)
        rc = cm_buf_puts(out, "\n}\n", err);
    cm_buf_free(&r.text);
    return rc;
}

static bool take_digest(const char *text, uint64_t *ret)
{
    char *end;

    if (strlen(text) != 16 || strspn(text, "0123456789abcdef") != 16)
        return false;
    *ret = strtoull(text, &end, 16);
    return *end == '\0';
}

static bool take_note(struct json_object *o, struct cm_node *n)
{
    char digest[32];

    return cm_record_get_text(o, "node", n->name, sizeof n->name) &&
           cm_record_get_text(o, "host", n->host, sizeof n->host) &&
           cm_record_get_text(o, "version", n->version, sizeof n->version) &&
           cm_record_get_number(o, "pid", &n->pid) &&
           cm_record_get_time(o, "started", &n->started_s) &&
           cm_record_get_time(o, "seen", &n->seen_s) && n->seen_s > 0 &&
           cm_record_get_number(o, "names", &n->n_names) &&
           cm_record_get_number(o, "pages", &n->n_pages) && n->n_pages <= CM_NODE_PAGES_MAX &&
           cm_record_get_text(o, "digest", digest, sizeof digest) &&
           take_digest(digest, &n->digest);
}

cm_status cm_node_load(struct cm_config *cfg, const struct cm_op *op, const char *id,
                       struct cm_node *ret, struct cm_err *err)
{
    struct json_object *o = NULL;
    char key[CM_KEY_BUF];
    struct cm_node n;

    memset(&n, 0, sizeof n);
    (void)snprintf(n.id, sizeof n.id, "%s", id);
    cm_status rc = cm_node_path(id, "node", key, err);
    if (rc == CM_OK)
        rc = cm_record_load(cfg, op, key, &o, err);
    if (rc != CM_OK)
        return rc;
    bool good = take_note(o, &n);
    (void)json_object_put(o);
    if (!good)
        return cm_record_is_damaged(cfg, key, "it lacks something or has it in a wrong form", err);
    *ret = n;
    return CM_OK;
}

/* ---- pages ---- */

unsigned cm_node_pages_for(size_t n_names)
{
    unsigned pages = n_names > 0 ? 1 : 0;

    while (pages > 0 && pages < CM_NODE_PAGES_MAX && n_names / pages > CM_NODE_PAGE_NAMES)
        pages *= 2;
    return pages;
}

unsigned cm_node_page_of(const char *name, unsigned n_pages)
{
    return (unsigned)(cm_fnv1a64(CM_FNV1A64, name, strlen(name)) >> 32) % n_pages;
}

size_t cm_node_line(const struct cm_node_name *n, char ret[CM_NODE_LINE_MAX])
{
    int len = snprintf(ret, CM_NODE_LINE_MAX, "%s %s %lld %lld", n->name,
                       n->serial[0] != '\0' ? n->serial : "-", (long long)n->from_s,
                       (long long)n->until_s);

    CM_ASSERT(len > 0 && (unsigned)len < CM_NODE_LINE_MAX);
    return (size_t)len;
}

uint64_t cm_node_line_hash(const char *line, size_t len)
{
    return cm_fnv1a64(CM_FNV1A64, line, len);
}

cm_status cm_node_page_begin(struct cm_buf *out, unsigned page, unsigned n_pages,
                             struct cm_err *err)
{
    return cm_buf_printf(out, err, PAGE_MAGIC " %u %u\n", page, n_pages);
}

/* ---- reading a page ---- */

/* Up to the next @end, which becomes a NUL; NULL if there is none. */
static char *cut(char **at, char end)
{
    char *from = *at;
    char *to = strchr(from, end);

    if (to == NULL)
        return NULL;
    *to = '\0';
    *at = to + 1;
    return from;
}

static bool take_number(const char *text, int64_t *ret)
{
    size_t len = strlen(text);

    *ret = 0;
    if (len == 0 || len > 10 || strspn(text, "0123456789") != len)
        return false;
    for (; *text != '\0'; text++)
        *ret = *ret * 10 + (*text - '0');
    return *ret <= TIME_LAST;
}

static bool is_name(const char *text)
{
    size_t len = strlen(text);

    return len > 0 && len <= CM_NAME_MAX &&
           strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-_.*:") == len;
}

static bool take_line(char *line, struct cm_node_name *ret)
{
    char *name = cut(&line, ' ');
    char *serial = name != NULL ? cut(&line, ' ') : NULL;
    char *from = serial != NULL ? cut(&line, ' ') : NULL;

    if (from == NULL || !is_name(name) || !take_number(from, &ret->from_s) ||
        !take_number(line, &ret->until_s))
        return false;
    ret->name = name;
    ret->serial = strcmp(serial, "-") == 0 ? "" : serial;
    return strlen(serial) <= SERIAL_MAX &&
           (ret->serial[0] == '\0' || strspn(serial, "0123456789abcdef") == strlen(serial));
}

cm_status cm_node_page_parse(char *text, size_t len, unsigned page, unsigned n_pages,
                             cm_status (*each)(void *user, const struct cm_node_name *n,
                                               uint64_t hash, struct cm_err *err),
                             void *user, struct cm_err *err)
{
    char head[64];
    char *at = text;
    char *line = strlen(text) == len ? cut(&at, '\n') : NULL;

    (void)snprintf(head, sizeof head, PAGE_MAGIC " %u %u", page, n_pages);
    if (line == NULL || strcmp(line, head) != 0)
        return cm_fail(err, CM_E_PARSE, "it is no page %u of %u with names", page, n_pages);
    while (*at != '\0') {
        struct cm_node_name n;

        line = cut(&at, '\n');
        if (line == NULL || strlen(line) >= CM_NODE_LINE_MAX)
            return cm_fail(err, CM_E_PARSE, "a line is cut short, or too long");
        uint64_t hash = cm_node_line_hash(line, strlen(line));
        if (!take_line(line, &n))
            return cm_fail(err, CM_E_PARSE, "a line is none that tells of a name");
        cm_status rc = each(user, &n, hash, err);
        if (rc != CM_OK)
            return rc;
    }
    return CM_OK;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "options.h"

#include <ctype.h>
#include <string.h>

/* From a URL to options: scheme, user, addresses, path. No message repeats a piece of the
 * authority: a password whose '/' was not escaped may end up anywhere in it. */

#define ESCAPE_HINT                                                                                \
    "('/', '?', '#', '@' and '%%' in a password are written %%2F %%3F %%23 %%40 %%25)"

static const struct scheme {
    const char *name;
    enum redis_topology topology;
    bool tls;
    bool unix_path;
} schemes[] = {
    { "redis", REDIS_SINGLE, false, false },
    { "rediss", REDIS_SINGLE, true, false },
    { "redis+unix", REDIS_SINGLE, false, true },
    { "unix", REDIS_SINGLE, false, true },
    { "redis+sentinel", REDIS_SENTINEL, false, false },
    { "rediss+sentinel", REDIS_SENTINEL, true, false },
    { "redis+cluster", REDIS_CLUSTER, false, false },
    { "rediss+cluster", REDIS_CLUSTER, true, false },
};

void redis_free_secret(char *s)
{
    if (s != NULL)
        cm_wipe(s, strlen(s));
    free(s);
}

void redis_options_clear(struct redis_options *o)
{
    if (o == NULL)
        return;
    for (size_t i = 0; i < o->n_addresses; i++) {
        free(o->addresses[i].host);
        free(o->addresses[i].path);
    }
    free(o->addresses);
    free(o->master);
    free(o->username);
    redis_free_secret(o->password);
    free(o->sentinel_username);
    redis_free_secret(o->sentinel_password);
    free(o->tls_ca_file);
    free(o->tls_cert_file);
    free(o->tls_key_file);
    free(o->tls_server_name);
    free(o->prefix);
    if (o->encryption_key != NULL)
        cm_wipe(o->encryption_key, 32);
    free(o->encryption_key);
    free(o->shown);
    memset(o, 0, sizeof *o);
}

bool redis_url_decode(const char *s, size_t len, char **ret)
{
    char *out = cm_calloc(1, len + 1);
    size_t n = 0;

    *ret = out;
    if (out == NULL)
        return true;
    for (size_t i = 0; i < len; i++) {
        char c = s[i];

        if (c == '%') {
            int hi = len - i > 2 ? cm_hex_digit(s[i + 1]) : -1;
            int lo = hi >= 0 ? cm_hex_digit(s[i + 2]) : -1;

            if (lo < 0)
                goto bad;
            c = (char)(hi * 16 + lo);
            i += 2;
        }
        if (iscntrl((unsigned char)c))
            goto bad;
        out[n++] = c;
    }
    return true;
bad:
    cm_wipe(out, len);
    free(out);
    *ret = NULL;
    return false;
}

bool redis_number(const char *s, size_t len, unsigned max, unsigned *ret)
{
    unsigned n = 0;

    if (len == 0 || len > 9)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (s[i] < '0' || s[i] > '9')
            return false;
        n = n * 10 + (unsigned)(s[i] - '0');
    }
    if (n > max)
        return false;
    *ret = n;
    return true;
}

static cm_status decode_part(const char *s, size_t len, const char *what, char **ret,
                             struct cm_err *err)
{
    if (!redis_url_decode(s, len, ret))
        return cm_fail(err, CM_E_INVAL, "the Redis URL has a bad %%-escape in its %s", what);
    return *ret != NULL ? CM_OK : cm_fail_nomem(err);
}

/* ---- user and password */

static cm_status parse_user(const char *s, size_t len, struct redis_options *o, struct cm_err *err)
{
    const char *colon = memchr(s, ':', len);
    size_t name_len = colon != NULL ? (size_t)(colon - s) : len;
    cm_status rc = CM_OK;

    if (name_len > 0)
        rc = decode_part(s, name_len, "user", &o->username, err);
    if (rc == CM_OK && colon != NULL && name_len + 1 < len)
        rc = decode_part(colon + 1, len - name_len - 1, "password", &o->password, err);
    return rc;
}

/* ---- addresses */

static bool is_host(const char *s, size_t len, bool brackets)
{
    if (len == 0 || len > 255 || brackets != (memchr(s, ':', len) != NULL))
        return false;
    for (size_t i = 0; i < len; i++)
        if (!isalnum((unsigned char)s[i]) && s[i] != '.' && s[i] != '-' && s[i] != '_' &&
            !(brackets && (s[i] == ':' || s[i] == '%')))
            return false;
    return true;
}

/* "host", "host:port", "[v6]", "[v6]:port". */
static cm_status parse_address(const char *s, size_t len, uint16_t port, struct redis_address *ret,
                               struct cm_err *err)
{
    const char *end = s + len;
    const char *after;
    CM_AUTO_FREE char *host = NULL;
    unsigned given = port;
    bool brackets = len > 0 && s[0] == '[';
    bool valid;

    after = brackets ? memchr(s, ']', len) : memchr(s, ':', len);
    if (after == NULL)
        after = end;
    valid = redis_url_decode(s + brackets, (size_t)(after - s) - brackets, &host);
    if (valid && host == NULL)
        return cm_fail_nomem(err);
    valid = valid && after + brackets <= end;
    after += brackets;
    if (!valid || !is_host(host, strlen(host), brackets))
        return cm_fail(err, CM_E_INVAL,
                       "the Redis URL names no valid host: write redis://host:port/0, IPv6 "
                       "addresses in brackets " ESCAPE_HINT);
    if (after != end &&
        (*after != ':' || !redis_number(after + 1, (size_t)(end - after) - 1, 65535, &given) ||
         given == 0))
        return cm_fail(err, CM_E_INVAL,
                       "the Redis URL has a port that is no number of 1 to 65535 " ESCAPE_HINT);
    ret->host = host;
    host = NULL;
    ret->port = (uint16_t)given;
    return CM_OK;
}

static cm_status parse_addresses(const char *s, size_t len, struct redis_options *o,
                                 struct cm_err *err)
{
    uint16_t port = o->topology == REDIS_SENTINEL ? REDIS_SENTINEL_PORT : REDIS_PORT;
    size_t n = 1;
    cm_status rc = CM_OK;

    for (size_t i = 0; i < len; i++)
        n += s[i] == ',';
    if (n > REDIS_ADDRESSES_MAX)
        return cm_fail(err, CM_E_INVAL, "the Redis URL has more than %u addresses",
                       REDIS_ADDRESSES_MAX);
    o->addresses = cm_calloc(n, sizeof *o->addresses);
    if (o->addresses == NULL)
        return cm_fail_nomem(err);
    while (rc == CM_OK && o->n_addresses < n) {
        const char *comma = memchr(s, ',', len);
        size_t one = comma != NULL ? (size_t)(comma - s) : len;

        rc = parse_address(s, one, port, &o->addresses[o->n_addresses], err);
        o->n_addresses += rc == CM_OK;
        s += one + (comma != NULL);
        len -= one + (comma != NULL);
    }
    return rc;
}

/* ---- path */

static cm_status parse_db(const char *s, size_t len, bool *ret_has_db, struct redis_options *o,
                          struct cm_err *err)
{
    if (len == 0)
        return CM_OK;
    if (!redis_number(s, len, REDIS_DB_MAX, &o->db))
        return cm_fail(err, CM_E_INVAL,
                       "the path of the Redis URL is no number of a database " ESCAPE_HINT);
    *ret_has_db = true;
    return CM_OK;
}

/* @s begins behind the '/'. */
static cm_status parse_path(const char *s, size_t len, bool *ret_has_db, struct redis_options *o,
                            struct cm_err *err)
{
    const char *slash;
    size_t name_len;
    cm_status rc;

    if (o->topology != REDIS_SENTINEL)
        return parse_db(s, len, ret_has_db, o, err);
    slash = memchr(s, '/', len);
    name_len = slash != NULL ? (size_t)(slash - s) : len;
    if (name_len == 0)
        return cm_fail(err, CM_E_INVAL,
                       "the Redis URL names no master: write redis+sentinel://host,host/NAME/0");
    rc = decode_part(s, name_len, "name of the master", &o->master, err);
    if (rc == CM_OK && slash != NULL)
        rc = parse_db(slash + 1, len - name_len - 1, ret_has_db, o, err);
    return rc;
}

static cm_status parse_unix(const char *s, size_t len, struct redis_options *o, struct cm_err *err)
{
    cm_status rc;

    o->addresses = cm_calloc(1, sizeof *o->addresses);
    if (o->addresses == NULL)
        return cm_fail_nomem(err);
    o->n_addresses = 1;
    rc = decode_part(s, len, "path", &o->addresses[0].path, err);
    if (rc != CM_OK)
        return rc;
    len = strlen(o->addresses[0].path);
    if (o->addresses[0].path[0] != '/' || len < 2)
        return cm_fail(err, CM_E_INVAL,
                       "the Redis URL has no path: write redis+unix:///path/of/socket");
    if (len > 107)
        return cm_fail(err, CM_E_INVAL, "the path of a unix socket has at most 107 bytes, not %zu",
                       len);
    return CM_OK;
}

/* ---- what may be shown */

static cm_status put_except(struct cm_buf *out, const char *s, const char *plain_too,
                            struct cm_err *err)
{
    cm_status rc = CM_OK;

    for (; *s != '\0' && rc == CM_OK; s++) {
        bool plain = isalnum((unsigned char)*s) || strchr(plain_too, *s) != NULL;

        rc = cm_buf_printf(out, err, plain ? "%c" : "%%%02X", plain ? *s : (int)(unsigned char)*s);
    }
    return rc;
}

static cm_status put_text(struct cm_buf *out, const char *s, struct cm_err *err)
{
    return put_except(out, s, "/.-_~:", err);
}

static cm_status put_component(struct cm_buf *out, const char *s, struct cm_err *err)
{
    return put_except(out, s, ".-_~", err);
}

static cm_status put_address(struct cm_buf *out, const struct redis_address *a, struct cm_err *err)
{
    bool brackets = a->host != NULL && strchr(a->host, ':') != NULL;
    cm_status rc;

    if (a->host == NULL)
        return put_text(out, a->path, err);
    rc = cm_buf_puts(out, brackets ? "[" : "", err);
    if (rc == CM_OK)
        rc = put_text(out, a->host, err);
    return rc == CM_OK ? cm_buf_printf(out, err, "%s:%u", brackets ? "]" : "", (unsigned)a->port)
                       : rc;
}

static cm_status put_addresses(struct cm_buf *out, const struct redis_options *o,
                               struct cm_err *err)
{
    cm_status rc = CM_OK;

    for (size_t i = 0; i < o->n_addresses && rc == CM_OK; i++) {
        rc = cm_buf_puts(out, i > 0 ? "," : "", err);
        if (rc == CM_OK)
            rc = put_address(out, &o->addresses[i], err);
    }
    return rc;
}

static cm_status show(const struct scheme *scheme, struct redis_options *o, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf out = CM_BUF_INIT(32768);
    cm_status rc = cm_buf_printf(&out, err, "%s://", scheme->name);

    if (rc == CM_OK)
        rc = put_addresses(&out, o, err);
    if (rc == CM_OK && o->master != NULL) {
        rc = cm_buf_puts(&out, "/", err);
        if (rc == CM_OK)
            rc = put_component(&out, o->master, err);
    }
    if (rc == CM_OK && o->topology != REDIS_CLUSTER)
        rc = cm_buf_printf(&out, err, scheme->unix_path ? "?db=%u&" : "/%u?", o->db);
    else if (rc == CM_OK)
        rc = cm_buf_puts(&out, "?", err);
    if (rc == CM_OK)
        rc = cm_buf_puts(&out, "prefix=", err);
    if (rc == CM_OK)
        rc = put_text(&out, o->prefix, err);
    if (rc != CM_OK)
        return rc;
    o->shown = cm_strdup(cm_buf_str(&out));
    return o->shown != NULL ? CM_OK : cm_fail_nomem(err);
}

/* ---- the whole */

static const struct scheme *find_scheme(const char *url)
{
    size_t len = strcspn(url, ":");

    for (size_t i = 0; i < CM_ARRAY_LEN(schemes); i++)
        if (strlen(schemes[i].name) == len && strncasecmp(schemes[i].name, url, len) == 0)
            return &schemes[i];
    return NULL;
}

static cm_status parse(const char *s, const struct scheme *scheme, struct redis_options *o,
                       struct cm_err *err)
{
    size_t all = strcspn(s, "?");
    size_t authority = strcspn(s, "/?");
    const char *at = memrchr(s, '@', authority);
    const char *hosts = at != NULL ? at + 1 : s;
    size_t hosts_len = authority - (size_t)(hosts - s);
    const char *path = s + authority;
    size_t path_len = all - authority;
    bool has_db = false;
    cm_status rc = CM_OK;

    if (at != NULL)
        rc = parse_user(s, (size_t)(at - s), o, err);
    if (rc != CM_OK)
        return rc;
    if (scheme->unix_path && hosts_len != 0)
        return cm_fail(err, CM_E_INVAL,
                       "the URL of a unix socket cannot name a host: write redis+unix:///path");
    if (scheme->unix_path)
        rc = parse_unix(path, path_len, o, err);
    else
        rc = parse_addresses(hosts, hosts_len, o, err);
    if (rc == CM_OK && !scheme->unix_path)
        rc = parse_path(path + (path_len > 0), path_len - (path_len > 0), &has_db, o, err);
    if (rc == CM_OK)
        rc = redis_params_parse(s[all] == '?' ? s + all + 1 : NULL, has_db, o, err);
    return rc == CM_OK ? show(scheme, o, err) : rc;
}

cm_status redis_options_parse(const char *url, struct redis_options *ret, struct cm_err *err)
{
    const struct scheme *scheme = url != NULL ? find_scheme(url) : NULL;
    struct redis_options o = { .topology = REDIS_SINGLE };
    const char *rest;
    cm_status rc;

    if (scheme == NULL)
        return cm_fail(err, CM_E_INVAL,
                       "no Redis URL: write redis://, rediss://, redis+unix://, "
                       "redis+sentinel:// or redis+cluster://");
    rest = url + strlen(scheme->name) + 1;
    if (url[strlen(scheme->name)] != ':' || strncmp(rest, "//", 2) != 0)
        return cm_fail(err, CM_E_INVAL, "the Redis URL needs '//' after '%s:'", scheme->name);
    if (strchr(rest, '#') != NULL)
        return cm_fail(err, CM_E_INVAL, "the Redis URL has a '#': write it %%23");
    o.topology = scheme->topology;
    o.tls = scheme->tls;
    rc = parse(rest + 2, scheme, &o, err);
    if (rc != CM_OK) {
        redis_options_clear(&o);
        return rc;
    }
    *ret = o;
    return CM_OK;
}

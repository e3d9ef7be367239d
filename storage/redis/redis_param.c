/* SPDX-License-Identifier: Apache-2.0 */
#include "options.h"

#include <ctype.h>
#include <string.h>

/* The parameters of a Redis URL. */

#define SECRET_MAX      4096u
#define KEY_LEN         32u
#define POOL_DEFAULT    8u
#define POOL_MAX        256u
#define TIMEOUT_DEFAULT (5 * CM_NS_PER_S)

enum param {
    P_PREFIX,
    P_DB,
    P_USERNAME,
    P_PASSWORD_FILE,
    P_PASSWORD_ENV,
    P_SENTINEL_USERNAME,
    P_SENTINEL_PASSWORD_FILE,
    P_SENTINEL_PASSWORD_ENV,
    P_CA,
    P_CERT,
    P_KEY,
    P_SERVER_NAME,
    P_INSECURE,
    P_ENCRYPTION_KEY_FILE,
    P_ENCRYPTION_KEY_ENV,
    P_COMPRESSION,
    P_POOL,
    P_TIMEOUT,
    P_N
};

enum only_with { ALWAYS, WITH_TLS, WITH_SENTINEL };

static const struct {
    const char *name;
    enum only_with only;
} params[P_N] = {
    [P_PREFIX] = { "prefix", ALWAYS },
    [P_DB] = { "db", ALWAYS },
    [P_USERNAME] = { "username", ALWAYS },
    [P_PASSWORD_FILE] = { "password_file", ALWAYS },
    [P_PASSWORD_ENV] = { "password_env", ALWAYS },
    [P_SENTINEL_USERNAME] = { "sentinel_username", WITH_SENTINEL },
    [P_SENTINEL_PASSWORD_FILE] = { "sentinel_password_file", WITH_SENTINEL },
    [P_SENTINEL_PASSWORD_ENV] = { "sentinel_password_env", WITH_SENTINEL },
    [P_CA] = { "ca", WITH_TLS },
    [P_CERT] = { "cert", WITH_TLS },
    [P_KEY] = { "key", WITH_TLS },
    [P_SERVER_NAME] = { "server_name", WITH_TLS },
    [P_INSECURE] = { "insecure", WITH_TLS },
    [P_ENCRYPTION_KEY_FILE] = { "encryption_key_file", ALWAYS },
    [P_ENCRYPTION_KEY_ENV] = { "encryption_key_env", ALWAYS },
    [P_COMPRESSION] = { "compression", ALWAYS },
    [P_POOL] = { "pool", ALWAYS },
    [P_TIMEOUT] = { "timeout", ALWAYS },
};

static cm_status bad_value(enum param p, const char *want, struct cm_err *err)
{
    return cm_fail(err, CM_E_INVAL, "parameter '%s' of the Redis URL: %s", params[p].name, want);
}

/* ---- secrets from elsewhere */

static cm_status read_secret_file(enum param p, const char *path, struct cm_buf *ret,
                                  struct cm_err *err)
{
    cm_status rc = cm_read_file(path, ret, err);

    if (rc == CM_E_LIMIT)
        return bad_value(p, "the file has more than 4095 bytes", err);
    return rc == CM_OK ? rc : cm_wrap(err, rc, "the '%s' of the Redis URL", params[p].name);
}

/* What file or variable @from holds, without the line's end. */
static cm_status read_secret(enum param p, bool is_file, const char *from, struct cm_buf *ret,
                             struct cm_err *err)
{
    const char *value;
    cm_status rc;

    if (is_file) {
        rc = read_secret_file(p, from, ret, err);
    } else {
        value = secure_getenv(from);
        if (value == NULL)
            return cm_fail(err, CM_E_INVAL,
                           "parameter '%s' of the Redis URL: the environment has no '%s'",
                           params[p].name, from);
        rc = cm_buf_puts(ret, value, err);
    }
    if (rc != CM_OK)
        return rc;
    while (ret->len > 0 && (ret->data[ret->len - 1] == '\n' || ret->data[ret->len - 1] == '\r'))
        ret->len--;
    return ret->len > 0 ? CM_OK : bad_value(p, "what it names is empty", err);
}

static cm_status take_password(enum param p, bool is_file, const char *from, char **ret,
                               struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf secret = CM_BUF_SECRET(SECRET_MAX);
    cm_status rc;

    if (*ret != NULL)
        return bad_value(p, "there is a password already; name one source", err);
    rc = read_secret(p, is_file, from, &secret, err);
    if (rc != CM_OK)
        return rc;
    if (memchr(secret.data, '\0', secret.len) != NULL)
        return bad_value(p, "a password has no NUL byte", err);
    *ret = cm_strndup((const char *)secret.data, secret.len);
    return *ret != NULL ? CM_OK : cm_fail_nomem(err);
}

/* The peers take the first 32 bytes of what they are given, and refuse less. */
static cm_status take_key(enum param p, bool is_file, const char *from, char **ret,
                          struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf secret = CM_BUF_SECRET(SECRET_MAX);
    cm_status rc;

    if (*ret != NULL)
        return bad_value(p, "there is a key already; name one source", err);
    rc = read_secret(p, is_file, from, &secret, err);
    if (rc != CM_OK)
        return rc;
    if (secret.len < KEY_LEN)
        return bad_value(p, "the key needs 32 bytes at least", err);
    *ret = cm_calloc(1, KEY_LEN + 1);
    if (*ret == NULL)
        return cm_fail_nomem(err);
    memcpy(*ret, secret.data, KEY_LEN);
    return CM_OK;
}

/* ---- values */

static bool is_trim(char c)
{
    return c == ' ' || c == '/';
}

static cm_status take_prefix(const char *value, char **ret, struct cm_err *err)
{
    size_t len = strlen(value);
    const char *seg;

    while (len > 0 && is_trim(value[len - 1]))
        len--;
    while (len > 0 && is_trim(value[0])) {
        value++;
        len--;
    }
    if (len > 200)
        return bad_value(P_PREFIX, "it has at most 200 bytes", err);
    seg = value;
    for (size_t i = 0; i <= len && len > 0; i++) {
        size_t n = (size_t)(value + i - seg);

        if (i < len && value[i] != '/')
            continue;
        if (n == 0 || (n == 1 && seg[0] == '.') || (n == 2 && seg[0] == '.' && seg[1] == '.'))
            return bad_value(P_PREFIX, "no part of it may be empty, '.' or '..'", err);
        seg = value + i + 1;
    }
    free(*ret);
    *ret = cm_strndup(value, len);
    return *ret != NULL ? CM_OK : cm_fail_nomem(err);
}

static cm_status take_text(enum param p, const char *value, char **ret, struct cm_err *err)
{
    if (*ret != NULL)
        return bad_value(p, "it is named twice", err);
    if (value[0] == '\0')
        return bad_value(p, "it is empty", err);
    *ret = cm_strdup(value);
    return *ret != NULL ? CM_OK : cm_fail_nomem(err);
}

static cm_status take_insecure(const char *value, bool *ret, struct cm_err *err)
{
    if (strcmp(value, "true") != 0 && strcmp(value, "false") != 0)
        return bad_value(P_INSECURE, "write true or false", err);
    *ret = value[0] == 't';
    return CM_OK;
}

static cm_status take_compression(const char *value, int *ret, struct cm_err *err)
{
    static const char *const names[] = { "none", "flate", "zlib" };

    for (size_t i = 0; i < CM_ARRAY_LEN(names); i++) {
        if (strcmp(value, names[i]) == 0) {
            *ret = (int)i;
            return CM_OK;
        }
    }
    return bad_value(P_COMPRESSION, "write none, flate or zlib", err);
}

static cm_status take_timeout(const char *value, int64_t *ret, struct cm_err *err)
{
    static const struct {
        const char *suffix;
        int64_t ns;
    } units[] = {
        { "ms", CM_NS_PER_MS }, { "s", CM_NS_PER_S }, { "m", 60 * CM_NS_PER_S }, { "", CM_NS_PER_S }
    };
    size_t digits = strspn(value, "0123456789");
    unsigned n = 0;

    for (size_t i = 0; redis_number(value, digits, 3600000, &n) && i < CM_ARRAY_LEN(units); i++) {
        if (strcmp(value + digits, units[i].suffix) != 0)
            continue;
        *ret = (int64_t)n * units[i].ns;
        if (*ret >= 10 * CM_NS_PER_MS && *ret <= 3600 * CM_NS_PER_S)
            return CM_OK;
    }
    return bad_value(P_TIMEOUT, "write a time of 10ms to 1h, like 5s or 500ms", err);
}

static cm_status take_number(enum param p, const char *value, unsigned min, unsigned max,
                             unsigned *ret, struct cm_err *err)
{
    unsigned n = 0;

    if (!redis_number(value, strlen(value), max, &n) || n < min)
        return cm_fail(err, CM_E_INVAL,
                       "parameter '%s' of the Redis URL: write a number of %u to %u",
                       params[p].name, min, max);
    *ret = n;
    return CM_OK;
}

static cm_status take(enum param p, const char *value, struct redis_options *o, struct cm_err *err)
{
    switch (p) {
    case P_PREFIX:
        return take_prefix(value, &o->prefix, err);
    case P_DB:
        return take_number(p, value, 0, REDIS_DB_MAX, &o->db, err);
    case P_USERNAME:
        return take_text(p, value, &o->username, err);
    case P_PASSWORD_FILE:
    case P_PASSWORD_ENV:
        return take_password(p, p == P_PASSWORD_FILE, value, &o->password, err);
    case P_SENTINEL_USERNAME:
        return take_text(p, value, &o->sentinel_username, err);
    case P_SENTINEL_PASSWORD_FILE:
    case P_SENTINEL_PASSWORD_ENV:
        return take_password(p, p == P_SENTINEL_PASSWORD_FILE, value, &o->sentinel_password, err);
    case P_CA:
        return take_text(p, value, &o->tls_ca_file, err);
    case P_CERT:
        return take_text(p, value, &o->tls_cert_file, err);
    case P_KEY:
        return take_text(p, value, &o->tls_key_file, err);
    case P_SERVER_NAME:
        return take_text(p, value, &o->tls_server_name, err);
    case P_INSECURE:
        return take_insecure(value, &o->tls_insecure, err);
    case P_ENCRYPTION_KEY_FILE:
    case P_ENCRYPTION_KEY_ENV:
        return take_key(p, p == P_ENCRYPTION_KEY_FILE, value, &o->encryption_key, err);
    case P_COMPRESSION:
        return take_compression(value, &o->compression, err);
    case P_POOL:
        return take_number(p, value, 1, POOL_MAX, &o->pool_max, err);
    case P_TIMEOUT:
        return take_timeout(value, &o->timeout_ns, err);
    case P_N:
        break;
    }
    return cm_fail(err, CM_E_INTERNAL, "a parameter of the Redis URL that nobody takes");
}

/* ---- the list */

static enum param find(const char *name, size_t len)
{
    enum param p = 0;

    while (p < P_N && (strlen(params[p].name) != len || memcmp(params[p].name, name, len) != 0))
        p++;
    return p;
}

/* An '@' behind the '?' is most likely the end of a password with a '?' in it. */
static cm_status unknown(const char *name, size_t len, struct cm_err *err)
{
    char shown[48];

    if (strchr(name, '@') != NULL)
        return cm_fail(err, CM_E_INVAL,
                       "the Redis URL has an unknown parameter ('?' and '@' in a password are "
                       "written %%3F and %%40)");
    return cm_fail(err, CM_E_INVAL, "a Redis URL has no parameter '%s'",
                   cm_escape(name, len < 40 ? len : 40, shown, sizeof shown));
}

static cm_status take_one(const char *s, size_t len, unsigned *seen, bool has_db,
                          struct redis_options *o, struct cm_err *err)
{
    const char *eq = memchr(s, '=', len);
    size_t name_len = eq != NULL ? (size_t)(eq - s) : len;
    enum param p = find(s, name_len);
    char *value = NULL;
    cm_status rc;

    if (p == P_N)
        return unknown(s, name_len, err);
    if ((*seen & 1u << p) != 0 || (p == P_DB && has_db))
        return bad_value(p, "it is named twice", err);
    *seen |= 1u << p;
    if (params[p].only == WITH_TLS && !o->tls)
        return bad_value(p, "only with TLS: write rediss instead of redis", err);
    if (params[p].only == WITH_SENTINEL && o->topology != REDIS_SENTINEL)
        return bad_value(p, "only with redis+sentinel", err);
    if (eq == NULL)
        return bad_value(p, "it has no value", err);
    if (!redis_url_decode(eq + 1, len - name_len - 1, &value))
        return bad_value(p, "it has a bad %-escape", err);
    rc = value != NULL ? take(p, value, o, err) : cm_fail_nomem(err);
    free(value);
    return rc;
}

static cm_status check_together(const struct redis_options *o, struct cm_err *err)
{
    if ((o->tls_cert_file == NULL) != (o->tls_key_file == NULL))
        return cm_fail(err, CM_E_INVAL,
                       "the Redis URL names only one of 'cert' and 'key': they go together");
    if (o->tls_insecure && o->tls_ca_file != NULL)
        return cm_fail(err, CM_E_INVAL,
                       "the Redis URL says insecure=true and 'ca': leave one of them out");
    if (o->username != NULL && o->password == NULL)
        return cm_fail(err, CM_E_INVAL,
                       "the Redis URL names a user without a password: add password_file or "
                       "password_env");
    if (o->sentinel_username != NULL && o->sentinel_password == NULL)
        return cm_fail(err, CM_E_INVAL,
                       "the Redis URL has sentinel_username without a password: add "
                       "sentinel_password_file or sentinel_password_env");
    if (o->topology == REDIS_CLUSTER && o->db != 0)
        return cm_fail(err, CM_E_INVAL, "a Redis cluster has database 0 only, not %u", o->db);
    return CM_OK;
}

cm_status redis_params_parse(const char *query, bool has_db, struct redis_options *o,
                             struct cm_err *err)
{
    unsigned seen = 0;
    cm_status rc = take_prefix("caddy", &o->prefix, err);

    o->pool_max = POOL_DEFAULT;
    o->timeout_ns = TIMEOUT_DEFAULT;
    while (rc == CM_OK && query != NULL && query[0] != '\0') {
        size_t len = strcspn(query, "&");

        rc = take_one(query, len, &seen, has_db, o, err);
        query += len + (query[len] == '&');
    }
    return rc == CM_OK ? check_together(o, err) : rc;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "postgres.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

/* A URL for libpq with a few words of our own in it. libpq's messages about a URL quote it, with
 * the password: so they are not passed on, and what is wrong is found out here as far as possible.
 */

#define PASSWORD_FILE_MAX 4096u
#define POOL_MAX          64

static const char how[] = "write postgres://user@host:port/database?parameter=value";

/* ------------------------------------------------------------- small parts */

static char *decoded(const char *from, size_t len)
{
    char *text = cm_strndup(from, len);
    char *out = text;

    for (size_t i = 0; text != NULL && i < len; i++) {
        uint8_t byte;

        if (from[i] == '%' && i + 2 < len && cm_hex_decode(from + i + 1, 1, &byte)) {
            *out++ = (char)byte;
            i += 2;
        } else {
            *out++ = from[i];
        }
    }
    if (out != NULL)
        *out = '\0';
    return text;
}

static cm_status bad_value(const char *name, const char *want, struct cm_err *err)
{
    return cm_fail(err, CM_E_INVAL, "PostgreSQL storage: the parameter '%s' is %s", name, want);
}

static cm_status parse_number(const char *name, const char *text, long most, long *ret,
                              struct cm_err *err)
{
    char want[48];
    char *end = NULL;
    long value;

    errno = 0;
    value = strtol(text, &end, 10);
    if (!isdigit((unsigned char)text[0]) || errno != 0 || *end != '\0' || value < 1 ||
        value > most) {
        (void)snprintf(want, sizeof want, "a number from 1 to %ld", most);
        return bad_value(name, want, err);
    }
    *ret = value;
    return CM_OK;
}

static cm_status parse_switch(const char *name, const char *text, bool *ret, struct cm_err *err)
{
    if (strcmp(text, "on") != 0 && strcmp(text, "off") != 0)
        return bad_value(name, "on or off", err);
    *ret = text[1] == 'n';
    return CM_OK;
}

/* The first line of the file. */
static cm_status read_password(const char *path, char **ret, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf text = CM_BUF_SECRET(PASSWORD_FILE_MAX);
    cm_status rc = cm_read_file(path, &text, err);

    /* To the layers above an absent file must not look like an absent value. */
    if (rc != CM_OK)
        return cm_wrap(err, rc == CM_E_NOTFOUND ? CM_E_INVAL : rc,
                       "PostgreSQL storage: password_file");
    if (text.len == 0)
        return cm_fail(err, CM_E_INVAL, "PostgreSQL storage: password_file '%s' is empty", path);
    *ret = cm_strndup(cm_buf_str(&text), strcspn(cm_buf_str(&text), "\r\n"));
    return *ret != NULL ? CM_OK : cm_fail_nomem(err);
}

static cm_status password_from_env(const char *name, char **ret, struct cm_err *err)
{
    const char *value = secure_getenv(name);
    char shown[96];

    if (value == NULL)
        return cm_fail(err, CM_E_INVAL,
                       "PostgreSQL storage: password_env names '%s', and there is no such variable",
                       cm_escape(name, strlen(name), shown, sizeof shown));
    *ret = cm_strdup(value);
    return *ret != NULL ? CM_OK : cm_fail_nomem(err);
}

/* ----------------------------------------------------------- our own words */

struct own_words {
    char *password;
};

static cm_status take_schema(struct pg_options *o, char **value, struct cm_err *err)
{
    if ((*value)[0] == '\0' || strlen(*value) > 63)
        return bad_value("schema", "the name of a schema, at most 63 bytes long", err);
    free(o->schema);
    o->schema = *value;
    *value = NULL;
    return CM_OK;
}

/* *ret_ours: it was one of ours. @value may be taken. */
static cm_status take_own(struct pg_options *o, struct own_words *own, const char *name,
                          char **value, bool *ret_ours, struct cm_err *err)
{
    long number = 0;
    cm_status rc = CM_OK;

    *ret_ours = true;
    if (strcmp(name, "pool") == 0) {
        rc = parse_number(name, *value, POOL_MAX, &number, err);
        o->pool_max = (unsigned)number;
    } else if (strcmp(name, "timeout") == 0) {
        rc = parse_number(name, *value, 3600, &number, err);
        o->timeout_ns = number * CM_NS_PER_S;
    } else if (strcmp(name, "ddl") == 0) {
        rc = parse_switch(name, *value, &o->ddl, err);
    } else if (strcmp(name, "feed") == 0) {
        rc = parse_switch(name, *value, &o->feed, err);
    } else if (strcmp(name, "schema") == 0) {
        rc = take_schema(o, value, err);
    } else if (strcmp(name, "password_file") == 0) {
        rc = own->password != NULL ? bad_value(name, "given beside another password", err)
                                   : read_password(*value, &own->password, err);
    } else if (strcmp(name, "password_env") == 0) {
        rc = own->password != NULL ? bad_value(name, "given beside another password", err)
                                   : password_from_env(*value, &own->password, err);
    } else {
        *ret_ours = false;
    }
    return rc;
}

static cm_status check_keyword(const PQconninfoOption *known, const char *name, struct cm_err *err)
{
    char shown[64];

    /* libpq takes this one in URLs for sslmode=require. */
    if (strcmp(name, "ssl") == 0)
        return CM_OK;
    for (const PQconninfoOption *k = known; k->keyword != NULL; k++)
        if (strcmp(k->keyword, name) == 0)
            return CM_OK;
    return cm_fail(err, CM_E_INVAL, "PostgreSQL storage has no parameter '%s'",
                   cm_escape(name, strlen(name) < 40 ? strlen(name) : 40, shown, sizeof shown));
}

/* Take our own words out of the query of @url; what is left, for libpq, goes to @rest. */
static cm_status split_query(const char *url, struct pg_options *o, struct own_words *own,
                             struct cm_buf *rest, struct cm_err *err)
{
    size_t at = strcspn(url, "?");
    PQconninfoOption *known = PQconndefaults();
    cm_status rc = known != NULL ? cm_buf_append(rest, url, at, err) : cm_fail_nomem(err);
    char sign = '?';

    while (rc == CM_OK && url[at] != '\0') {
        const char *word = url + at + 1;
        size_t len = strcspn(word, "&");
        size_t name_len = strcspn(word, "=&");
        CM_AUTO_FREE char *name = decoded(word, name_len);
        CM_AUTO_FREE char *value =
            decoded(word + name_len + (name_len < len), len - name_len - (name_len < len));
        bool ours = false;

        at += 1 + len;
        if (len == 0)
            continue;
        if (name == NULL || value == NULL)
            rc = cm_fail_nomem(err);
        if (rc == CM_OK)
            rc = take_own(o, own, name, &value, &ours, err);
        if (rc == CM_OK && !ours)
            rc = check_keyword(known, name, err);
        if (rc == CM_OK && !ours) {
            rc = cm_buf_append(rest, &sign, 1, err);
            sign = '&';
            if (rc == CM_OK)
                rc = cm_buf_append(rest, word, len, err);
        }
        if (value != NULL)
            cm_wipe(value, strlen(value));
    }
    PQconninfoFree(known);
    return rc;
}

/* ------------------------------------------------------------------- hosts */

/* The @i-th of a list with ','; NULL when it is empty or there are not that many. */
static char *nth(const char *list, size_t i)
{
    size_t len;

    for (; list != NULL && i > 0; i--) {
        list = strchr(list, ',');
        list = list != NULL ? list + 1 : NULL;
    }
    if (list == NULL)
        return NULL;
    len = strcspn(list, ",");
    return len > 0 ? cm_strndup(list, len) : NULL;
}

static size_t count(const char *list)
{
    size_t n = 1;

    for (; list != NULL && *list != '\0'; list++)
        n += *list == ',';
    return n;
}

static cm_status take_hosts(struct pg_options *o, const char *host, const char *hostaddr,
                            const char *port, struct cm_err *err)
{
    size_t n = count(host) > count(hostaddr) ? count(host) : count(hostaddr);

    if (n > PG_HOSTS_MAX)
        return cm_fail(err, CM_E_INVAL, "PostgreSQL storage: at most %u hosts", PG_HOSTS_MAX);
    if (count(port) != 1 && count(port) != n)
        return cm_fail(err, CM_E_INVAL,
                       "PostgreSQL storage: give one port for all hosts, or one for each");
    for (size_t i = 0; i < n; i++) {
        o->hosts[i].host = nth(host, i);
        o->hosts[i].hostaddr = nth(hostaddr, i);
        o->hosts[i].port = nth(port, count(port) == 1 ? 0 : i);
    }
    o->n_hosts = n;
    return CM_OK;
}

static bool is_here(const struct pg_host *h)
{
    const char *name = h->hostaddr != NULL ? h->hostaddr : h->host;

    return name == NULL || name[0] == '/' || name[0] == '@' || strcmp(name, "localhost") == 0 ||
           strncmp(name, "127.", 4) == 0 || strcmp(name, "::1") == 0;
}

static bool all_here(const struct pg_options *o)
{
    for (size_t i = 0; i < o->n_hosts; i++)
        if (!is_here(&o->hosts[i]))
            return false;
    return true;
}

/* ------------------------------------------------------------ what libpq gets */

static const char *value_of(const PQconninfoOption *list, const char *keyword)
{
    for (; list->keyword != NULL; list++)
        if (strcmp(list->keyword, keyword) == 0)
            return list->val != NULL && list->val[0] != '\0' ? list->val : NULL;
    return NULL;
}

static cm_status add_word(struct pg_options *o, const char *keyword, const char *value,
                          struct cm_err *err)
{
    char *k = cm_strdup(keyword);
    char *v = cm_strdup(value);

    if (k == NULL || v == NULL) {
        free(k);
        free(v);
        return cm_fail_nomem(err);
    }
    o->keywords[o->n] = k;
    o->values[o->n] = v;
    o->n++;
    return CM_OK;
}

/* A dead peer is noticed in seconds, not in the two hours of the system. */
static const struct {
    const char *keyword;
    const char *value;
} defaults[] = {
    { "application_name", "certmesh" }, { "client_encoding", "UTF8" },
    { "keepalives_idle", "10" },        { "keepalives_interval", "5" },
    { "keepalives_count", "3" },        { "tcp_user_timeout", "15000" },
};

static cm_status take_words(struct pg_options *o, const PQconninfoOption *list,
                            const struct own_words *own, struct cm_err *err)
{
    static const char *const ours[] = { "host", "hostaddr", "port", "connect_timeout" };
    size_t n = 0;
    cm_status rc = CM_OK;

    while (list[n].keyword != NULL)
        n++;
    n += CM_ARRAY_LEN(defaults) + PG_HOST_WORDS + 4;
    o->keywords = cm_calloc(n, sizeof *o->keywords);
    o->values = cm_calloc(n, sizeof *o->values);
    if (o->keywords == NULL || o->values == NULL)
        return cm_fail_nomem(err);
    for (const PQconninfoOption *p = list; p->keyword != NULL && rc == CM_OK; p++) {
        bool skip = p->val == NULL || p->val[0] == '\0';

        for (size_t i = 0; i < CM_ARRAY_LEN(ours); i++)
            skip = skip || strcmp(ours[i], p->keyword) == 0;
        if (own->password != NULL && strcmp(p->keyword, "password") == 0)
            skip = true;
        if (!skip)
            rc = add_word(o, p->keyword, p->val, err);
    }
    for (size_t i = 0; i < CM_ARRAY_LEN(defaults) && rc == CM_OK; i++)
        if (value_of(list, defaults[i].keyword) == NULL)
            rc = add_word(o, defaults[i].keyword, defaults[i].value, err);
    if (rc == CM_OK && own->password != NULL)
        rc = add_word(o, "password", own->password, err);
    /* Of several hosts one may be a standby, which takes no writes. */
    if (rc == CM_OK && o->n_hosts > 1 && value_of(list, "target_session_attrs") == NULL)
        rc = add_word(o, "target_session_attrs", "read-write", err);
    return rc;
}

/* Private keys go over this connection: libpq's own default encrypts if the server feels like it,
 * and looks at no certificate. */
static cm_status take_tls(struct pg_options *o, const PQconninfoOption *list, struct cm_err *err)
{
    if (value_of(list, "sslmode") != NULL || secure_getenv("PGSSLMODE") != NULL)
        return CM_OK;
    if (value_of(list, "service") == NULL && secure_getenv("PGSERVICE") == NULL && all_here(o))
        return CM_OK;
    o->tls_by_default = true;
    return add_word(o, "sslmode", "verify-full", err);
}

static cm_status make_shown(struct pg_options *o, const PQconninfoOption *list, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf text = CM_BUF_INIT(2048);
    const char *user = value_of(list, "user");
    const char *db = value_of(list, "dbname");
    cm_status rc = cm_buf_printf(&text, err, "postgres://%s%s", user != NULL ? user : "",
                                 user != NULL ? "@" : "");

    for (size_t i = 0; i < o->n_hosts && rc == CM_OK; i++) {
        const struct pg_host *h = &o->hosts[i];
        const char *name = h->host != NULL ? h->host : h->hostaddr;

        rc = cm_buf_printf(&text, err, "%s%s%s%s", i > 0 ? "," : "", name != NULL ? name : "",
                           h->port != NULL ? ":" : "", h->port != NULL ? h->port : "");
    }
    if (rc == CM_OK)
        rc = cm_buf_printf(&text, err, "/%s%s%s", db != NULL ? db : "",
                           o->schema != NULL ? "?schema=" : "", o->schema != NULL ? o->schema : "");
    if (rc != CM_OK)
        return rc;
    o->shown = cm_calloc(1, 4 * text.len + 1);
    if (o->shown == NULL)
        return cm_fail_nomem(err);
    (void)cm_escape(cm_buf_str(&text), text.len, o->shown, 4 * text.len + 1);
    return CM_OK;
}

static cm_status take_connect_timeout(struct pg_options *o, const PQconninfoOption *list,
                                      struct cm_err *err)
{
    const char *text = value_of(list, "connect_timeout");
    long seconds = 5;
    cm_status rc = CM_OK;

    if (text != NULL)
        rc = parse_number("connect_timeout", text, 3600, &seconds, err);
    o->connect_ns = seconds * CM_NS_PER_S;
    return rc;
}

static void wipe_list(PQconninfoOption *list)
{
    for (PQconninfoOption *p = list; p != NULL && p->keyword != NULL; p++)
        if (p->val != NULL && p->dispchar != NULL && p->dispchar[0] == '*')
            cm_wipe(p->val, strlen(p->val));
    PQconninfoFree(list);
}

/* What the URL leaves out, PGHOST and PGPORT may say. */
static cm_status take_list(struct pg_options *o, const PQconninfoOption *list,
                           const struct own_words *own, struct cm_err *err)
{
    const char *host = value_of(list, "host");
    const char *port = value_of(list, "port");
    cm_status rc;

    if (host == NULL && value_of(list, "hostaddr") == NULL)
        host = secure_getenv("PGHOST");
    if (port == NULL)
        port = secure_getenv("PGPORT");
    rc = take_hosts(o, host, value_of(list, "hostaddr"), port, err);
    if (rc == CM_OK)
        rc = take_words(o, list, own, err);
    if (rc == CM_OK)
        rc = take_tls(o, list, err);
    if (rc == CM_OK)
        rc = take_connect_timeout(o, list, err);
    return rc == CM_OK ? make_shown(o, list, err) : rc;
}

cm_status pg_options_parse(const char *url, struct pg_options *ret, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf rest = CM_BUF_SECRET(16384);
    struct pg_options o = {
        .pool_max = 8, .timeout_ns = 10 * CM_NS_PER_S, .ddl = true, .feed = true
    };
    struct own_words own = { NULL };
    PQconninfoOption *list = NULL;
    char *said = NULL;
    cm_status rc = split_query(url, &o, &own, &rest, err);
    if (rc == CM_OK) {
        list = PQconninfoParse(cm_buf_str(&rest), &said);
        if (list == NULL)
            rc = cm_fail(err, CM_E_INVAL, "the PostgreSQL URL cannot be read: %s", how);
        PQfreemem(said);
    }
    if (rc == CM_OK)
        rc = take_list(&o, list, &own, err);
    wipe_list(list);
    if (own.password != NULL) {
        cm_wipe(own.password, strlen(own.password));
        free(own.password);
    }
    if (rc == CM_OK)
        *ret = o;
    else
        pg_options_clear(&o);
    return rc;
}

void pg_options_clear(struct pg_options *o)
{
    for (size_t i = 0; i < o->n; i++) {
        char *value = (char *)(uintptr_t)o->values[i];

        cm_wipe(value, strlen(value));
        free(value);
        free((char *)(uintptr_t)o->keywords[i]);
    }
    free((void *)(uintptr_t)o->keywords);
    free((void *)(uintptr_t)o->values);
    for (size_t i = 0; i < o->n_hosts; i++) {
        free(o->hosts[i].host);
        free(o->hosts[i].hostaddr);
        free(o->hosts[i].port);
    }
    free(o->schema);
    free(o->shown);
    memset(o, 0, sizeof *o);
}

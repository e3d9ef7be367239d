/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define EAB_KEY_MAX 4096u

bool cli_is_internal(const struct cli *c)
{
    return c->o.internal || (c->o.ca != NULL && strcmp(c->o.ca, "internal") == 0);
}

const char *cli_ca_resolve(const char *ca)
{
    if (ca == NULL || strcmp(ca, "letsencrypt") == 0)
        return CM_CA_LETSENCRYPT;
    if (strcmp(ca, "letsencrypt-staging") == 0)
        return CM_CA_LETSENCRYPT_STAGING;
    return ca;
}

const char *cli_ca_url(const struct cli *c)
{
    return cli_is_internal(c) ? NULL : cli_ca_resolve(c->o.ca);
}

static cm_status read_key_file(const char *path, struct cm_buf *ret, struct cm_err *err)
{
    char chunk[512];
    struct stat st;
    cm_status rc = CM_OK;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return cm_fail_errno(err, "--eab-key-file '%s'", path);
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (st.st_mode & (S_IRGRP | S_IROTH)) != 0)
        cli_complain("certmesh: warning: '%s' can be read by other users; chmod 600 it", path);
    while (rc == CM_OK) {
        ssize_t n = read(fd, chunk, sizeof chunk);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            rc = cm_fail_errno(err, "read '%s'", path);
        if (n <= 0)
            break;
        rc = cm_buf_append(ret, chunk, (size_t)n, err);
        if (rc != CM_OK)
            rc = cm_wrap(err, rc, "--eab-key-file '%s' is too long for a key", path);
    }
    cm_wipe(chunk, sizeof chunk);
    (void)close(fd);
    return rc;
}

/* The MAC key comes from a file or the environment: a command line can be read by every user of
 * the machine. What the environment held is wiped there too. */
static cm_status read_eab_key(const struct cli *c, struct cm_buf *ret, struct cm_err *err)
{
    char *value = getenv("CERTMESH_EAB_KEY");
    cm_status rc = CM_OK;

    if (c->o.eab_key_file != NULL)
        rc = read_key_file(c->o.eab_key_file, ret, err);
    else if (value != NULL && c->o.eab_kid != NULL)
        rc = cm_buf_puts(ret, value, err);
    if (value != NULL) {
        cm_wipe(value, strlen(value));
        (void)unsetenv("CERTMESH_EAB_KEY");
    }
    while (ret->len > 0 && strchr(" \t\r\n", ret->data[ret->len - 1]) != NULL)
        ret->data[--ret->len] = '\0';
    if (rc == CM_OK && c->o.eab_kid != NULL && ret->len == 0)
        return cm_fail(err, CM_E_INVAL,
                       "--eab-kid needs its key: --eab-key-file FILE or $CERTMESH_EAB_KEY");
    return rc;
}

/* A directory as a URL: what means something in a URL is escaped. malloc()ed. */
static char *file_url(const char *dir)
{
    static const char hex[] = "0123456789ABCDEF";
    char *url = malloc(strlen(dir) * 3 + sizeof "file:");
    char *out = url;

    if (url == NULL)
        return NULL;
    while (dir[0] == '/' && dir[1] == '/') /* "//" would begin a host */
        dir++;
    while (dir[0] == '.' && dir[1] == '/' && dir[2] != '\0')
        dir += 2;
    for (const char *s = "file:"; *s != '\0'; s++)
        *out++ = *s;
    for (; *dir != '\0'; dir++) {
        if (strchr("%?#", *dir) == NULL) {
            *out++ = *dir;
            continue;
        }
        *out++ = '%';
        *out++ = hex[(unsigned char)*dir >> 4];
        *out++ = hex[*dir & 15];
    }
    *out = '\0';
    return url;
}

/* @dns must stay until the config is made. */
static void fill_dns(const struct cli *c, struct cm_dns_options *dns, struct cm_acme_options *o)
{
    if (c->o.dns == NULL && (o->challenges & CM_CHALLENGE_DNSPERSIST01) == 0)
        return;
    dns->provider = c->command->bit == CLI_DNS ? NULL : c->o.dns;
    dns->resolvers = c->o.dns_resolvers.at;
    dns->n_resolvers = c->o.dns_resolvers.n;
    dns->timeout_s = c->o.dns_timeout_s;
    dns->no_check = c->o.no_dns_check;
    dns->server_port = c->o.dns_server_port;
    o->dns = dns;
}

static void fill_acme(const struct cli *c, const struct cm_buf *eab_key,
                      struct cm_acme_extra *extra, struct cm_acme_options *o)
{
    o->directory_url = cli_ca_url(c);
    o->email = c->o.email;
    o->agreed = c->o.agree;
    o->ca_root_file = c->o.ca_root;
    o->eab_kid = c->o.eab_kid;
    o->eab_mac_key = eab_key->len > 0 ? cm_buf_str(eab_key) : NULL;
    o->eab_alg = c->o.eab_alg;
    o->account_key_file = c->o.account_key;
    if (c->command->bit == CLI_ACCOUNT)
        o->account_key_type = c->o.key_type;
    o->challenges = c->command->bit == CLI_DNS ? CM_CHALLENGE_DNSPERSIST01 : c->o.challenges;
    o->profile = c->o.profile;
    o->preferred_chain = c->o.preferred_chain;
    o->obtain_timeout_s = c->o.timeout_s;
    o->test_directory_url = c->o.test_ca != NULL ? cli_ca_resolve(c->o.test_ca) : NULL;
    o->rate_events = c->o.rate.events;
    o->rate_window_ms = c->o.rate.window_ms;
    o->disable_ari = c->o.no_ari;
    cli_fill_extra(c, false, extra);
    o->extra = extra;
}

/* A config with other keys and a place of its own for them, for the same cache. What is done once
 * for all stays with the first. */
static cm_status open_also(struct cli *c, const struct cm_config_options *first, struct cm_err *err)
{
    struct cm_config_options o = *first;
    struct cm_acme_extra extra = *first->acme.extra;

    o.storage = NULL;
    o.storage_object = cm_config_storage(c->cfg);
    o.cache = cm_config_cache(c->cfg);
    o.key_type = c->o.also_key_type;
    extra.variant = cm_key_type_name(c->o.also_key_type);
    o.acme.extra = &extra;
    o.clean_storage = o.announce = false;
    o.snapshot = o.snapshot_key_file = NULL;
    o.on_demand = NULL;       /* which names there are is asked of the first alone */
    o.disable_tickets = true; /* sessions are set up by the first */
    return cm_config_new(&o, &c->also, err);
}

int cli_open(struct cli *c)
{
    struct cm_config_options o = CM_CONFIG_OPTIONS_INIT;
    struct cm_dns_options dns = CM_DNS_OPTIONS_INIT;
    struct cli_life life = { .n_issuers = 0 };
    struct cm_acme_extra extra;
    struct cm_buf eab_key = CM_BUF_SECRET(EAB_KEY_MAX);
    struct cm_err err = CM_ERR_INIT;
    char *url = NULL;
    cm_status rc = read_eab_key(c, &eab_key, &err);

    if (rc == CM_OK && c->o.root != NULL) {
        url = file_url(c->o.root);
        if (url == NULL)
            rc = cm_fail(&err, CM_E_NOMEM, "out of memory");
    }
    if (rc == CM_OK) {
        o.storage = url != NULL ? url : c->o.storage;
        fill_acme(c, &eab_key, &extra, &o.acme);
        fill_dns(c, &dns, &o.acme);
        o.internal = cli_is_internal(c);
        o.key_type = c->o.key_type;
        o.listen_host = c->o.listen;
        o.http_port = c->o.http_port;
        o.tls_port = c->o.tls_port;
        o.max_parallel = c->o.parallel;
        o.on_progress = cli_ui_progress;
        o.log = cli_log(c);
        if (c->o.verbose || c->o.log_json) { /* nobody else would see them */
            o.on_event = cli_event;
            o.event_user = c;
        }
        rc = cli_life_fill(c, &o, &life, &err);
    }
    cm_pkcs11_alone(true);
    if (rc == CM_OK && c->o.key_url != NULL)
        rc = cm_pkcs11_keys_new(c->o.key_url, &c->key_source, &err);
    o.key_source = c->key_source;
    if (rc == CM_OK)
        rc = cli_fetcher_new(c, &c->fetcher, &err);
    o.fetcher = c->fetcher;
    if (rc == CM_OK)
        rc = cm_config_new(&o, &c->cfg, &err);
    if (rc == CM_OK && c->o.also_key_type != CM_KEY_DEFAULT)
        rc = open_also(c, &o, &err);
    cli_life_end(&life, c->cfg != NULL);
    cm_buf_free(&eab_key);
    free(url);
    c->op.cancel = c->cancel;
    if (rc == CM_OK)
        return CLI_OK;
    int code = cli_report(c, NULL, &err);

    /* a file that an option names is not there: nothing to do with what storage holds */
    return rc == CM_E_NOTFOUND ? CLI_USAGE : code;
}

cm_status cli_open_storage(const struct cli *c, const char *url, struct cm_storage **ret,
                           struct cm_err *err)
{
    struct cm_storage_open_options o = CM_STORAGE_OPEN_OPTIONS_INIT;
    char *root = url == NULL && c->o.root != NULL ? file_url(c->o.root) : NULL;
    cm_status rc = CM_OK;

    o.log = cli_log(c);
    if (url == NULL && c->o.root != NULL && root == NULL)
        return cm_fail(err, CM_E_NOMEM, "out of memory");
    if (url == NULL)
        url = root != NULL ? root : c->o.storage;
    rc = cm_storage_open(url, &o, ret, err);
    free(root);
    return rc;
}

void cli_close(struct cli *c)
{
    cm_config_free(c->also); /* has the other's cache */
    c->also = NULL;
    cm_config_free(c->cfg);
    c->cfg = NULL;
    cm_fetcher_destroy(c->fetcher);
    c->fetcher = NULL;
    cm_key_source_free(c->key_source);
    c->key_source = NULL;
}

struct cm_op cli_op(const struct cli *c, int64_t default_s)
{
    int64_t s = c->o.timeout_s > 0 ? c->o.timeout_s : default_s;

    return cm_op_within(&c->op, s < INT64_MAX / CM_NS_PER_S ? s * CM_NS_PER_S : INT64_MAX);
}

int cli_confirm(const struct cli *c, const char *fmt, ...)
{
    struct pollfd wait[2] = { { STDIN_FILENO, POLLIN, 0 }, { cm_cancel_fd(c->cancel), POLLIN, 0 } };
    char question[512], text[512];
    char answer[16] = "";
    va_list ap;

    if (c->o.yes)
        return -1;
    if (!isatty(STDIN_FILENO) || !isatty(STDERR_FILENO)) {
        cli_complain("certmesh: %s: nobody to ask on a terminal; add --yes if you mean it",
                     c->command->name);
        return CLI_USAGE;
    }
    va_start(ap, fmt);
    (void)vsnprintf(question, sizeof question, fmt, ap);
    va_end(ap);
    fprintf(stderr, "%s [y/N] ", cli_printable(question, text, sizeof text));
    fflush(stderr);
    /* Ctrl-C must end the question, not only the work after it */
    while (poll(wait, 2, -1) < 0 && errno == EINTR)
        continue;
    if (wait[1].revents != 0) {
        fputc('\n', stderr);
        return cli_signals_exit();
    }
    if (fgets(answer, sizeof answer, stdin) != NULL &&
        (strcasecmp(answer, "y\n") == 0 || strcasecmp(answer, "yes\n") == 0))
        return -1;
    cli_complain("certmesh: %s: nothing was done", c->command->name);
    return CLI_FAILED;
}

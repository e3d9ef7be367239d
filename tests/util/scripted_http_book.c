/* SPDX-License-Identifier: Apache-2.0 */
#include "scripted_http_internal.h"

#include <stdio.h>
#include <string.h>

void *sh__must(void *p)
{
    CM_ASSERT(p != NULL);
    return p;
}

char *sh__copy(const char *s, size_t len)
{
    char *p = sh__must(calloc(1, len + 1));

    memcpy(p, s, len);
    return p;
}

void sh__text_add(struct sh_text *t, const char *data, size_t len)
{
    t->s = sh__must(realloc(t->s, t->len + len + 1));
    memcpy(t->s + t->len, data, len);
    t->len += len;
    t->s[t->len] = '\0';
}

/* base64url up to the first byte that is none; @out has room for @len bytes. */
static void decode(const char *in, size_t len, char *out)
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    unsigned bits = 0;
    unsigned n_bits = 0;

    for (size_t i = 0; i < len; i++) {
        const char *at = in[i] != '\0' ? strchr(alphabet, in[i]) : NULL;

        if (at == NULL)
            break;
        bits = (bits << 6 | (unsigned)(at - alphabet)) & 0xffffu;
        n_bits += 6;
        if (n_bits >= 8) {
            n_bits -= 8;
            *out++ = (char)(bits >> n_bits & 0xffu);
        }
    }
    *out = '\0';
}

/* "nonce" out of the protected header of a flattened JWS. */
static void nonce_of(const char *body, char *out)
{
    static const char key[] = "\"protected\":\"";
    const char *p = strstr(body, key);
    char *header;
    const char *at;
    size_t len;

    out[0] = '\0';
    if (p == NULL)
        return;
    p += sizeof key - 1;
    len = strcspn(p, "\"");
    header = sh__must(calloc(1, len + 1));
    decode(p, len, header);
    at = strstr(header, "\"nonce\":\"");
    len = at != NULL ? strcspn(at + 9, "\"") : SH_NONCE_BUF;
    if (len < SH_NONCE_BUF) {
        memcpy(out, at + 9, len);
        out[len] = '\0';
    }
    free(header);
}

static void check_nonce_locked(struct scripted_http *sh, const char *nonce)
{
    struct nonce *n = sh->nonces;

    if (nonce[0] == '\0')
        return;
    while (n != NULL && strcmp(n->text, nonce) != 0)
        n = n->next;
    if (n == NULL)
        sh->unknown++;
    else if (n->used)
        sh->reuses++;
    else
        n->used = true;
}

static unsigned record_locked(struct scripted_http *sh, const struct sh_request *req)
{
    struct record *r = sh->records;

    while (r != NULL && (strcmp(r->path, req->path) != 0 || strcmp(r->method, req->method) != 0))
        r = r->next;
    if (r == NULL) {
        r = sh__must(calloc(1, sizeof *r));
        r->method = sh__copy(req->method, strlen(req->method));
        r->path = sh__copy(req->path, strlen(req->path));
        r->next = sh->records;
        sh->records = r;
    }
    free(r->last_body);
    free(r->last_header);
    r->last_body = sh__copy(req->body, req->body_len);
    r->last_header = sh__copy(req->header, strlen(req->header));
    return r->count++;
}

static bool path_fits(const char *pattern, const char *path)
{
    size_t len = strlen(pattern);

    if (len > 0 && pattern[len - 1] == '*')
        return strncmp(pattern, path, len - 1) == 0;
    return strcmp(pattern, path) == 0;
}

static struct rule *match_locked(struct scripted_http *sh, const struct sh_request *req)
{
    struct rule *r;

    for (r = sh->rules; r != NULL; r = r->next) {
        if (strcmp(r->method, "*") != 0 && strcmp(r->method, req->method) != 0)
            continue;
        if (!path_fits(r->path, req->path))
            continue;
        if (r->fn == NULL && r->reply.times > 0 && r->used >= r->reply.times)
            continue;
        r->used++;
        return r;
    }
    return NULL;
}

void sh__book(struct scripted_http *sh, struct sh_request *req, char *nonce, struct sh_reply *reply,
              sh_handler_fn *fn, void **user)
{
    struct rule *rule;

    nonce_of(req->body, nonce);
    cm_mutex_lock(&sh->lock);
    check_nonce_locked(sh, nonce);
    req->seq = record_locked(sh, req);
    rule = match_locked(sh, req);
    if (rule != NULL) {
        *reply = rule->reply;
        *fn = rule->fn;
        *user = rule->user;
    }
    cm_mutex_unlock(&sh->lock);
}

void sh_nonce_make(struct scripted_http *sh, char out[SH_NONCE_BUF])
{
    struct nonce *n = sh__must(calloc(1, sizeof *n));

    cm_mutex_lock(&sh->lock);
    (void)snprintf(n->text, sizeof n->text, "nonce-%u", sh->nonce_seq++);
    n->next = sh->nonces;
    sh->nonces = n;
    memcpy(out, n->text, SH_NONCE_BUF);
    cm_mutex_unlock(&sh->lock);
}

static void free_rules(struct rule *r)
{
    while (r != NULL) {
        struct rule *next = r->next;

        free(r->method);
        free(r->path);
        free(r);
        r = next;
    }
}

static void free_notes(struct scripted_http *sh)
{
    while (sh->records != NULL) {
        struct record *r = sh->records;

        sh->records = r->next;
        free(r->method);
        free(r->path);
        free(r->last_body);
        free(r->last_header);
        free(r);
    }
    while (sh->nonces != NULL) {
        struct nonce *n = sh->nonces;

        sh->nonces = n->next;
        free(n);
    }
    while (sh->kept != NULL) {
        struct kept *k = sh->kept;

        sh->kept = k->next;
        free(k->s);
        free(k);
    }
}

void sh__book_free(struct scripted_http *sh)
{
    free_rules(sh->rules);
    free_rules(sh->old_rules);
    free_notes(sh);
}

const char *sh_keep(struct scripted_http *sh, char *s)
{
    struct kept *k = sh__must(calloc(1, sizeof *k));

    k->s = sh__must(s);
    cm_mutex_lock(&sh->lock);
    k->next = sh->kept;
    sh->kept = k;
    cm_mutex_unlock(&sh->lock);
    return s;
}

const char *sh_url(struct scripted_http *sh, const char *path)
{
    size_t n = strlen(sh->base) + strlen(path) + 1;
    char *s = sh__must(calloc(1, n));

    (void)snprintf(s, n, "%s%s", sh->base, path);
    return sh_keep(sh, s);
}

static void add_rule(struct scripted_http *sh, const char *method, const char *path,
                     struct rule proto)
{
    struct rule *r = sh__must(calloc(1, sizeof *r));
    struct rule **end = &sh->rules;

    *r = proto;
    r->method = sh__copy(method, strlen(method));
    r->path = sh__copy(path, strlen(path));
    cm_mutex_lock(&sh->lock);
    while (*end != NULL)
        end = &(*end)->next;
    *end = r;
    cm_mutex_unlock(&sh->lock);
}

void sh_on(struct scripted_http *sh, const char *method, const char *path,
           const struct sh_reply *reply)
{
    add_rule(sh, method, path, (struct rule){ .reply = *reply });
}

void sh_handle(struct scripted_http *sh, const char *method, const char *path, sh_handler_fn fn,
               void *user)
{
    add_rule(sh, method, path, (struct rule){ .fn = fn, .user = user });
}

void sh_clear(struct scripted_http *sh)
{
    struct rule **end = &sh->old_rules;

    cm_mutex_lock(&sh->lock);
    while (*end != NULL)
        end = &(*end)->next;
    *end = sh->rules;
    sh->rules = NULL;
    cm_mutex_unlock(&sh->lock);
}

unsigned sh_count(struct scripted_http *sh, const char *method, const char *path)
{
    unsigned n = 0;

    cm_mutex_lock(&sh->lock);
    for (const struct record *r = sh->records; r != NULL; r = r->next)
        if ((method == NULL || strcmp(r->method, method) == 0) &&
            (path == NULL || path_fits(path, r->path)))
            n += r->count;
    cm_mutex_unlock(&sh->lock);
    return n;
}

static const char *last(struct scripted_http *sh, const char *path, bool body)
{
    char *s = NULL;

    cm_mutex_lock(&sh->lock);
    for (const struct record *r = sh->records; r != NULL && s == NULL; r = r->next) {
        const char *text = body ? r->last_body : r->last_header;

        if (strcmp(r->path, path) == 0)
            s = sh__copy(text, strlen(text));
    }
    cm_mutex_unlock(&sh->lock);
    return sh_keep(sh, s != NULL ? s : sh__copy("", 0));
}

const char *sh_last_body(struct scripted_http *sh, const char *path)
{
    return last(sh, path, true);
}

const char *sh_last_header(struct scripted_http *sh, const char *path)
{
    return last(sh, path, false);
}

static unsigned read_locked(struct scripted_http *sh, const unsigned *value)
{
    unsigned n;

    cm_mutex_lock(&sh->lock);
    n = *value;
    cm_mutex_unlock(&sh->lock);
    return n;
}

unsigned sh_nonce_reuses(struct scripted_http *sh)
{
    return read_locked(sh, &sh->reuses);
}

unsigned sh_nonce_unknown(struct scripted_http *sh)
{
    return read_locked(sh, &sh->unknown);
}

unsigned sh_connections(struct scripted_http *sh)
{
    return read_locked(sh, &sh->n_conns);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* hostile_scripts FIRST COUNT: lib/acme against a CA whose answers are spoilt at random, one whole
 * flow per seed from FIRST on. Waiting is simulated, so a flow takes milliseconds. Whatever comes,
 * each call ends, with a status that a CA may cause and a message fit to be printed; no nonce is
 * used twice and the number of requests stays bounded. Leaks and bad memory are the sanitizers'. */
#include "acme_internal.h"
#include "scripted_http.h"

#include <stdio.h>
#include <string.h>

#define BATCH        100 /* scripts per server: it remembers all that it was asked */
#define REQUESTS_MAX 600 /* of one flow; 200 are polls of an order that never gets on */
#define SECONDS_MAX  20  /* real ones */
#define CALLS        10
#define ANSWER_NS    (300 * CM_NS_PER_MS) /* real ones; some answers leave the client waiting */

/* ------------------------------------------------------------------- seeds */

static uint64_t rng;

static uint32_t below(uint32_t n)
{
    rng ^= rng << 13;
    rng ^= rng >> 7;
    rng ^= rng << 17;
    return (uint32_t)(rng >> 33) % n;
}

/* ------------------------------------------------------------------- clock */

static _Atomic int64_t jumped_ns;

static int64_t jump_wall(const struct cm_env *env)
{
    (void)env;
    return cm_env_system()->wall_ns(cm_env_system()) + jumped_ns;
}

static int64_t jump_mono(const struct cm_env *env)
{
    (void)env;
    return cm_env_system()->mono_ns(cm_env_system()) + jumped_ns;
}

static cm_status jump_random(const struct cm_env *env, void *out, size_t len)
{
    (void)env;
    return cm_env_system()->random(cm_env_system(), out, len);
}

static cm_status jump_wait(const struct cm_env *env, struct cm_cancel *cancel, int64_t ns)
{
    (void)env;
    jumped_ns += ns;
    return cm_cancel_is_fired(cancel) ? CM_E_CANCELED : CM_OK;
}

static const struct cm_env env = { CM_ENV_ABI,  sizeof env, jump_wall, jump_mono,
                                   jump_random, jump_wait,  NULL };

/* ---------------------------------------------------------------------- CA */

static const struct answer {
    const char *path;
    int status;
    const char *headers;
    const char *body;
} answers[CALLS] = {
    { "/dir", 200, NULL,
      "{\"newNonce\":\"{BASE}/nonce\",\"newAccount\":\"{BASE}/new-acct\",\"newOrder\":"
      "\"{BASE}/new-order\",\"revokeCert\":\"{BASE}/revoke\",\"meta\":{\"termsOfService\":"
      "\"https://ca.test/tos\",\"externalAccountRequired\":false,\"profiles\":{\"a\":\"b\"}}}" },
    { "/nonce", 200, NULL, "" },
    { "/new-acct", 201, "Location: {BASE}/acct/1\r\n",
      "{\"status\":\"valid\",\"contact\":[\"mailto:a@b.test\"],\"orders\":\"{BASE}/orders/1\"}" },
    { "/new-order", 201, "Location: {BASE}/order/1\r\n",
      "{\"status\":\"pending\",\"identifiers\":[{\"type\":\"dns\",\"value\":\"a.test\"}],"
      "\"authorizations\":[\"{BASE}/authz/1\"],\"finalize\":\"{BASE}/finalize/1\"}" },
    { "/authz/1", 200, NULL,
      "{\"status\":\"pending\",\"identifier\":{\"type\":\"dns\",\"value\":\"a.test\"},"
      "\"challenges\":[{\"type\":\"http-01\",\"url\":\"{BASE}/chal/1\",\"token\":\"abc\","
      "\"status\":\"pending\",\"error\":{\"type\":\"x\",\"detail\":\"y\",\"subproblems\":[]}}]}" },
    { "/chal/1", 200, NULL, "{\"status\":\"processing\"}" },
    { "/order/1", 200, "Retry-After: 1\r\n",
      "{\"status\":\"valid\",\"certificate\":\"{BASE}/cert/1\",\"finalize\":\"{BASE}/finalize/1\","
      "\"authorizations\":[\"{BASE}/authz/1\"],\"error\":{\"type\":\"x\",\"detail\":\"y\"}}" },
    { "/finalize/1", 200, NULL, "{\"status\":\"processing\",\"finalize\":\"{BASE}/finalize/1\"}" },
    { "/cert/1", 200, "Link: <{BASE}/cert/2>;rel=\"alternate\"\r\n",
      "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n" },
    { "/revoke", 200, NULL, "" },
};

static uint64_t script; /* the seed of the flow under way */
static unsigned spoilt;

static const char *pick(const char *const *from, size_t n)
{
    return from[below((uint32_t)n)];
}

#define PICK(list) pick(list, CM_ARRAY_LEN(list))

/* One change somewhere in @text, whose room is @max. */
static size_t spoil(char *text, size_t len, size_t max)
{
    static const char *const bits[] = { "{",
                                        "}",
                                        "[",
                                        "]",
                                        "\"",
                                        ":",
                                        ",",
                                        "null",
                                        "true",
                                        "-1",
                                        "1e999",
                                        "\\u0000",
                                        "\\ud800",
                                        "\\",
                                        "\xff",
                                        "\\u001b[31m",
                                        "\\u009b",
                                        "\\r\\n",
                                        "\xc3\x28",
                                        "\x1b[31m",
                                        "\r\n",
                                        "../../",
                                        "$(id)",
                                        "%n%s",
                                        "[[[[[[[[[[[[[[[[[[",
                                        "\"status\":\"invalid\",",
                                        "\"status\":\"ready\",",
                                        "\"status\":\"processing\",",
                                        "file:///etc/passwd",
                                        "http://127.0.0.1:1/",
                                        "https://u:p@h/",
                                        "99999999999999999999",
                                        "\"token\":\"../x\",",
                                        "\"type\":\"urn:ietf:params:acme:error:badNonce\"," };
    const char *bit = PICK(bits);
    size_t at = below((uint32_t)len + 1);
    size_t cut = below(4) == 0 ? below((uint32_t)(len - at) + 1) : 0;
    size_t put = strlen(bit);

    switch (below(6)) {
    case 0: /* the end is missing */
        return at;
    case 1: /* one byte is another */
        if (at < len)
            text[at] = (char)(1 + below(255));
        return len;
    case 2: /* a part is missing */
        memmove(text + at, text + at + cut, len - at - cut);
        return len - cut;
    case 3: /* a part is there twice */
        if (len + cut > max)
            return len;
        memmove(text + at + cut, text + at, len - at);
        return len + cut;
    default: /* something is there that should not be */
        if (len + put - cut > max || len - at < cut)
            return len;
        memmove(text + at + put, text + at + cut, len - at - cut);
        memcpy(text + at, bit, put);
        return len + put - cut;
    }
}

/* @text with {BASE} put in and then spoilt; lives as long as the server. */
static const char *spoilt_copy(struct scripted_http *sh, const char *text, size_t *len, bool header)
{
    size_t max = strlen(text) * 3 + 4096;
    char *out = calloc(1, max + 1);
    size_t n = 0;

    CM_ASSERT(out != NULL);
    while (*text != '\0') {
        if (strncmp(text, "{BASE}", 6) == 0) {
            n += (size_t)snprintf(out + n, max - n, "%s", sh_base(sh));
            text += 6;
        } else {
            out[n++] = *text++;
        }
    }
    for (uint32_t times = 1 + below(4); times > 0; times--)
        n = spoil(out, n, max);
    out[n] = '\0';
    for (size_t i = 0; header && i < n; i++)
        if (out[i] == '\0')
            out[i] = '.';
    *len = n;
    return sh_keep(sh, out);
}

static void make_spoilt(struct scripted_http *sh, struct sh_reply *reply)
{
    static const int statuses[] = { 200, 201, 204, 301, 307, 400, 401, 403, 404,
                                    405, 409, 429, 500, 502, 503, 504, 999, 100 };
    static const char *const headers[] = { "Retry-After: -1\r\n",
                                           "Retry-After: 99999999999999999999\r\n",
                                           "Retry-After: 0\r\n",
                                           "Location: //\r\n",
                                           "Location: file:///x\r\n",
                                           "Replay-Nonce: a b\r\n",
                                           "Replay-Nonce: \r\n",
                                           "Link: <;rel=alternate\r\n",
                                           "Content-Encoding: gzip\r\n",
                                           "Content-Type: text/html\r\n",
                                           "Transfer-Encoding: x\r\n",
                                           "X\r\n",
                                           ": y\r\n" };
    static const enum sh_fault faults[] = { SH_CLOSE,       SH_RESET,        SH_GARBAGE,
                                            SH_CUT_BODY,    SH_SHORT_LENGTH, SH_CUT_HEADERS,
                                            SH_ENDLESS_BODY };
    static const char problem[] =
        "{\"type\":\"urn:ietf:params:acme:error:malformed\",\"detail\":\"no such thing\","
        "\"subproblems\":[{\"type\":\"caa\",\"detail\":\"no such record\",\"identifier\":"
        "{\"type\":\"dns\",\"value\":\"a.test\"}}],\"status\":403}";
    size_t len = 0;

    switch (below(5)) {
    case 0:
        reply->status = statuses[below(CM_ARRAY_LEN(statuses))];
        if (reply->status >= 400 && below(4) != 0)
            reply->body = problem;
        break;
    case 1:
        reply->headers = PICK(headers);
        break;
    case 2:
        reply->fault = faults[below(CM_ARRAY_LEN(faults))];
        return;
    default:
        break;
    }
    if (reply->headers != NULL && below(4) == 0)
        reply->headers = spoilt_copy(sh, reply->headers, &len, true);
    reply->body = spoilt_copy(sh, reply->body, &len, false);
    reply->body_len = len;
    if (len == 0)
        reply->body = "";
    reply->no_nonce = below(8) == 0;
}

/* One flow at a time and one request at a time: no lock is needed for the seed. */
static void on_request(void *user, struct scripted_http *sh, const struct sh_request *req,
                       struct sh_reply *reply)
{
    uint32_t target = (uint32_t)(script % CALLS);

    (void)user;
    for (size_t i = 0; i < CALLS; i++) {
        if (strcmp(req->path, answers[i].path) != 0)
            continue;
        reply->status = answers[i].status;
        reply->headers = answers[i].headers;
        reply->body = answers[i].body;
        reply->no_nonce = i == 0;
        if ((i == target && below(8) != 0) || below(16) == 0) {
            spoilt++;
            make_spoilt(sh, reply);
        }
        return;
    }
    reply->status = 404;
    reply->body = "";
}

/* ------------------------------------------------------------------ verdict */

static bool is_printable(const char *s)
{
    for (; *s != '\0'; s++)
        if (*s < 0x20 || *s > 0x7e)
            return false;
    return true;
}

/* What a CA may cause. */
static bool is_fair(cm_status rc, const struct cm_err *err)
{
    static const cm_status fair[] = { CM_E_PARSE, CM_E_LIMIT,       CM_E_TIMEOUT,
                                      CM_E_AGAIN, CM_E_UNSUPPORTED, CM_E_NET,
                                      CM_E_TLS,   CM_E_ACME,        CM_E_RATELIMITED };

    for (size_t i = 0; i < CM_ARRAY_LEN(fair); i++)
        if (rc == fair[i])
            return err->status == rc && err->msg[0] != '\0' && is_printable(err->msg) &&
                   is_printable(err->problem) && err->retry_after_s >= 0 &&
                   err->retry_after_s <= 86400;
    return rc == CM_OK;
}

static unsigned unfair;
static unsigned refused;

static bool judge(const char *call, cm_status rc, const struct cm_err *err)
{
    refused += rc != CM_OK;
    if (is_fair(rc, err))
        return rc == CM_OK;
    unfair++;
    printf("seed %llu: %s: %s: %s\n", (unsigned long long)script, call, cm_status_name(rc),
           err->msg);
    return false;
}

/* Would the verdict notice? */
static bool verdict_works(void)
{
    struct cm_err bad[4] = { CM_ERR_INIT, CM_ERR_INIT, CM_ERR_INIT, CM_ERR_INIT };
    bool works;

    (void)cm_fail(&bad[0], CM_E_ACME, "good");
    (void)cm_fail(&bad[1], CM_E_ACME, "x");
    bad[1].msg[0] = 0x1b;
    (void)cm_fail(&bad[2], CM_E_ACME, "wait");
    bad[2].retry_after_s = 86401;
    (void)cm_fail(&bad[3], CM_E_INTERNAL, "inside");
    works = is_fair(CM_E_ACME, &bad[0]) && !is_fair(CM_E_ACME, &bad[1]) &&
            !is_fair(CM_E_ACME, &bad[2]) && !is_fair(CM_E_INTERNAL, &bad[3]) &&
            !is_fair(CM_E_NET, &bad[0]);
    return works;
}

/* --------------------------------------------------------------------- flow */

static void validate(struct cm_acme *a, const struct cm_op *op, const struct cm_acme_signer *who,
                     const struct cm_acme_order *o)
{
    for (size_t i = 0; i < o->n_authz && i < 3; i++) {
        struct cm_acme_authz z = { 0 };
        struct cm_err err = CM_ERR_INIT;

        if (!judge("authorization", cm_acme_authz_get(a, op, who, o->authz[i], &z, &err), &err))
            continue;
        for (size_t c = 0; c < z.n_challenges && c < 3; c++)
            (void)judge("challenge",
                        cm_acme_challenge_accept(a, op, who, z.challenges[c].url, &err), &err);
        cm_acme_authz_free(&z);
    }
}

static void order_and_download(struct cm_acme *a, const struct cm_op *op,
                               const struct cm_acme_signer *who)
{
    static const char *const names[] = { "a.test" };
    const struct cm_acme_new_order req = { .names = names, .n = 1 };
    struct cm_acme_order o = { 0 };
    struct cm_buf pem = CM_BUF_INIT(CM_CHAIN_PEM_MAX);
    char **alternates = NULL;
    struct cm_err err = CM_ERR_INIT;
    bool good = judge("newOrder", cm_acme_order_new(a, op, who, &req, &o, &err), &err);

    if (good)
        validate(a, op, who, &o);
    if (good && o.finalize != NULL)
        good = judge("finalize", cm_acme_order_finalize(a, op, who, &o, cm_span_str("csr"), &err),
                     &err);
    if (good)
        good = judge("order", cm_acme_order_wait(a, op, who, &o, true, &err), &err);
    if (good && o.certificate != NULL)
        (void)judge("certificate",
                    cm_acme_certificate_get(a, op, who, o.certificate, &pem, &alternates, &err),
                    &err);
    cm_acme_strv_free(alternates);
    cm_buf_free(&pem);
    cm_acme_order_free(&o);
}

static void flow(struct scripted_http *sh, const struct cm_key *key)
{
    const struct cm_acme_client_options opts = { .directory_url = sh_url(sh, "/dir"),
                                                 .http = { .allow_plain_http = true,
                                                           .total_timeout_ns = ANSWER_NS } };
    const struct cm_acme_new_account want = { .tos_agreed = true };
    const struct cm_op whole = { &env, 0, NULL };
    struct cm_op op = cm_op_within(&whole, 300 * CM_NS_PER_S);
    struct cm_acme_account acc = { 0 };
    struct cm_acme *a = NULL;
    struct cm_err err = CM_ERR_INIT;

    CM_ASSERT(cm_acme_new(&opts, &a, &err) == CM_OK);
    if (judge("newAccount", cm_acme_account_new(a, &op, key, &want, &acc, NULL, &err), &err)) {
        const struct cm_acme_signer who = { key, acc.url };

        order_and_download(a, &op, &who);
        op = cm_op_within(&whole, 60 * CM_NS_PER_S);
        (void)judge("revokeCert", cm_acme_revoke(a, &op, &who, cm_span_str("der"), 1, &err), &err);
    }
    if (cm_acme_request_count(a) > REQUESTS_MAX) {
        unfair++;
        printf("seed %llu: %llu requests\n", (unsigned long long)script,
               (unsigned long long)cm_acme_request_count(a));
    }
    cm_acme_account_free(&acc);
    cm_acme_free(a);
}

int main(int argc, char **argv)
{
    unsigned long long first = argc == 3 ? strtoull(argv[1], NULL, 10) : 0;
    unsigned long long count = argc == 3 ? strtoull(argv[2], NULL, 10) : 0;
    struct scripted_http *sh = NULL;
    struct cm_key *key = NULL;
    unsigned untouched = 0;
    unsigned reused = 0;
    int64_t slowest_ns = 0;

    if (count == 0 || !verdict_works() || cm_key_generate(CM_PK_P256, &key, NULL) != CM_OK) {
        fprintf(stderr, "usage: hostile_scripts FIRST COUNT\n");
        return 2;
    }
    for (unsigned long long i = 0; i < count; i++) {
        int64_t began = cm_env_system()->mono_ns(cm_env_system());
        unsigned before = spoilt;

        if (i % BATCH == 0) {
            reused += sh != NULL ? sh_nonce_reuses(sh) : 0;
            sh_stop(sh);
            sh = sh_start(0);
            sh_handle(sh, "*", "*", on_request, NULL);
        }
        script = first + i;
        rng = (script + 1) * UINT64_C(0x9e3779b97f4a7c15);
        flow(sh, key);
        untouched += spoilt == before;
        began = cm_env_system()->mono_ns(cm_env_system()) - began;
        slowest_ns = began > slowest_ns ? began : slowest_ns;
    }
    reused += sh_nonce_reuses(sh);
    sh_stop(sh);
    cm_key_unref(key);
    printf("hostile scripts: %llu flows, %u answers spoilt (%u flows had none), %u calls refused, "
           "%u unfair, %u nonces reused, slowest %lld ms\n",
           count, spoilt, untouched, refused, unfair, reused,
           (long long)(slowest_ns / CM_NS_PER_MS));
    return unfair == 0 && reused == 0 && spoilt > count / 2 && untouched < count / 2 &&
                   slowest_ns < SECONDS_MAX * CM_NS_PER_S
               ? 0
               : 1;
}

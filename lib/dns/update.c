/* SPDX-License-Identifier: Apache-2.0 */
#include "wire.h"

#include <stdio.h>
#include <string.h>

/* Dynamic updates, RFC 2136: one record comes or goes. Adding what is there and removing what is
 * not there are successes by the protocol, so asking again after a lost answer is safe. */

#define TRY_NS (3 * CM_NS_PER_S)

static void write_update(struct dns_writer *w, unsigned id, const struct dns_update *u)
{
    size_t len = strlen(u->value);

    w->len = 0;
    w->bad = len == 0 || len > DNS_TXT_MAX;
    dns_put_u16(w, id);
    dns_put_u16(w, DNS_OPCODE_UPDATE << 11);
    dns_put_u16(w, 1);
    dns_put_u16(w, 0);
    dns_put_u16(w, 1);
    dns_put_u16(w, 0);
    dns_put_name(w, u->zone);
    dns_put_u16(w, DNS_SOA);
    dns_put_u16(w, DNS_IN);
    dns_put_name(w, u->name);
    dns_put_u16(w, DNS_TXT);
    dns_put_u16(w, u->remove ? DNS_CLASS_NONE : DNS_IN);
    dns_put_u32(w, u->remove ? 0 : u->ttl);
    dns_put_u16(w, (unsigned)len + 1);
    dns_put_u8(w, (unsigned)len);
    dns_put_bytes(w, u->value, len);
}

static cm_status judge(const struct dns_update *u, const struct dns_key *key,
                       const struct dns_message *m, struct cm_err *err)
{
    unsigned rcode = DNS_RCODE(m->flags);
    char code[16];

    switch (rcode) {
    case DNS_NOERROR:
        return CM_OK;
    case DNS_REFUSED:
        return cm_fail(err, CM_E_PERM,
                       "REFUSED: may %s%s change TXT records at %s (allow-update, update-policy)?",
                       key == NULL ? "an update without key" : "key ",
                       key == NULL ? "" : dns_key_name(key), u->name);
    case DNS_NOTAUTH:
    case DNS_NOTZONE:
        return cm_fail(err, CM_E_NOTFOUND, "%s: it is not the primary server of zone %s",
                       dns_rcode_text(rcode, code), u->zone);
    default:
        return cm_fail(err, CM_E_NET, "it answers %s", dns_rcode_text(rcode, code));
    }
}

static cm_status try(const struct dns_server *server, const struct cm_op *op,
                     const struct dns_key *key, const struct dns_update *u, bool tcp,
                     struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf answer = CM_BUF_INIT(DNS_MESSAGE_MAX);
    const struct cm_env *env = cm_op_env(op);
    struct dns_writer w;
    struct dns_message m;
    uint8_t id[2], mac[DNS_MAC_MAX];
    size_t mac_len = 0;

    cm_status rc = cm_env_random(env, id, sizeof id, err);
    if (rc != CM_OK)
        return rc;
    write_update(&w, dns_get_u16(id), u);
    if (w.bad)
        return cm_fail(err, CM_E_INVAL, "no name, or no text of 1 to 255 bytes");
    if (key != NULL)
        rc = dns_sign(key, &w, cm_env_wall_s(env), mac, &mac_len, err);
    if (rc == CM_OK)
        rc = dns_exchange(server, op, (struct cm_span){ w.data, w.len }, tcp, TRY_NS, &answer, &m,
                          err);
    /* A refusal need not be signed to be one. */
    if (rc == CM_OK && key != NULL && (DNS_RCODE(m.flags) == DNS_NOERROR || m.counts[3] > 0))
        rc = dns_verify(key, &m, (struct cm_span){ mac, mac_len }, cm_env_wall_s(env), err);
    return rc == CM_OK ? judge(u, key, &m, err) : rc;
}

cm_status dns_update(const struct dns_server *server, const struct cm_op *op,
                     const struct dns_key *key, const struct dns_update *what, struct cm_err *err)
{
    static const bool by_tcp[] = { false, false, true };
    cm_status rc = CM_E_NET;

    for (size_t i = 0; i < CM_ARRAY_LEN(by_tcp); i++) {
        rc = try(server, op, key, what, by_tcp[i], err);
        if ((rc != CM_E_TIMEOUT && rc != CM_E_NET) || cm_op_check(op, NULL) != CM_OK)
            break;
    }
    return rc == CM_OK ? rc : cm_wrap(err, rc, "update of zone %s at %s", what->zone, server->text);
}

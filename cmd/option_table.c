/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd.h"

/* Every option once: what it is called, who takes it, where its value goes, what help says. The
 * parser, the help texts and the hints for misspelled options are all made from this table. */

#define ISSUING   (CLI_OBTAIN | CLI_RENEW | CLI_SERVE)
#define ACME      (ISSUING | CLI_REVOKE | CLI_ACCOUNT | CLI_DNS)
#define READING   (CLI_LIST | CLI_SHOW | CLI_CLEAN | CLI_STATUS | CLI_WHY | CLI_FLEET)
#define ALL       (ACME | READING | CLI_TRUST | CLI_STORE | CLI_VERSION | CLI_HELP | CLI_CAS)
#define STORING   (ACME | READING | CLI_TRUST | CLI_STORE)
#define JUDGING   (ISSUING | READING)
#define AT(field) offsetof(struct cli_opts, field)

const struct cli_option cli_options[] = {
    /* what the command does */
    { "san", 0, CLI_OBTAIN | CLI_SERVE, CLI_KIND_FLAG, AT(san), NULL,
      "one certificate for all the names, instead of one each" },
    { "csr", 0, CLI_OBTAIN, CLI_KIND_TEXT, AT(csr), "FILE",
      "a certificate for this request (PKCS#10, PEM or DER), whose key stays where it is; again "
      "when it is due, each time this is run" },
    { "out", 0, CLI_OBTAIN, CLI_KIND_TEXT, AT(out), "FILE",
      "write its chain to FILE; default: print it" },
    { "force", 0, CLI_RENEW, CLI_KIND_FLAG, AT(force), NULL, "renew even if it is not due" },
    { "reason", 0, CLI_REVOKE, CLI_KIND_REASON, AT(reason), "REASON",
      "RFC 5280 reason, by name or number: unspecified (0), keyCompromise (1), "
      "affiliationChanged (3), superseded (4), cessationOfOperation (5), ..." },
    { "keep", 0, CLI_REVOKE, CLI_KIND_FLAG, AT(keep), NULL,
      "leave the revoked certificate in storage" },
    { "problems", 0, CLI_STATUS, CLI_KIND_FLAG, AT(problems), NULL,
      "show only the names that somebody should look at" },
    { "names", 0, CLI_FLEET, CLI_KIND_FLAG, AT(names), NULL, "show the names of each, too" },
    { "pem", 0, CLI_SHOW, CLI_KIND_FLAG, AT(pem), NULL, "print the certificate chain as PEM" },
    { "dir", 0, CLI_SERVE, CLI_KIND_TEXT, AT(dir), "DIR",
      "serve the files below DIR; default: a page about the certificate" },
    { "cert", 0, CLI_SERVE, CLI_KIND_LIST, AT(certs), "FILE",
      "serve the certificate chain in this PEM file, too, and what takes its place; with --key; "
      "may be given several times" },
    { "key", 0, CLI_SERVE, CLI_KIND_LIST, AT(keys), "FILE", "its private key" },
    { "metrics", 0, CLI_SERVE, CLI_KIND_TEXT, AT(metrics), "ADDR[:PORT]",
      "answer GET /metrics for Prometheus there, over plain HTTP; a PORT alone is one of "
      "127.0.0.1; default: not at all; default port: 9464" },
    { "redirect-port", 0, CLI_SERVE, CLI_KIND_PORT, AT(redirect_port), "PORT",
      "port that redirects to HTTPS name; default: the TLS port" },
    { "no-http", 0, CLI_SERVE, CLI_KIND_FLAG, AT(no_http), NULL,
      "open no plain HTTP port: no redirect, no http-01" },
    { "no-ocsp", 0, CLI_SERVE, CLI_KIND_FLAG, AT(no_ocsp), NULL,
      "staple no OCSP responses, and do not look for revocation by OCSP" },
    { "no-crl", 0, CLI_SERVE, CLI_KIND_FLAG, AT(no_crl), NULL,
      "do not look into the CRLs of certificates without OCSP" },
    { "ocsp-responder", 0, CLI_SERVE, CLI_KIND_RESPONDER, AT(responders), "FROM=TO",
      "ask the OCSP responder at URL TO where a certificate names FROM; with nothing behind "
      "the =: none; may be given several times" },
    { "fetch-local", 0, CLI_SERVE, CLI_KIND_FLAG, AT(fetch_local), NULL,
      "OCSP responders and CRLs may be at loopback and link-local addresses: for labs" },
    { "no-clean", 0, CLI_SERVE, CLI_KIND_FLAG, AT(no_clean), NULL,
      "do not clean the storage; default: one machine of all does, once a day, as "
      "certmesh clean" },
    { "snapshot", 0, CLI_SERVE, CLI_KIND_TEXT, AT(snapshot), "FILE",
      "keep an encrypted copy of what is served there, and start from it while the storage cannot "
      "be read; with --snapshot-key-file" },
    { "snapshot-key-file", 0, CLI_SERVE, CLI_KIND_TEXT, AT(snapshot_key_file), "FILE",
      "its key: 32 bytes or 64 hex digits" },
    { "no-shared-tickets", 0, CLI_SERVE, CLI_KIND_FLAG, AT(no_shared_tickets), NULL,
      "keep the keys of TLS session tickets to this process; default: machines on the same "
      "storage share them, so that clients can resume with any" },
    { "ticket-rotation", 0, CLI_SERVE, CLI_KIND_SPAN, AT(ticket_rotation_s), "TIME",
      "another key of session tickets after that: 1m to 7d; default: 12h" },
    { "poll-storage", 0, CLI_SERVE, CLI_KIND_SPAN, AT(poll_storage_s), "TIME",
      "look at least that often for what others changed in the storage: 10s to 1d; default: 10m" },
    { "no-announce", 0, CLI_SERVE, CLI_KIND_FLAG, AT(no_announce), NULL,
      "do not say in the storage what this machine serves; default: it does, for certmesh fleet" },
    { "node-name", 0, CLI_SERVE, CLI_KIND_TEXT, AT(node_name), "NAME",
      "what certmesh fleet calls this machine; default: its host name" },
    { "on-demand", 0, CLI_SERVE, CLI_KIND_FLAG, AT(on_demand), NULL,
      "get certificates for names that clients ask for, too, as --ask and --allow let them" },
    { "ask", 0, CLI_SERVE, CLI_KIND_TEXT, AT(ask), "URL",
      "with --on-demand: GET URL?domain=NAME decides; 200 allows, all else denies" },
    { "allow", 0, CLI_SERVE, CLI_KIND_LIST, AT(allow), "NAME",
      "with --on-demand: this name may have one; may be given several times" },
    { "allow-suffix", 0, CLI_SERVE, CLI_KIND_LIST, AT(allow_suffixes), "DOMAIN",
      "with --on-demand: any name below it may; may be given several times" },
    { "on-demand-rate", 0, CLI_SERVE, CLI_KIND_RATE, AT(demand_rate), "ORDERS/TIME",
      "with --on-demand: new certificates at most, of all machines on the storage, in any such "
      "time: 1 to 1000 in 1m to 7d; default: 200/3h" },
    { "on-demand-recheck", 0, CLI_SERVE, CLI_KIND_SPAN, AT(recheck_s), "TIME",
      "with --ask: ask again about names that are served, at the first client after that: at most "
      "1d; default: what is served is served" },
    { "grace", 0, CLI_CLEAN, CLI_KIND_DURATION, AT(grace_s), "TIME",
      "how long a certificate must have been expired: 14d (default), 36h, ..." },
    { "dry-run", 0, CLI_CLEAN, CLI_KIND_FLAG, AT(dry_run), NULL,
      "say what would go, touch nothing" },
    { "compromised", 0, CLI_CLEAN, CLI_KIND_DURATION, AT(compromised_s), "TIME",
      "also remove keys put aside as compromised so long ago: 90d; default: they stay" },
    { "if-older", 0, CLI_CLEAN, CLI_KIND_DURATION, AT(if_older_s), "TIME",
      "do nothing if any machine on this storage cleaned it less than this ago: 24h" },
    { "force", 0, CLI_CLEAN, CLI_KIND_FLAG, AT(force), NULL,
      "clean although this machine's clock seems to be wrong" },
    { "out", 0, CLI_TRUST, CLI_KIND_TEXT, AT(out), "FILE", "write the root to FILE" },
    { "recursive", 'r', CLI_STORE, CLI_KIND_FLAG, AT(recursive), NULL,
      "ls: all values below, not only the next level; rm: everything below" },
    { "output", 'o', CLI_STORE, CLI_KIND_TEXT, AT(out), "FILE",
      "get: write to FILE, which the owner alone can read" },
    { "from", 0, CLI_STORE, CLI_KIND_TEXT, AT(from), "URL", "copy, migrate: the old storage" },
    { "to", 0, CLI_STORE, CLI_KIND_TEXT, AT(to), "URL", "copy, migrate: the new storage" },
    { "autocert", 0, CLI_STORE, CLI_KIND_TEXT, AT(autocert), "DIR",
      "import: the certificates, from --ca, and the account key, for --email, that programs with "
      "Go's autocert keep in DIR" },
    { "delete", 0, CLI_STORE, CLI_KIND_FLAG, AT(remove_others), NULL,
      "copy: remove from the new storage what the old one does not have" },
    { "repair", 0, CLI_STORE, CLI_KIND_FLAG, AT(repair), NULL,
      "check: put aside what is damaged, remove what is left over" },
    { "dry-run", 0, CLI_STORE, CLI_KIND_FLAG, AT(dry_run), NULL,
      "copy, import: say what would be stored or removed, touch nothing" },
    { "force", 0, CLI_STORE, CLI_KIND_FLAG, AT(force), NULL,
      "get: print a private key on a terminal; copy, import: replace newer certificates by "
      "older ones, too" },
    { "wildcard", 0, CLI_DNS, CLI_KIND_FLAG, AT(wildcard), NULL,
      "for wildcards and all names below, too: policy=wildcard" },
    { "until", 0, CLI_DNS, CLI_KIND_SPAN, AT(until_s), "TIME",
      "the record is to end so long from now: 365d; default: never" },
    { "issuer-domain", 0, CLI_DNS, CLI_KIND_TEXT, AT(issuer_domain), "DOMAIN",
      "how the CA calls itself in such records; default: as its directory says" },
    { "verify", 0, CLI_DNS, CLI_KIND_FLAG, AT(verify), NULL,
      "look whether all servers of the zone show it; exit code 1 if not" },
    { "yes", 'y', CLI_REVOKE | CLI_ACCOUNT, CLI_KIND_FLAG, AT(yes), NULL, "do not ask" },

    /* where certificates are kept and who issues them */
    { "storage", 0, STORING, CLI_KIND_TEXT, AT(storage), "URL",
      "file:DIR, redis://..., postgres://... or others, see certmesh(1); default: "
      "$CERTMESH_STORAGE, else the place CertMagic "
      "uses: $XDG_DATA_HOME/certmagic or ~/.local/share/certmagic" },
    { "root", 0, STORING, CLI_KIND_TEXT, AT(root), "DIR", "the same as --storage file:DIR" },
    { "ca", 0, ACME | READING | CLI_STORE, CLI_KIND_CA, AT(ca), "CA",
      "letsencrypt (default), letsencrypt-staging, internal, or the https URL of "
      "an ACME directory; or $CERTMESH_CA" },
    { "internal", 0, ACME | READING | CLI_TRUST, CLI_KIND_FLAG, AT(internal), NULL,
      "the same as --ca internal: certmesh's own local CA, no network" },
    { "fallback-ca", 0, ISSUING | CLI_REVOKE | READING, CLI_KIND_CA_LIST, AT(fallback_cas), "CA",
      "an ACME CA to go to when those before it fail; may be given several times; or "
      "$CERTMESH_FALLBACK_CA" },
    { "ca-order", 0, ISSUING, CLI_KIND_CA_ORDER, AT(ca_random), "ORDER",
      "listed (default) or random: which of --ca and --fallback-ca is tried first" },
    { "test-ca", 0, CLI_SERVE, CLI_KIND_ACME_CA, AT(test_ca), "CA",
      "after a failure, try there first; its certificate is thrown away; or "
      "$CERTMESH_TEST_CA" },
    { "issuer", 0, ISSUING | CLI_REVOKE, CLI_KIND_TEXT, AT(issuer), "KIND",
      "how --ca is spoken to: acme (default), or zerossl: ZeroSSL's own interface" },
    { "zerossl-key-file", 0, ISSUING | CLI_REVOKE, CLI_KIND_TEXT, AT(zerossl_key_file), "FILE",
      "access key for --issuer zerossl, in a file that nobody else can read" },
    { "ca-root", 0, ACME, CLI_KIND_TEXT, AT(ca_root), "FILE",
      "trust only this PEM file for the CA's own HTTPS; or $CERTMESH_CA_ROOT" },
    { "email", 0, ACME | CLI_STORE, CLI_KIND_TEXT, AT(email), "ADDRESS",
      "contact of the ACME account; or $CERTMESH_EMAIL" },
    { "agree", 0, ACME, CLI_KIND_FLAG, AT(agree), NULL,
      "you agree to the terms of service of the CA" },
    { "eab-kid", 0, ACME, CLI_KIND_TEXT, AT(eab_kid), "ID",
      "key identifier of an external account binding" },
    { "eab-key-file", 0, ACME, CLI_KIND_TEXT, AT(eab_key_file), "FILE",
      "its base64url key; or in $CERTMESH_EAB_KEY" },
    { "eab-alg", 0, ACME, CLI_KIND_TEXT, AT(eab_alg), "ALG", "HS256 (default), HS384 or HS512" },
    { "account-key", 0, ACME, CLI_KIND_TEXT, AT(account_key), "FILE",
      "PEM key of an account that exists; default: kept in storage" },
    { "proxy", 0, ACME, CLI_KIND_TEXT, AT(proxy), "URL",
      "proxy on the way to the CA, http://HOST:PORT for one; default: $https_proxy or "
      "$all_proxy, but for hosts in $no_proxy; none: none" },

    /* how to get them */
    { "challenge", 0, ISSUING, CLI_KIND_CHALLENGE, AT(challenges), "TYPE",
      "http-01, tls-alpn-01, dns-01, dns-account-01 or dns-persist-01; may be given several times; "
      "default: the first two; with --dns: dns-01, and those for addresses" },
    { "dns", 0, ISSUING | CLI_CLEAN, CLI_KIND_TEXT, AT(dns), "PROVIDER",
      "who puts up the records for dns-01, so that wildcards can be had: "
      "rfc2136://SERVER/?key-file=FILE, exec:PROGRAM, acme-dns:URL?accounts=FILE or "
      "cloudflare:?token-file=FILE, see certmesh(1); or $CERTMESH_DNS" },
    { "dns-resolver", 0, ISSUING | CLI_DNS, CLI_KIND_LIST, AT(dns_resolvers), "ADDR[:PORT]",
      "recursive DNS server to look names up with; may be given several times; default: those of "
      "/etc/resolv.conf" },
    { "dns-timeout", 0, ISSUING, CLI_KIND_SECONDS, AT(dns_timeout_s), "SECONDS",
      "for a record to show on all servers of its zone; default: 120" },
    { "no-dns-check", 0, ISSUING, CLI_KIND_FLAG, AT(no_dns_check), NULL,
      "do not wait until a record shows: the CA may be asked too early" },
    { "dns-server-port", 0, ISSUING | CLI_DNS, CLI_KIND_PORT, AT(dns_server_port), "PORT",
      "where the servers of zones answer; default: 53; others are for labs" },
    { "stateless", 0, ISSUING, CLI_KIND_FLAG, AT(stateless), NULL,
      "store no tokens of http-01: all answer with the thumbprint of the account, which "
      "certmesh account prints; a web server can be told to" },
    { "key-type", 0, ISSUING | CLI_ACCOUNT, CLI_KIND_KEY_TYPE, AT(key_type), "TYPE",
      "p256 (default), p384, rsa2048, rsa3072, rsa4096, rsa8192 or ed25519" },
    { "key-url", 0, ISSUING, CLI_KIND_TEXT, AT(key_url), "URL",
      "make the keys in a PKCS#11 token, such as "
      "'pkcs11:token=edge?pin-source=file:/etc/certmesh/pin'" },
    { "also-key-type", 0, CLI_SERVE, CLI_KIND_KEY_TYPE, AT(also_key_type), "TYPE",
      "a second certificate for each name, with such a key, for clients that cannot check "
      "the first" },
    { "variant", 0, ISSUING | CLI_REVOKE | READING, CLI_KIND_TEXT, AT(variant), "NAME",
      "certificates that are kept apart from the CA's others, such as those that "
      "--also-key-type got, which are called as the type" },
    { "profile", 0, ISSUING, CLI_KIND_TEXT, AT(profile), "NAME",
      "certificate profile of the CA, such as shortlived" },
    { "preferred-chain", 0, ISSUING, CLI_KIND_TEXT, AT(preferred_chain), "NAME",
      "common name of the root the chain should lead to" },
    { "chain", 0, ISSUING, CLI_KIND_CHAIN, AT(chain), "HOW",
      "when the CA offers several: root (default) or any: the one with a certificate that "
      "--preferred-chain signed, at its end or anywhere; smallest: that of the fewest bytes" },
    { "lifetime", 0, ISSUING, CLI_KIND_SPAN, AT(lifetime_s), "TIME",
      "ask for certificates that end so long after the order: 7d; many CAs refuse that" },
    { "backdate", 0, ISSUING, CLI_KIND_SPAN, AT(backdate_s), "TIME",
      "ask for certificates that begin so long before the order: 1h; likewise" },
    { "must-staple", 0, ISSUING, CLI_KIND_FLAG, AT(must_staple), NULL,
      "ask for certificates that clients accept only with an OCSP staple; some CAs refuse" },
    { "csr-extension", 0, ISSUING, CLI_KIND_CSR_EXTENSION, AT(csr_extensions), "OID=[critical:]HEX",
      "an extension to ask for in requests, its value as DER in hex; may be given several times" },
    { "renew-before", 0, JUDGING, CLI_KIND_SPAN, AT(renew_before_s), "TIME",
      "renew so long before the end: 30d; default: when a third of the lifetime is left, "
      "half of less than ten days" },
    { "no-ari", 0, ISSUING, CLI_KIND_FLAG, AT(no_ari), NULL,
      "do not ask the CA when it suggests to renew" },
    { "rate", 0, ISSUING, CLI_KIND_RATE, AT(rate), "EVENTS/TIME",
      "new orders at most, for each CA, in any such time: 300/3h; off: no limit; default: "
      "as the CA is known to allow" },
    { "http-port", 0, ISSUING, CLI_KIND_PORT, AT(http_port), "PORT",
      "plain port for http-01 and redirects; default: 80. The CA always asks "
      "on port 80, so forward that port here" },
    { "tls-port", 0, ISSUING, CLI_KIND_PORT, AT(tls_port), "PORT",
      "port for HTTPS and tls-alpn-01; default: 443" },
    { "alt-http-port", 0, ISSUING, CLI_KIND_PORT, AT(alt_http_port), "PORT",
      "answer http-01 here while it takes, and keep --http-port for what serve redirects" },
    { "alt-tls-port", 0, ISSUING, CLI_KIND_PORT, AT(alt_tls_port), "PORT",
      "answer tls-alpn-01 here while it takes, and keep --tls-port for HTTPS" },
    { "listen", 0, ISSUING, CLI_KIND_TEXT, AT(listen), "HOST",
      "open ports on this address only; default: all" },
    { "parallel", 0, ISSUING, CLI_KIND_COUNT, AT(parallel), "N",
      "names worked on at once; default: 10" },
    { "timeout", 0, STORING, CLI_KIND_SECONDS, AT(timeout_s), "SECONDS",
      "give up on a name, or on the whole of a short command, after this long; "
      "default: 300" },

    /* what is printed */
    { "json", 0, ALL & ~(unsigned)(CLI_SERVE | CLI_TRUST | CLI_HELP), CLI_KIND_FLAG, AT(json), NULL,
      "print results as JSON" },
    { "quiet", 'q', STORING, CLI_KIND_FLAG, AT(quiet), NULL, "no progress, no remarks" },
    { "verbose", 'v', STORING, CLI_KIND_FLAG, AT(verbose), NULL, "log what happens" },
    { "log-format", 0, ALL, CLI_KIND_LOG_FORMAT, AT(log_json), "FORMAT",
      "text (default) or json: whatever is said on standard error, one object a line" },
    { "log-json", 0, STORING, CLI_KIND_FLAG, AT(log_json), NULL, "the same as --log-format json" },
    { "no-color", 0, ALL, CLI_KIND_FLAG, AT(no_color), NULL, "no colors; also $NO_COLOR" },
    { "help", 'h', ALL, CLI_KIND_FLAG, AT(help), NULL, "this text" },
    { NULL, 0, 0, CLI_KIND_FLAG, 0, NULL, NULL },
};

const struct cli_reason cli_reasons[] = {
    { "unspecified", CM_REVOKE_UNSPECIFIED },
    { "keyCompromise", CM_REVOKE_KEY_COMPROMISE },
    { "cACompromise", CM_REVOKE_CA_COMPROMISE },
    { "affiliationChanged", CM_REVOKE_AFFILIATION_CHANGED },
    { "superseded", CM_REVOKE_SUPERSEDED },
    { "cessationOfOperation", CM_REVOKE_CESSATION_OF_OPERATION },
    { "certificateHold", CM_REVOKE_CERTIFICATE_HOLD },
    { "removeFromCRL", CM_REVOKE_REMOVE_FROM_CRL },
    { "privilegeWithdrawn", CM_REVOKE_PRIVILEGE_WITHDRAWN },
    { "aACompromise", CM_REVOKE_AA_COMPROMISE },
    { NULL, 0 },
};

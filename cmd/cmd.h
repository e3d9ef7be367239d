/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CERTMESH_CMD_CMD_H
#define CERTMESH_CMD_CMD_H

/* What the files of the certmesh command share. The command is a plain user of the library: it
 * includes <certmesh/cm.h> and libc, nothing else. */

#include <certmesh/cm.h>

#include <stdio.h>

/* Exit codes: part of the interface, see certmesh(1). Never renumber. */
enum cli_exit {
    CLI_OK = 0,
    CLI_FAILED = 1,   /* for a reason that has no code of its own */
    CLI_USAGE = 2,    /* the command line is wrong; nothing was done */
    CLI_SOME = 3,     /* some names failed, others did not */
    CLI_REFUSED = 4,  /* the CA said no, or policy did */
    CLI_STORAGE = 5,  /* storage could not be read or written */
    CLI_NETWORK = 6,  /* network failure or timeout */
    CLI_NOTFOUND = 7, /* storage holds nothing under that name */
    CLI_PORT = 8,     /* a port could not be opened */
    CLI_SIGINT = 130,
    CLI_SIGTERM = 143
};

/* One bit per command, for the table of options. */
enum cli_command_bit {
    CLI_OBTAIN = 1u << 0,
    CLI_RENEW = 1u << 1,
    CLI_REVOKE = 1u << 2,
    CLI_LIST = 1u << 3,
    CLI_SHOW = 1u << 4,
    CLI_SERVE = 1u << 5,
    CLI_CLEAN = 1u << 6,
    CLI_ACCOUNT = 1u << 7,
    CLI_TRUST = 1u << 8,
    CLI_VERSION = 1u << 9,
    CLI_HELP = 1u << 10,
    CLI_STATUS = 1u << 11,
    CLI_WHY = 1u << 12,
    CLI_STORE = 1u << 13, /* the command is called storage */
    CLI_FLEET = 1u << 14,
    CLI_DNS = 1u << 15,
    CLI_CAS = 1u << 16
};

#define CLI_LIST_MAX 100u
/* The values of an option that may be given several times, in order. */
struct cli_list {
    const char *at[CLI_LIST_MAX];
    size_t n;
};

/* New orders in any window of time; both 0 = as the CA is known to allow, a window of -1 = no
 * limit. */
struct cli_rate {
    size_t events;
    int64_t window_ms;
};

/* Of the environment, as curl has it; NULL = none. */
struct cli_proxies {
    const char *https; /* for the CA */
    const char *http;  /* for OCSP responders and CRLs */
    const char *except;
};

/* What the command line and the environment said. Text is borrowed from them. */
struct cli_opts {
    const char *storage;
    const char *root;
    const char *ca; /* URL or short name, as given */
    bool internal;
    const char *test_ca;          /* as ca, but never the internal one */
    struct cli_list fallback_cas; /* likewise */
    bool ca_random;               /* these and the first in any order */
    const char *ca_root;
    const char *email;
    bool agree;
    unsigned challenges;
    const char *dns; /* provider */
    struct cli_list dns_resolvers;
    int64_t dns_timeout_s;
    bool no_dns_check;
    uint16_t dns_server_port;
    const char *issuer_domain;
    bool wildcard;
    bool verify;
    int64_t until_s; /* from now; 0 = for ever */
    enum cm_key_type key_type;
    const char *key_url;
    uint16_t http_port;
    uint16_t tls_port;
    uint16_t alt_http_port, alt_tls_port; /* of challenges; 0 = the same */
    uint16_t redirect_port;
    const char *listen;
    const char *eab_kid;
    const char *eab_key_file;
    const char *eab_alg;
    const char *account_key;
    const char *issuer; /* "acme", "zerossl"; NULL = "acme" */
    const char *zerossl_key_file;
    const char *profile;
    const char *preferred_chain;
    enum cm_chain_choice chain;
    int64_t lifetime_s;
    int64_t backdate_s;
    bool stateless;
    const char *variant;
    enum cm_key_type also_key_type; /* CM_KEY_DEFAULT = none */
    const char *proxy;              /* "none": none, whatever the environment says */
    struct cli_proxies env_proxies; /* what the environment says */
    bool must_staple;
    struct cli_list csr_extensions; /* "OID=[critical:]HEX" */
    struct cli_rate rate;
    bool no_ari;
    int64_t renew_before_s;
    int64_t timeout_s;
    unsigned parallel;
    int reason; /* RFC 5280 5.3.1, -1 = none */
    int64_t grace_s;
    int64_t compromised_s;
    int64_t if_older_s;
    const char *dir;
    struct cli_list certs, keys; /* files: of each certificate and its key */
    struct cli_list responders;  /* "FROM=TO" */
    bool no_ocsp;
    bool no_crl;
    bool fetch_local;
    bool no_clean;
    bool no_shared_tickets;
    int64_t ticket_rotation_s;
    int64_t poll_storage_s;
    bool no_announce;
    bool on_demand;
    const char *ask;
    struct cli_list allow, allow_suffixes;
    struct cli_rate demand_rate;
    int64_t recheck_s;
    const char *node_name;
    bool names;
    const char *metrics;
    const char *snapshot;
    const char *snapshot_key_file;
    const char *csr;
    const char *out;
    const char *from, *to; /* storages */
    const char *autocert;  /* directory */
    bool no_http;
    bool problems;
    bool force;
    bool recursive;
    bool remove_others;
    bool repair;
    bool san;
    bool dry_run;
    bool keep;
    bool pem;
    bool yes;
    bool json;
    bool quiet;
    bool verbose;
    bool log_json;
    bool no_color;
    bool help;
    bool version;
};

struct cli;

struct cli_command {
    const char *name;
    unsigned bit;
    int (*run)(struct cli *c);
    unsigned min_args;
    unsigned max_args; /* 0 = none allowed */
    const char *args;  /* for the usage line */
    const char *summary;
    const char *text;
    const char *examples;
};

struct cli {
    const struct cli_command *command;
    struct cli_opts o;
    const char **names;
    size_t n_names;
    struct cm_cancel *cancel;
    struct cm_config *cfg;      /* after cli_open() */
    struct cm_config *also;     /* beside it: for --also-key-type; NULL = none */
    struct cm_fetcher *fetcher; /* of its own, through the proxy; NULL = none */
    struct cm_key_source *key_source;
    struct cm_op op;
};

/* ---- commands.c, help.c, option_table.c, options.c ---- */

extern const struct cli_command cli_commands[];
const struct cli_command *cli_command_find(const char *name);

void cli_help_overview(FILE *out);
void cli_help_command(FILE *out, const struct cli_command *cmd);

enum cli_option_kind {
    CLI_KIND_FLAG,
    CLI_KIND_TEXT,
    CLI_KIND_PORT,
    CLI_KIND_COUNT,
    CLI_KIND_SECONDS,
    CLI_KIND_DURATION,
    CLI_KIND_SPAN, /* a time above 0 */
    CLI_KIND_CA,
    CLI_KIND_ACME_CA,
    CLI_KIND_CA_LIST,
    CLI_KIND_CA_ORDER,
    CLI_KIND_RATE,
    CLI_KIND_RESPONDER,
    CLI_KIND_CHALLENGE,
    CLI_KIND_CHAIN,
    CLI_KIND_CSR_EXTENSION,
    CLI_KIND_KEY_TYPE,
    CLI_KIND_REASON,
    CLI_KIND_LIST,
    CLI_KIND_LOG_FORMAT
};
struct cli_option {
    const char *name;
    char letter; /* 0 = none */
    unsigned commands;
    enum cli_option_kind kind;
    size_t offset; /* in struct cli_opts */
    const char *metavar;
    const char *help;
};
extern const struct cli_option cli_options[]; /* ends with name NULL */

/* RFC 5280 5.3.1; ends with name NULL. */
struct cli_reason {
    const char *name;
    int code;
};
extern const struct cli_reason cli_reasons[];

/* Fill c->command, c->o and c->names. -1 to go on, else the exit code (already explained). */
int cli_parse(struct cli *c, int argc, char **argv);

/* ---- option_life.c: options about CAs and the life of certificates ---- */

/* Each: -1 to go on, else the exit code (already explained). @option without its dashes. */
int cli_set_ca(const struct cli *c, const char *option, const char **ca, const char *value);
int cli_set_acme_ca(const struct cli *c, const char *option, const char **ca, const char *value);
int cli_add_ca(const struct cli *c, const char *option, struct cli_list *cas, const char *value);
int cli_set_ca_order(const struct cli *c, bool *random, const char *value);
int cli_set_rate(const struct cli *c, const char *option, struct cli_rate *rate, const char *value);
int cli_add_responder(const struct cli *c, struct cli_list *list, const char *value);
/* What the environment says of CAs, where the command line is silent. */
int cli_cas_from_environment(struct cli *c);
/* Do they go together? */
int cli_life_check(const struct cli *c);

/* ---- option_acme.c: options about what a CA is asked, and how it is reached ---- */

/* -1 to go on, else the exit code (already explained). */
int cli_set_chain(const struct cli *c, enum cm_chain_choice *chain, const char *value);
/* Do they go together? */
int cli_acme_check(const struct cli *c);
/* The proxies of the environment, as curl reads it. */
void cli_proxies_from_environment(struct cli *c);
/* What the options come to. @elsewhere: for a CA that is not the one of --ca. */
void cli_fill_extra(const struct cli *c, bool elsewhere, struct cm_acme_extra *x);
/* The fetcher for OCSP and CRLs that goes through the proxy; *ret = NULL when there is none. */
cm_status cli_fetcher_new(const struct cli *c, struct cm_fetcher **ret, struct cm_err *err);

/* ---- cmd_trust.c ---- */

/* What is public gets the modes of an ordinary file; but half of it helps nobody, so that goes. */
cm_status cli_write_public(const char *path, const struct cm_buf *pem, struct cm_err *err);

/* ---- cmd_csr.c: obtain --csr ---- */
int cli_run_csr(struct cli *c);

/* ---- text.c: small parsers and printers ---- */

/* The entry of @words (ends with NULL) that @word is most likely a slip of, or NULL. */
const char *cli_closest(const char *word, const char *const *words);
bool cli_parse_uint(const char *s, uint64_t max, uint64_t *ret);
/* "90s", "15m", "12h", "14d", "2w"; a bare number is seconds. */
bool cli_parse_duration(const char *s, int64_t *ret_s);

#define CLI_TIME_SIZE 32
/* "2026-11-21 04:12 UTC" and "2026-11-21T04:12:00Z". Return @out. */
const char *cli_time_human(int64_t unix_s, char out[CLI_TIME_SIZE]);
const char *cli_time_iso(int64_t unix_s, char out[CLI_TIME_SIZE]);
/* "89 days", "11 h", "5 years"; the sign is left to the caller. */
const char *cli_span_human(int64_t seconds, char out[CLI_TIME_SIZE]);
/* "in 89 days", "3 h ago". */
const char *cli_relative(int64_t seconds, char out[CLI_TIME_SIZE]);
int64_t cli_now_s(void);
/* Short name of a stored issuer key: "letsencrypt" rather than its host and path. */
const char *cli_issuer_label(const char *issuer_key, char *out, size_t out_size);
/* Printable copy of @s: control bytes become '?'. */
const char *cli_printable(const char *s, char *out, size_t out_size);

/* ---- json.c ---- */

#define CLI_JSON_DEPTH 8
struct cli_json {
    FILE *out;
    unsigned depth;
    bool has[CLI_JSON_DEPTH]; /* this level has a member already */
};
void cli_json_start(struct cli_json *j, FILE *out);
void cli_json_finish(struct cli_json *j);
/* @key NULL inside arrays and at the top. */
void cli_json_open(struct cli_json *j, const char *key, char bracket);
void cli_json_close(struct cli_json *j, char bracket);
void cli_json_text(struct cli_json *j, const char *key, const char *value); /* NULL = null */
void cli_json_int(struct cli_json *j, const char *key, int64_t value);
void cli_json_bool(struct cli_json *j, const char *key, bool value);
void cli_json_time(struct cli_json *j, const char *key, int64_t unix_s);
/* null for "", and for 0: what is not known. */
void cli_json_text_if(struct cli_json *j, const char *key, const char *value);
void cli_json_time_if(struct cli_json *j, const char *key, int64_t unix_s);
void cli_json_err(struct cli_json *j, const char *key, const struct cm_err *err);
/* @text as a JSON string, quotes included. */
void cli_json_quote(FILE *out, const char *text);

/* ---- json_valid.c ---- */

/* Is @text one JSON value (RFC 8259) and nothing else, in UTF-8, at most 64 deep? */
bool cli_json_valid(struct cm_span text);

/* ---- table.c ---- */

#define CLI_TABLE_COLUMNS 8
struct cli_table {
    const char *const *heads;
    size_t n_columns;
    char *(*rows)[CLI_TABLE_COLUMNS];
    char **notes; /* a line below the row, or NULL */
    size_t n_rows, cap;
    bool out_of_memory;
};
void cli_table_start(struct cli_table *t, const char *const *heads, size_t n_columns);
/* Copies. @note may be NULL. */
void cli_table_row(struct cli_table *t, const char *const *cells, const char *note);
/* The first column shrinks to make lines fit @width; 0 = never. Frees. */
void cli_table_print(struct cli_table *t, FILE *out, unsigned width);
/* Columns of the terminal behind @out, 0 if it is none. */
unsigned cli_width(FILE *out);

/* ---- ui.c: everything on stderr ---- */

void cli_ui_start(const struct cli_opts *o);
void cli_ui_stop(void);
/* Show live progress of these names until cli_ui_untrack(). Copied. */
void cli_ui_track(const char *const *names, size_t n);
void cli_ui_untrack(void);
void cli_ui_progress(void *user, const char *name, enum cm_phase phase, const struct cm_err *err);
/* Where a long task stands, in one line that is redrawn: on a terminal only. "" = nothing more. */
void cli_ui_count(const char *fmt, ...) CM_PRINTF(1, 2);
/* This name is through; its result is printed elsewhere. */
void cli_ui_settle(const char *name, bool ok);
/* One line for a person, kept apart from the live display. Silent with --quiet. */
void cli_say(const char *fmt, ...) CM_PRINTF(1, 2);
/* The same, but also with --quiet: errors and warnings. */
void cli_complain(const char *fmt, ...) CM_PRINTF(1, 2);
struct cm_log cli_log(const struct cli *c);

/* ---- report.c: failures ---- */

int cli_exit_of(const struct cm_err *err);
/* "certmesh: <command> <object>: <message>" and what to do about it; @object NULL if none.
 * Returns the exit code. */
int cli_report(const struct cli *c, const char *object, const struct cm_err *err);
/* The hints alone, for callers that printed the message; to stderr. */
void cli_hint(const struct cli *c, const char *object, const struct cm_err *err);
/* A mistake on the command line. Returns CLI_USAGE. */
int cli_usage(const struct cli *c, const char *fmt, ...) CM_PRINTF(2, 3);

/* ---- setup.c ---- */

/* Read options into a config; c->cfg and c->op are ready on CLI_OK. */
int cli_open(struct cli *c);
void cli_close(struct cli *c);
bool cli_is_internal(const struct cli *c);
/* "--ca" resolved to a directory URL; NULL for the internal CA. */
const char *cli_ca_url(const struct cli *c);
/* The directory URL behind a CA as given; NULL = the default one. */
const char *cli_ca_resolve(const char *ca);
/* The storage at @url, without a config; NULL = what --storage or --root say. Caller closes. */
cm_status cli_open_storage(const struct cli *c, const char *url, struct cm_storage **ret,
                           struct cm_err *err);
/* The whole command's operation, bounded by --timeout or @default_s. */
struct cm_op cli_op(const struct cli *c, int64_t default_s);
/* Ask on the terminal, unless --yes. -1 to go on, else the exit code (already explained). */
int cli_confirm(const struct cli *c, const char *fmt, ...) CM_PRINTF(2, 3);

/* ---- life.c: options about the life of certificates, for the library ---- */

/* What the options of a config borrow from here. */
struct cli_life {
    struct cm_issuer *issuers[CLI_LIST_MAX + 1];
    size_t n_issuers;
    struct cm_ocsp_override overrides[CLI_LIST_MAX];
    char *texts[CLI_LIST_MAX];
    size_t n_overrides;
    struct cm_ondemand_options on_demand;
    struct cm_config_extra extra;
    struct cm_csr_extension extensions[CM_CSR_EXTENSIONS_MAX];
    char *extension_memory[CM_CSR_EXTENSIONS_MAX];
};
/* The same account holder at another CA. What belongs to one CA alone (its external account, its
 * profiles and roots) would only be refused there. */
struct cm_acme_options cli_acme_at(const struct cm_acme_options *first, const char *ca);
/* Complete @o, whose acme part is that of --ca. */
cm_status cli_life_fill(const struct cli *c, struct cm_config_options *o, struct cli_life *life,
                        struct cm_err *err);
/* @taken: a config has taken the issuers over. */
void cli_life_end(struct cli_life *life, bool taken);

/* ---- option_csr.c: extensions of requests, other ports for challenges ---- */

/* -1 to go on, else the exit code (already explained). */
int cli_add_csr_extension(const struct cli *c, struct cli_list *list, const char *value);
int cli_extra_check(const struct cli *c);
/* o->extra, of memory that cli_extra_end() frees, also after a failure. */
cm_status cli_extra_fill(const struct cli *c, struct cm_config_options *o, struct cli_life *life,
                         struct cm_err *err);
void cli_extra_end(struct cli_life *life);

/* ---- signals.c ---- */

/* First SIGINT/SIGTERM fires @cancel; the second SIGINT leaves at once. @grace_s > 0: the process
 * ends itself when shutting down takes longer. */
void cli_signals_start(struct cm_cancel *cancel, unsigned grace_s);
/* 0, or 128 + the signal that came. */
int cli_signals_exit(void);

/* ---- batch.c ---- */

/* "a.test,b.test": sorted, as the library calls a certificate of several names. malloc()ed, NULL
 * when out of memory. */
char *cli_join_names(const char *const *names, size_t n);

struct cli_job {
    const char *const *names; /* borrowed */
    size_t n_names;
    const char *label;  /* what to call it: as the library does in progress */
    const char *target; /* what the job function is to work on, if not the names */
    struct cm_obtain_result result;
    struct cm_err err;
    cm_status status;
    int64_t took_ns;
};
typedef cm_status (*cli_job_fn)(struct cli *c, const struct cm_op *op, struct cli_job *job);
/* Run @fn for each job, at most --parallel at once, with live progress. */
void cli_batch_run(struct cli *c, struct cli_job *jobs, size_t n, cli_job_fn fn);
/* Print results (@done is the word for success, @idle for already_there); the exit code. */
int cli_batch_report(struct cli *c, const struct cli_job *jobs, size_t n, const char *done,
                     const char *idle);

/* ---- stored.c: what lies in storage ---- */

struct cli_stored {
    char *dir;            /* its directory in storage */
    char *issuer_key;     /* as stored */
    struct cm_cert *cert; /* a reference; NULL when malformed: then @problem */
    char *problem;
};
struct cli_stored_list {
    struct cli_stored *items; /* by name, then newest first */
    size_t n, cap;
};
/* What storage holds for @names (NULL-less array, n 0 = everything). */
cm_status cli_stored_collect(struct cli *c, const struct cm_op *op, const char *const *names,
                             size_t n, struct cli_stored_list *ret, struct cm_err *err);
void cli_stored_free(struct cli_stored_list *list);
/* What to call it: "example.com", "a.test +2", "*.example.com". */
const char *cli_stored_name(const struct cli_stored *s, char *out, size_t out_size);
/* Did a CA of this config issue it? */
bool cli_stored_is_ours(const struct cli *c, const struct cli_stored *s);
/* Say on stderr which other CAs hold a certificate for @name, if any does. */
void cli_say_where_else(struct cli *c, const char *name);
/* Members of one certificate into an open JSON object. */
void cli_stored_json(struct cli *c, struct cli_json *j, const struct cli_stored *s);

/* ---- one per subcommand ---- */

int cli_run_obtain(struct cli *c);
int cli_run_renew(struct cli *c);
int cli_run_revoke(struct cli *c);
int cli_run_list(struct cli *c);
int cli_run_show(struct cli *c);
int cli_run_serve(struct cli *c);
int cli_run_clean(struct cli *c);
int cli_run_account(struct cli *c);
int cli_run_trust(struct cli *c);
int cli_run_version(struct cli *c);
int cli_run_help(struct cli *c);
int cli_run_status(struct cli *c);
int cli_run_why(struct cli *c);
int cli_run_storage(struct cli *c);
int cli_run_fleet(struct cli *c);
int cli_run_dns(struct cli *c);
int cli_run_cas(struct cli *c);

/* minder.c: beside `serve`, says which names are up, tries again, renews. Runs until c->cancel
 * fires, and fires it itself when no name can be served. NULL when out of resources. */
struct cli_minder;
struct cli_minder *cli_minder_start(struct cli *c, uint16_t tls_port);
/* Wait for its end. 0, or the exit code of the failure that made it give up. NULL is fine. */
int cli_minder_stop(struct cli_minder *m);

/* beside.c: certificates from files, the port for metrics. Check the options: -1 to go on, else the
 * exit code; then begin, *@ret is to be closed if it is set. Both have explained themselves. */
int cli_beside_check(const struct cli *c);
int cli_beside_start(struct cli *c, struct cm_metrics_listener **ret);

/* events.c: cm_config_options.on_event, with the struct cli as user */
cm_status cli_event(void *user, const struct cm_event *ev, struct cm_err *err);

/* page.c: what `serve` answers without --dir */
struct cli_site {
    struct cli *cli;
    int dir_fd; /* -1 = the built-in page */
};
void cli_site_handle(void *user, struct cm_http_exchange *x);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#include "kit.h"

#include "contract.h"

#include <getopt.h>
#include <sys/mman.h>
#include <unistd.h>

struct kit_options kit = { .work = "/tmp" };
struct kit_nature *kit_nature;

/* --------------------------------------------------- the storage under test */

static void nothing(void) {}

struct contract_backend contract_backend = {
    .name = "storage",
    .setup = nothing,
    .teardown = nothing,
    .open = kit_open,
};

/* Each in a process of its own: this one never opens the storage, as what a library does in the
 * background does not survive a fork. */

static void need(cm_status rc, const struct cm_err *e, const char *what)
{
    if (rc == CM_OK)
        return;
    (void)snprintf(kit_nature->problem, sizeof kit_nature->problem, "%.80s: %.400s", what, e->msg);
    exit(1);
}

static cm_status any(void *user, const struct cm_key_info *info, struct cm_err *e)
{
    (void)info;
    *(bool *)user = false;
    return cm_fail(e, CM_E_EXISTS, "not empty");
}

static void ignore_change(void *user, const struct cm_change *change)
{
    (void)user;
    (void)change;
}

static void probe_open(void *unused)
{
    struct cm_err e = CM_ERR_INIT;
    struct cm_storage *raw = NULL;
    bool empty = true;
    cm_status rc = kit_open_raw(NULL, &raw, &e);

    (void)unused;
    need(rc, &e, "cannot open it");
    (void)snprintf(kit_nature->describe, sizeof kit_nature->describe, "%s",
                   cm_storage_describe(raw));
    (void)snprintf(kit_nature->name, sizeof kit_nature->name, "%s",
                   raw->ops->name != NULL ? raw->ops->name : "?");
    rc = cm_storage_list(raw, NULL, "", false, any, &empty, &e);
    need(empty ? rc : CM_OK, &e, "cannot list it");
    kit_nature->empty = empty;
    cm_storage_close(raw);
}

#define OVERHEAD_MAX 4096u

/* What wraps or seals values has less room for them. */
static size_t overhead_of(struct cm_storage *own)
{
    uint8_t *big = calloc(1, CM_STORAGE_VALUE_MAX);
    size_t fits = OVERHEAD_MAX;
    size_t lo = 0;

    while (big != NULL && lo < fits) {
        size_t mid = (lo + fits) / 2;
        struct cm_span value = { big, CM_STORAGE_VALUE_MAX - mid };

        if (cm_storage_store(own, NULL, "probe-size", value, NULL) == CM_E_LIMIT)
            lo = mid + 1;
        else
            fits = mid;
    }
    free(big);
    return fits == OVERHEAD_MAX ? 0 : fits;
}

static void probe_values(void *unused)
{
    struct cm_err e = CM_ERR_INIT;
    struct cm_storage *own = NULL;
    struct cm_watch *watch = NULL;

    (void)unused;
    need(kit_open(NULL, &own, &e), &e, "cannot open it");
    need(cm_storage_store(own, NULL, "probe", cm_span_str("x"), &e), &e, "cannot store");
    kit_nature->exact_tree =
        cm_storage_store(own, NULL, "probe/below", cm_span_str("x"), &e) == CM_E_EXISTS;
    kit_nature->value_overhead = overhead_of(own);
    kit_nature->has_watch = cm_storage_watch(own, ignore_change, NULL, &watch, &e) == CM_OK;
    cm_storage_unwatch(own, watch);
    cm_storage_close(own);
}

static void probe_shared(void *unused)
{
    struct cm_err e = CM_ERR_INIT;
    struct cm_buf value = CM_BUF_INIT(16);
    struct cm_storage *own = NULL;

    (void)unused;
    need(kit_open(NULL, &own, &e), &e, "cannot open it");
    kit_nature->shared = cm_storage_load(own, NULL, "probe", &value, &e) == CM_OK;
    cm_buf_free(&value);
    cm_storage_close(own);
}

/* Does a lease end when only the clock that we lend it moves? And by which clock are times told? Of
 * two storages as one either may say the one, and the other the other. */
static void probe_clock(void *unused)
{
    struct cm_lock_info info = { .size = (uint32_t)sizeof info };
    struct cm_storage_open_options opts = CM_STORAGE_OPEN_OPTIONS_INIT;
    struct cm_err e = CM_ERR_INIT;
    struct cm_storage *own = NULL;
    struct fake_env f;
    struct cm_grant g;
    struct cm_grant second;
    struct cm_op op;

    (void)unused;
    fake_env_init(&f);
    op = (struct cm_op){ .env = &f.env };
    opts.env = &f.env;
    need(kit_open(&opts, &own, &e), &e, "cannot open it");
    need(cm_storage_try_lock(own, &op, "probe", 8 * CM_NS_PER_S, &g, NULL, &e), &e, "cannot lock");
    /* a backend may need to have seen a lock once */
    if (cm_storage_try_lock(own, &op, "probe", 8 * CM_NS_PER_S, &second, NULL, &e) == CM_OK)
        need(CM_E_INTERNAL, &e, "a lock that is held was granted once more");
    if (cm_storage_lock_info(own, &op, "probe", &info, NULL) == CM_OK)
        kit_nature->lent_wall = info.since_ns == atomic_load(&f.wall_ns);
    fake_env_advance(&f, 9 * CM_NS_PER_S);
    kit_nature->server_clock =
        cm_storage_try_lock(own, &op, "probe", 8 * CM_NS_PER_S, &second, NULL, &e) == CM_E_BUSY;
    if (!kit_nature->server_clock) {
        cm_storage_drop(own, &g);
        need(cm_storage_unlock(own, &op, &second, &e), &e, "cannot unlock");
    } else if (cm_storage_unlock(own, &op, &g, &e) != CM_OK) {
        /* it may have run out since; the tests say whether that was right */
    }
    cm_storage_close(own);
}

static bool probe(void (*fn)(void *unused))
{
    char text[512];
    bool skipped = false;

    if (kit_in_child(fn, NULL, 120, text, sizeof text, &skipped))
        return true;
    (void)fprintf(stderr, "certmesh-storage-test: %s\n",
                  kit_nature->problem[0] != '\0' ? kit_nature->problem : text);
    return false;
}

/* ------------------------------------------------------------- command line */

static const char usage[] =
    "Usage: certmesh-storage-test [OPTION...] URL\n"
    "\n"
    "Tests whether the storage at URL keeps what the contract in <certmesh/cm_spi.h>\n"
    "promises: values, lists, locks, commits, many processes that are killed and\n"
    "stopped. All of it below a fresh prefix that is removed at the end; what is there\n"
    "already is not touched. Prints TAP.\n"
    "\n"
    "  --plugin FILE.so:SYMBOL  a backend of your own: SYMBOL opens it, as\n"
    "                           cm_storage_open() does\n"
    "  --quick                  the long tests short: under a minute or so\n"
    "  --only TEXT              only tests with TEXT in their CASE/NAME; may be repeated\n"
    "  --skip TEXT              not those with TEXT in it\n"
    "  --whole                  without a prefix: the place must be empty, and is\n"
    "                           emptied after each test\n"
    "  --keep                   leave what a test that failed has stored\n"
    "  --seed N                 of what is random; the report names it\n"
    "  --work DIR               for histories of locks; default: $TMPDIR or /tmp\n"
    "  --json                   one JSON document instead of TAP\n"
    "  --help, --version\n"
    "\n"
    "Exit codes: 0 all tests passed, 1 one did not, 2 nothing could be tested.\n";

static int wrong(const char *fmt, const char *what)
{
    (void)fputs("certmesh-storage-test: ", stderr);
    (void)fprintf(stderr, fmt, what);
    (void)fputs("\nTry: certmesh-storage-test --help\n", stderr);
    return KIT_USAGE;
}

enum { PLUGIN = 1, QUICK, ONLY, SKIP, WHOLE, KEEP, SEED, WORK, JSON, HELP, VERSION };

/* -1 to go on, else the exit code. */
static int parse(int argc, char **argv)
{
    static const struct option longs[] = {
        { "plugin", required_argument, NULL, PLUGIN }, { "quick", no_argument, NULL, QUICK },
        { "only", required_argument, NULL, ONLY },     { "skip", required_argument, NULL, SKIP },
        { "whole", no_argument, NULL, WHOLE },         { "keep", no_argument, NULL, KEEP },
        { "seed", required_argument, NULL, SEED },     { "work", required_argument, NULL, WORK },
        { "json", no_argument, NULL, JSON },           { "help", no_argument, NULL, HELP },
        { "version", no_argument, NULL, VERSION },     { NULL, 0, NULL, 0 },
    };
    char *end = NULL;
    size_t n_only = 0;
    int got;

    opterr = 0;
    while ((got = getopt_long(argc, argv, ":", longs, NULL)) != -1) {
        switch (got) {
        case PLUGIN:
            kit.plugin = optarg;
            break;
        case QUICK:
            kit.quick = true;
            break;
        case ONLY:
            if (n_only == KIT_ONLY_MAX)
                return wrong("--only '%s' is one too many", optarg);
            kit.only[n_only++] = optarg;
            break;
        case SKIP:
            kit.skip = optarg;
            break;
        case WHOLE:
            kit.whole = true;
            break;
        case KEEP:
            kit.keep = true;
            break;
        case SEED:
            kit.seed = strtoull(optarg, &end, 10);
            if (end == optarg || *end != '\0' || optarg[0] == '-')
                return wrong("--seed '%s' is no number", optarg);
            break;
        case WORK:
            kit.work = optarg;
            break;
        case JSON:
            kit.json = true;
            break;
        case HELP:
            (void)fputs(usage, stdout);
            return KIT_PASSED;
        case VERSION:
            (void)printf("certmesh-storage-test %s\n", CM_VERSION);
            return KIT_PASSED;
        case ':':
            return wrong("option '%s' needs a value", argv[optind - 1]);
        default:
            return wrong("option '%s' is not known", argv[optind - 1]);
        }
    }
    if (optind + 1 != argc)
        return wrong("%s", optind == argc ? "which storage? Give its URL" : "one URL, please");
    kit.url = argv[optind];
    if (kit.url[0] == '\0') /* would be the place where this user keeps real certificates */
        return wrong("%s", "the URL is empty");
    return -1;
}

static void clear_all(void *unused)
{
    struct cm_err e = CM_ERR_INIT;

    (void)unused;
    need(kit_clear(&e), &e, "cannot remove what the tests have stored");
}

int main(int argc, char **argv)
{
    const char *tmp = getenv("TMPDIR");
    int code;

    if (tmp != NULL && tmp[0] != '\0')
        kit.work = tmp;
    kit.seed = (uint64_t)getpid();
    code = parse(argc, argv);
    if (code >= 0)
        return code;
    if (strcmp(kit.url, "memory:") == 0) /* a private one for each handle; the tests need two */
        kit.url = "memory:certmesh-storage-test";
    kit_nature =
        mmap(NULL, sizeof *kit_nature, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (kit_nature == MAP_FAILED) {
        perror("certmesh-storage-test");
        return KIT_USAGE;
    }
    kit_place_name();
    kit_watch_signals();
    if (!probe(probe_open))
        return KIT_USAGE;
    if (kit.whole && !kit_nature->empty)
        return wrong("%s is not empty: without --whole the tests keep to a fresh prefix",
                     kit_nature->describe);
    if (!probe(probe_values) || !probe(probe_shared) || !probe(probe_clock)) {
        (void)probe(clear_all);
        return KIT_USAGE;
    }
    contract_backend.name = kit_nature->name;
    contract_backend.exact_tree = kit_nature->exact_tree;
    contract_backend.value_overhead = kit_nature->value_overhead;
    contract_backend.server_clock = kit_nature->server_clock;
    contract_backend.lent_wall = kit_nature->lent_wall;
    contract_backend.child_opens = true; /* the contract says nothing of handles after a fork */
#ifdef CM_KIT_HAS_WATCH
    contract_backend.has_watch = kit_nature->has_watch;
#endif
    if (!kit.whole)
        contract_backend.key_max = CM_STORAGE_KEY_MAX - strlen(kit_prefix) - 1;
    if (!probe(clear_all))
        return KIT_USAGE;
    (void)contract_main();
    kit_run_with_fixture(kit_many_cases());
    kit_run_case(kit_clock_cases()); /* handles may share the clock of the first of them */
    kit_run_case(kit_history_cases());
    return kit_report_end();
}

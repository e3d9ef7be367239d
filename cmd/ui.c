/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* Everything the command says on stderr goes through here: progress, log lines, remarks. On a
 * terminal the names being worked on form a block at the bottom that is redrawn in place; whatever
 * else is said is printed above it. Anywhere else progress is plain lines. */

#define TICK_NS   (200 * CM_NS_PER_MS)
#define PLAIN_MAX 10000u

struct line {
    char name[256];
    enum cm_phase phase;
    int64_t started_ns; /* 0 = not begun */
    int64_t took_ns;    /* set once through */
    bool settled;
};

static struct {
    pthread_mutex_t lock;
    bool terminal;
    bool color;
    bool quiet;
    bool log_json;
    bool verbose;
    struct line *lines; /* NULL = no block */
    size_t n;
    size_t drawn;       /* lines on the screen now */
    struct line *plain; /* without a block: what was last said of each name */
    size_t n_plain;
    char count[160]; /* the one line of cli_ui_count(), "" = none */
    pthread_t ticker;
    struct cm_cancel *stop_ticker;
} ui = { .lock = PTHREAD_MUTEX_INITIALIZER };

static int64_t now_ns(void)
{
    const struct cm_env *env = cm_env_system();

    return env->mono_ns(env);
}

static const char *phase_word(enum cm_phase phase)
{
    switch (phase) {
    case CM_PHASE_WAITING:
        return "waiting";
    case CM_PHASE_ORDERING:
        return "ordering";
    case CM_PHASE_VALIDATING:
        return "validating";
    case CM_PHASE_FINALIZING:
        return "finalizing";
    case CM_PHASE_STORED:
        return "stored";
    case CM_PHASE_FAILED:
        return "failed";
    }
    return "?";
}

static const char *level_word(enum cm_log_level level)
{
    static const char *const words[] = { "debug", "info", "warning", "error" };

    return words[level <= CM_LOG_ERROR ? level : CM_LOG_ERROR];
}

static const char *paint(const char *code)
{
    return ui.color ? code : "";
}

static void erase_locked(void)
{
    for (size_t i = 0; i < ui.drawn; i++)
        fputs("\033[A\r\033[K", stderr);
    ui.drawn = 0;
}

static void draw_line_locked(const struct line *l, int name_width)
{
    int64_t ns = l->settled ? l->took_ns : l->started_ns != 0 ? now_ns() - l->started_ns : 0;
    const char *color = l->phase == CM_PHASE_STORED   ? paint("\033[32m")
                        : l->phase == CM_PHASE_FAILED ? paint("\033[31m")
                                                      : "";

    fprintf(stderr, "  %-*.*s  %s%-10s%s  %" PRId64 ".%" PRId64 " s\n", name_width, name_width,
            l->name, color, phase_word(l->phase), *color != '\0' ? "\033[0m" : "", ns / CM_NS_PER_S,
            ns / (CM_NS_PER_S / 10) % 10);
    ui.drawn++;
}

static void draw_locked(void)
{
    struct winsize size = { 24, 80, 0, 0 };
    size_t count[CM_PHASE_FAILED + 1] = { 0 };
    int widest = 8;

    if (ui.terminal && ui.count[0] != '\0') {
        fprintf(stderr, "  %s\n", ui.count);
        ui.drawn++;
    }
    if (ui.lines == NULL || !ui.terminal)
        return;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_row == 0) {
        size.ws_row = 24;
        size.ws_col = 80;
    }
    if (ui.n + 1 < size.ws_row) {
        int room = size.ws_col > 40 ? size.ws_col - 28 : 20;

        for (size_t i = 0; i < ui.n; i++) {
            int len = (int)strlen(ui.lines[i].name);

            widest = len > widest ? len : widest;
        }
        for (size_t i = 0; i < ui.n; i++)
            draw_line_locked(&ui.lines[i], widest < room ? widest : room);
        return;
    }
    /* more names than the screen has lines: count them instead */
    for (size_t i = 0; i < ui.n; i++)
        count[ui.lines[i].phase]++;
    fprintf(stderr, "  %zu of %zu stored, %zu failed, %zu waiting, %zu on the way\n",
            count[CM_PHASE_STORED], ui.n, count[CM_PHASE_FAILED], count[CM_PHASE_WAITING],
            count[CM_PHASE_ORDERING] + count[CM_PHASE_VALIDATING] + count[CM_PHASE_FINALIZING]);
    ui.drawn = 1;
}

static void begin(void)
{
    (void)pthread_mutex_lock(&ui.lock);
    erase_locked();
}

static void end(void)
{
    draw_locked();
    fflush(stderr);
    (void)pthread_mutex_unlock(&ui.lock);
}

static void *tick(void *unused)
{
    struct cm_op op = { NULL, 0, ui.stop_ticker };

    (void)unused;
    while (cm_op_wait(&op, TICK_NS, NULL) == CM_OK) {
        begin();
        end();
    }
    return NULL;
}

void cli_ui_start(const struct cli_opts *o)
{
    const char *term = getenv("TERM");

    ui.terminal = isatty(STDERR_FILENO) != 0 && term != NULL && strcmp(term, "dumb") != 0;
    ui.color = ui.terminal && !o->no_color;
    ui.quiet = o->quiet;
    ui.log_json = o->log_json;
    ui.verbose = o->verbose;
    /* whole lines in one write, so that they do not mix with those of other processes */
    (void)setvbuf(stderr, NULL, _IOFBF, 8192);
}

void cli_ui_stop(void)
{
    cli_ui_untrack();
    free(ui.plain);
    ui.plain = NULL;
    ui.n_plain = 0;
    fflush(stderr);
}

void cli_ui_track(const char *const *names, size_t n)
{
    struct line *lines = NULL;

    if (!ui.terminal || ui.quiet || ui.log_json || n == 0)
        return;
    lines = calloc(n, sizeof *lines);
    if (lines == NULL || cm_cancel_new(NULL, &ui.stop_ticker, NULL) != CM_OK) {
        free(lines); /* progress is a courtesy: go on without */
        return;
    }
    for (size_t i = 0; i < n; i++)
        (void)cli_printable(names[i], lines[i].name, sizeof lines[i].name);
    begin();
    ui.lines = lines;
    ui.n = n;
    end();
    if (pthread_create(&ui.ticker, NULL, tick, NULL) != 0) {
        cm_cancel_free(ui.stop_ticker);
        ui.stop_ticker = NULL;
    }
}

void cli_ui_untrack(void)
{
    if (ui.stop_ticker != NULL) {
        cm_cancel_fire(ui.stop_ticker);
        (void)pthread_join(ui.ticker, NULL);
        cm_cancel_free(ui.stop_ticker);
        ui.stop_ticker = NULL;
    }
    begin();
    free(ui.lines);
    ui.lines = NULL;
    ui.n = 0;
    end();
}

void cli_ui_count(const char *fmt, ...)
{
    va_list ap;

    if (!ui.terminal || ui.quiet || ui.log_json)
        return;
    begin();
    va_start(ap, fmt);
    (void)vsnprintf(ui.count, sizeof ui.count, fmt, ap);
    va_end(ap);
    end();
}

static struct line *line_of_locked(const char *name)
{
    for (size_t i = 0; i < ui.n; i++)
        if (strncmp(ui.lines[i].name, name, sizeof ui.lines[i].name - 1) == 0)
            return &ui.lines[i];
    return NULL;
}

/* Is this news? A phase may be told twice, by the job and by the issuer. */
static bool is_news_locked(const char *name, enum cm_phase phase)
{
    struct line *l = NULL;

    for (size_t i = 0; i < ui.n_plain; i++) {
        l = &ui.plain[i];
        if (strncmp(l->name, name, sizeof l->name - 1) == 0) {
            bool news = l->phase != phase;

            l->phase = phase;
            return news;
        }
    }
    l = ui.n_plain < PLAIN_MAX ? realloc(ui.plain, (ui.n_plain + 1) * sizeof *l) : NULL;
    if (l != NULL) {
        ui.plain = l;
        l += ui.n_plain++;
        memset(l, 0, sizeof *l);
        (void)cli_printable(name, l->name, sizeof l->name);
        l->phase = phase;
    }
    return true;
}

void cli_ui_progress(void *user, const char *name, enum cm_phase phase, const struct cm_err *err)
{
    struct line *l = NULL;

    (void)user;
    (void)err; /* a failure is reported once, by whoever asked for the name */
    if (phase == CM_PHASE_FAILED && cli_signals_exit() != 0)
        return; /* what is cut short has not failed */
    begin();
    l = line_of_locked(name);
    if (l != NULL && !l->settled) {
        if (l->started_ns == 0)
            l->started_ns = now_ns();
        l->phase = phase;
    } else if (ui.lines == NULL && !ui.quiet && !ui.log_json && is_news_locked(name, phase)) {
        fprintf(stderr, "certmesh: %s: %s\n", name, phase_word(phase));
    }
    end();
}

void cli_ui_settle(const char *name, bool ok)
{
    struct line *l = NULL;

    begin();
    l = line_of_locked(name);
    if (l != NULL) {
        l->phase = ok ? CM_PHASE_STORED : CM_PHASE_FAILED;
        l->took_ns = l->started_ns != 0 ? now_ns() - l->started_ns : 0;
        l->settled = true;
    }
    end();
}

/* One object a line: whatever the words, a line break in them is an escape. */
static void json_line_locked(enum cm_log_level level, const char *event, const char *msg,
                             const struct cm_log_field *fields, size_t n)
{
    char stamp[CLI_TIME_SIZE];

    fprintf(stderr,
            "{\"time\":\"%s\",\"level\":\"%s\",\"event\":", cli_time_iso(cli_now_s(), stamp),
            level_word(level));
    cli_json_quote(stderr, event);
    fputs(",\"msg\":", stderr);
    cli_json_quote(stderr, msg);
    fputs(",\"fields\":{", stderr);
    for (size_t i = 0; i < n; i++) {
        if (i > 0)
            fputc(',', stderr);
        cli_json_quote(stderr, fields[i].key);
        fputc(':', stderr);
        cli_json_quote(stderr, fields[i].value);
    }
    fputs("}}\n", stderr);
}

/* Words for a person, as a line for a program: without what only sets them off on a screen. */
static void json_say_locked(enum cm_log_level level, const char *event, const char *fmt, va_list ap)
{
    static const char self[] = "certmesh: ";
    char text[2048];
    const char *at = text;

    (void)vsnprintf(text, sizeof text, fmt, ap);
    at += strspn(at, " ");
    if (strncmp(at, self, sizeof self - 1) == 0)
        at += sizeof self - 1;
    json_line_locked(level, event, at, NULL, 0);
}

static void say(enum cm_log_level level, const char *event, const char *fmt, va_list ap)
{
    begin();
    if (ui.log_json) {
        json_say_locked(level, event, fmt, ap);
    } else {
        vfprintf(stderr, fmt, ap);
        fputc('\n', stderr);
    }
    end();
}

void cli_say(const char *fmt, ...)
{
    va_list ap;

    if (ui.quiet)
        return;
    va_start(ap, fmt);
    say(CM_LOG_INFO, "remark", fmt, ap);
    va_end(ap);
}

void cli_complain(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    say(CM_LOG_ERROR, "complaint", fmt, ap);
    va_end(ap);
}

static void write_log(void *user, enum cm_log_level level, const char *event, const char *msg,
                      const struct cm_log_field *fields, size_t n)
{
    static const char *const colors[] = { "\033[2m", "", "\033[33m", "\033[31m" };
    const char *word = level_word(level);
    const char *color = paint(colors[level <= CM_LOG_ERROR ? level : CM_LOG_ERROR]);

    (void)user;
    if (cli_signals_exit() != 0 && !ui.verbose && !ui.log_json)
        return; /* told to stop: everything that is cut short would complain now */
    begin();
    if (ui.log_json) {
        json_line_locked(level, event, msg, fields, n);
    } else {
        fprintf(stderr, "certmesh: %s%s%s: %s", color, word, *color != '\0' ? "\033[0m" : "", msg);
        for (size_t i = 0; i < n; i++)
            fprintf(stderr, "%s%s=%s", i == 0 ? " [" : " ", fields[i].key, fields[i].value);
        fputs(n > 0 ? "]\n" : "\n", stderr);
    }
    end();
}

struct cm_log cli_log(const struct cli *c)
{
    struct cm_log log = { write_log, NULL, CM_LOG_WARN };

    if (c->o.quiet)
        log.min_level = CM_LOG_ERROR;
    if (c->o.verbose)
        log.min_level = CM_LOG_DEBUG;
    else if (c->o.log_json && !c->o.quiet)
        log.min_level = CM_LOG_INFO;
    return log;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "history_model.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Reads a history and makes a model of it. A line that does not fit is an error: a checker that
 * passes over what it does not understand proves nothing. */

#define EVENT_MAX 16

struct line {
    int64_t ns;
    uint64_t who;
    char event[EVENT_MAX];
    struct history_event e;
};

struct death {
    uint64_t who;
    int64_t from_ns;
    int64_t to_ns;
};

struct reader {
    LIST(line) lines;
    LIST(death) deaths;
    struct lock_history locks[HISTORY_LOCKS_MAX];
};

#define PUSH(list)                                                                                 \
    ((list)->n < (list)->cap                                                                       \
         ? (void)0                                                                                 \
         : (void)((list)->v = grow((list)->v, &(list)->cap, sizeof *(list)->v)),                   \
     &(list)->v[(list)->n++])

static void *grow(void *p, size_t *cap, size_t size)
{
    *cap = *cap > 0 ? 2 * *cap : 256;
    p = realloc(p, *cap * size);
    if (p == NULL) {
        perror("history");
        exit(3);
    }
    return p;
}

static void read_file(struct reader *r, const char *path)
{
    FILE *f = fopen(path, "re");
    char text[256];

    if (f == NULL) {
        perror(path);
        exit(3);
    }
    while (fgets(text, sizeof text, f) != NULL) {
        struct line l;

        if (text[0] == '#')
            continue;
        /* The kernel may cut the last write of a killed process where a page ends. What it had to
         * say is not known then, as if it had been killed before. */
        if (strchr(text, '\n') == NULL && fgetc(f) == EOF)
            break;
        if (sscanf(text,
                   "%" SCNd64 " %" SCNu64 " %15s %u %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64,
                   &l.ns, &l.who, l.event, &l.e.lock, &l.e.fence, &l.e.id, &l.e.prev,
                   &l.e.extra) != 8 ||
            l.e.lock >= HISTORY_LOCKS_MAX) {
            (void)fprintf(stderr, "%s: not a line of a history: %s", path, text);
            exit(3);
        }
        *PUSH(&r->lines) = l;
    }
    (void)fclose(f);
}

static void read_folder(struct reader *r, const char *dir)
{
    struct dirent *e;
    DIR *d = opendir(dir);

    if (d == NULL) {
        perror(dir);
        exit(3);
    }
    while ((e = readdir(d)) != NULL) {
        char path[4096];

        if (e->d_name[0] == '.')
            continue;
        (void)snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        read_file(r, path);
    }
    (void)closedir(d);
}

static int by_who_and_time(const void *a, const void *b)
{
    const struct line *x = a;
    const struct line *y = b;

    if (x->who != y->who)
        return x->who < y->who ? -1 : 1;
    return (x->ns > y->ns) - (x->ns < y->ns);
}

static const struct death *death_of(const struct reader *r, uint64_t who)
{
    for (size_t i = 0; i < r->deaths.n; i++)
        if (r->deaths.v[i].who == who)
            return &r->deaths.v[i];
    return NULL;
}

static void take_nemesis(struct reader *r, const struct line *l)
{
    struct lock_history *h = &r->locks[l->e.lock];

    if (strcmp(l->event, "kill?") == 0) {
        *PUSH(&r->deaths) = (struct death){ l->e.extra, l->ns, NEVER };
    } else if (strcmp(l->event, "kill+") == 0) {
        for (size_t i = 0; i < r->deaths.n; i++)
            if (r->deaths.v[i].who == l->e.extra)
                r->deaths.v[i].to_ns = l->ns;
    } else if (strcmp(l->event, "final") == 0) {
        h->has_final = true;
        h->final_id = l->e.id;
        h->final_torn = l->e.extra != 0;
    }
}

/* The grant that @who had of this lock when it did @e; a worker has one at a time. */
static struct grant *grant_of(struct lock_history *h, const struct line *l)
{
    for (size_t i = h->grants.n; i > 0; i--)
        if (h->grants.v[i - 1].who == l->who && h->grants.v[i - 1].fence == l->e.fence)
            return &h->grants.v[i - 1];
    return NULL;
}

/* An operation from @from to @to; @to is NULL when a kill cut it off. */
static void take_op(struct lock_history *h, const struct line *from, const struct line *to)
{
    const struct line *last = to != NULL ? to : from;
    const struct history_event *e = &last->e;
    size_t verb = strcspn(from->event, "?");
    char how = to != NULL ? to->event[verb] : '\0';
    int64_t to_ns = to != NULL ? to->ns : NEVER;
    struct grant *g = e->fence != 0 ? grant_of(h, last) : NULL;
    int64_t lease_end_ns = g != NULL ? g->lease_end_ns : 0;

    if (strncmp(from->event, "lock", verb) == 0) {
        if (how == '+')
            *PUSH(&h->grants) = (struct grant){
                .who = from->who,
                .fence = e->fence,
                .asked_ns = from->ns,
                .got_ns = to_ns,
                .ttl_ns = (int64_t)e->extra,
                .lease_end_ns = from->ns + (int64_t)e->extra,
                .unlock_ns = NEVER,
                .gone_ns = NEVER,
            };
        else if (how == '!')
            *PUSH(&h->busies) = (struct busy){ from->ns, to_ns };
    } else if (strncmp(from->event, "beat", verb) == 0) {
        if (how == '+' && g != NULL)
            g->lease_end_ns = from->ns + g->ttl_ns;
    } else if (strncmp(from->event, "read", verb) == 0) {
        if (how == '+')
            *PUSH(&h->looks) = (struct look){ from->who, e->fence, e->id,       e->extra != 0,
                                              from->ns,  to_ns,    lease_end_ns };
    } else if (strncmp(from->event, "commit", verb) == 0) {
        *PUSH(&h->commits) = (struct commit){ from->who, e->fence,     e->id, e->prev, from->ns,
                                              to_ns,     lease_end_ns, how,   0 };
    } else if (strncmp(from->event, "unlock", verb) == 0 && g != NULL) {
        g->unlock_ns = from->ns;
        g->unlocked = how;
        if (how == '+')
            g->gone_ns = to_ns;
    }
}

static void make_model(struct reader *r)
{
    for (size_t i = 0; i < r->lines.n; i++) {
        const struct line *l = &r->lines.v[i];
        const struct line *next = i + 1 < r->lines.n ? l + 1 : NULL;
        size_t verb = strcspn(l->event, "?");

        if (l->who == 0) {
            take_nemesis(r, l);
            continue;
        }
        if (l->event[verb] != '?') {
            (void)fprintf(stderr, "history: worker %" PRIu64 " ended a '%s' that never began\n",
                          l->who, l->event);
            exit(3);
        }
        if (next != NULL && next->who == l->who && strncmp(next->event, l->event, verb) == 0 &&
            strchr("+-!~", next->event[verb]) != NULL && next->event[verb] != '\0')
            i++;
        else
            next = NULL;
        take_op(&r->locks[l->e.lock], l, next);
    }
    for (unsigned k = 0; k < HISTORY_LOCKS_MAX; k++) {
        struct lock_history *h = &r->locks[k];

        h->lock = k;
        for (size_t i = 0; i < h->grants.n; i++) {
            struct grant *g = &h->grants.v[i];
            const struct death *d = g->gone_ns == NEVER ? death_of(r, g->who) : NULL;

            if (d == NULL)
                continue;
            g->killed = g->unlocked == 0;
            g->gone_ns = d->to_ns;
            if (d->from_ns < g->lease_end_ns)
                g->lease_end_ns = d->from_ns; /* the dead have no claim */
        }
    }
}

int history_check(const char *dir)
{
    static struct reader r;
    struct figures f = { 0 };
    unsigned bad = 0;

    read_folder(&r, dir);
    if (r.lines.n > 0)
        qsort(r.lines.v, r.lines.n, sizeof r.lines.v[0], by_who_and_time);
    make_model(&r);
    for (unsigned k = 0; k < HISTORY_LOCKS_MAX; k++) {
        struct lock_history *h = &r.locks[k];

        if (h->grants.n + h->commits.n + h->looks.n > 0)
            bad += history_prove(h, &f);
        free(h->grants.v);
        free(h->commits.v);
        free(h->looks.v);
        free(h->busies.v);
    }
    free(r.lines.v);
    free(r.deaths.v);
    printf("grants=%" PRIu64 " commits=%" PRIu64 " refused=%" PRIu64 " unlocks_refused=%" PRIu64
           " reads=%" PRIu64 " killed_holders=%" PRIu64 " cut_done=%" PRIu64 " cut_undone=%" PRIu64
           " unknown=%" PRIu64 " takeover_ms=%" PRId64 " violations=%u\n",
           f.grants, f.commits, f.refused, f.unlocks_refused, f.looks, f.killed_holders, f.cut_done,
           f.cut_undone, f.unknown, f.takeover_ns / CM_NS_PER_MS, bad);
    return bad == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

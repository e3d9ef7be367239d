/* SPDX-License-Identifier: Apache-2.0 */
#include "maintain.h"

#include "names.h"

#define DEFAULT_INTERVAL_S 600
#define INTERVAL_MAX_S     86400
#define STOP_LIMIT_NS      (5 * CM_NS_PER_S)
/* Clocks that differ by less are merely disciplined. */
#define STEP_NS     (30 * CM_NS_PER_S)
#define RESPREAD_MS (3600 * INT64_C(1000))
#define CONFIGS_MAX 256u

struct user {
    struct cm_config *cfg;
    unsigned borrowed;
};

struct cm_maint {
    pthread_mutex_t lock;
    pthread_cond_t changed; /* firing ended, less in flight, a config given back */
    struct cm_cache *cache;
    const struct cm_env *env; /* of the first config; NULL before */
    struct cm_log log;
    struct cm_due due;
    size_t tasks; /* that the index has room for */
    struct user *users;
    size_t n_users;
    struct cm_task *firing;
    size_t in_flight;
    int64_t interval_ms;
    int64_t sleeps_until_ms;        /* while it sleeps ... */
    const struct cm_env *sleeps_on; /* on this clock; NULL: it is awake */
    struct cm_cancel *wake;
    int64_t seen_wall_ns, seen_mono_ns;
    bool no_thread;
    bool has_thread;
    bool stopped;
    pthread_t thread;
};

int64_t cm_wall_ms(const struct cm_env *env)
{
    return env->wall_ns(env) / CM_NS_PER_MS;
}

int64_t cm_ms_of(int64_t s)
{
    int64_t ms;

    if (__builtin_mul_overflow(s, INT64_C(1000), &ms))
        return s > 0 ? INT64_MAX : INT64_MIN;
    return ms;
}

void cm_task_init(struct cm_task *t, struct cm_config *cfg, void (*fire)(struct cm_task *t))
{
    t->due.at_ms = 0;
    t->due.pos = CM_DUE_NOT_IN;
    t->cfg = cfg;
    t->fire = fire;
}

cm_status cm_maint_new(struct cm_cache *cache, const struct cm_cache_options *opts,
                       struct cm_maint **ret, struct cm_err *err)
{
    int64_t interval_s = opts->renew_check_interval_s;
    struct cm_maint *mt;

    if (interval_s < 0 || interval_s > INTERVAL_MAX_S)
        return cm_fail(err, CM_E_INVAL, "option renew_check_interval_s: %lld is not 0 to %d",
                       (long long)interval_s, INTERVAL_MAX_S);
    mt = cm_calloc(1, sizeof *mt);
    if (mt == NULL)
        return cm_fail_nomem(err);
    cm_mutex_init(&mt->lock);
    cm_cond_init(&mt->changed);
    mt->cache = cache;
    mt->interval_ms = (interval_s > 0 ? interval_s : DEFAULT_INTERVAL_S) * 1000;
    mt->no_thread = opts->no_thread;
    *ret = mt;
    return CM_OK;
}

void cm_maint_free(struct cm_maint *mt)
{
    if (mt == NULL)
        return;
    cm_due_free(&mt->due);
    free(mt->users);
    (void)pthread_cond_destroy(&mt->changed);
    (void)pthread_mutex_destroy(&mt->lock);
    free(mt);
}

/* ---- who uses it ---- */

static struct user *find_user_locked(struct cm_maint *mt, const struct cm_config *cfg)
{
    for (size_t i = 0; i < mt->n_users; i++)
        if (mt->users[i].cfg == cfg)
            return &mt->users[i];
    return NULL;
}

/* The first config's, if there is one. */
static void take_clock_locked(struct cm_maint *mt)
{
    const struct cm_env *before = mt->env;

    mt->env = mt->n_users > 0 ? mt->users[0].cfg->env : NULL;
    mt->log = mt->n_users > 0 ? mt->users[0].cfg->log : (struct cm_log){ .write = NULL };
    if (mt->env == NULL || mt->env == before)
        return;
    mt->seen_wall_ns = mt->env->wall_ns(mt->env);
    mt->seen_mono_ns = mt->env->mono_ns(mt->env);
}

static cm_status attach_locked(struct cm_maint *mt, struct cm_config *cfg, struct cm_err *err)
{
    if (mt->n_users == CONFIGS_MAX)
        return cm_fail(err, CM_E_LIMIT, "a cache serves at most %u configurations", CONFIGS_MAX);
    struct user *bigger = cm_realloc_array(mt->users, mt->n_users + 1, sizeof *bigger);
    if (bigger == NULL)
        return cm_fail_nomem(err);
    mt->users = bigger;
    mt->users[mt->n_users++] = (struct user){ cfg, 0 };
    if (mt->env == NULL) {
        take_clock_locked(mt);
        (void)pthread_cond_broadcast(&mt->changed); /* the thread may be waiting for one */
    }
    return CM_OK;
}

cm_status cm_maint_attach(struct cm_maint *mt, struct cm_config *cfg, struct cm_err *err)
{
    cm_mutex_lock(&mt->lock);
    cm_status rc = attach_locked(mt, cfg, err);
    cm_mutex_unlock(&mt->lock);
    return rc;
}

static bool is_of_another(void *user, struct cm_due_item *item)
{
    return CM_CONTAINER_OF(item, struct cm_task, due)->cfg != user;
}

/* The thread may be asleep on the clock of a config that goes. */
static void leave_clock_locked(struct cm_maint *mt, const struct cm_env *env)
{
    take_clock_locked(mt);
    while (mt->sleeps_on == env && mt->env != env) {
        cm_cancel_fire(mt->wake);
        (void)cm_cond_wait_ns(&mt->changed, &mt->lock, CM_WAIT_SLICE_NS);
    }
}

void cm_maint_detach(struct cm_maint *mt, struct cm_config *cfg)
{
    struct user *u;

    cm_mutex_lock(&mt->lock);
    while ((u = find_user_locked(mt, cfg)) != NULL &&
           (u->borrowed > 0 || (mt->firing != NULL && mt->firing->cfg == cfg)))
        (void)cm_cond_wait_ns(&mt->changed, &mt->lock, CM_WAIT_SLICE_NS);
    if (u != NULL) {
        *u = mt->users[--mt->n_users];
        cm_due_filter(&mt->due, is_of_another, cfg);
        leave_clock_locked(mt, cfg->env);
    }
    cm_mutex_unlock(&mt->lock);
}

struct cm_config *cm_maint_borrow(struct cm_maint *mt)
{
    struct cm_config *cfg = NULL;

    cm_mutex_lock(&mt->lock);
    if (mt->n_users > 0 && !mt->stopped) {
        cfg = mt->users[0].cfg;
        mt->users[0].borrowed++;
    }
    cm_mutex_unlock(&mt->lock);
    return cfg;
}

void cm_maint_release(struct cm_maint *mt, struct cm_config *cfg)
{
    if (cfg == NULL)
        return;
    cm_mutex_lock(&mt->lock);
    find_user_locked(mt, cfg)->borrowed--;
    (void)pthread_cond_broadcast(&mt->changed);
    cm_mutex_unlock(&mt->lock);
}

/* ---- what is due ---- */

cm_status cm_maint_room(struct cm_maint *mt, size_t n, struct cm_err *err)
{
    cm_mutex_lock(&mt->lock);
    size_t want = mt->tasks + n;
    cm_status rc = cm_due_reserve(&mt->due, want - mt->due.n, err);
    if (rc == CM_OK)
        mt->tasks = want;
    cm_mutex_unlock(&mt->lock);
    return rc;
}

static void *thread_main(void *arg);

/* Not before there is something to do: a program that only obtains needs no clockwork. */
static void start_thread_locked(struct cm_maint *mt)
{
    struct cm_err err = CM_ERR_INIT;

    if (mt->no_thread || mt->has_thread || mt->stopped)
        return;
    if (cm_thread_start(&mt->thread, "cm-maintain", thread_main, mt, &err) == CM_OK)
        mt->has_thread = true; /* else with the next task */
}

static void set_locked(struct cm_maint *mt, struct cm_task *t, int64_t at_ms)
{
    if (mt->stopped || (t->cfg != NULL && find_user_locked(mt, t->cfg) == NULL))
        return;
    CM_ASSERT(cm_due_set(&mt->due, &t->due, at_ms, NULL) == CM_OK); /* there is room */
    start_thread_locked(mt);
    if (mt->sleeps_on != NULL && at_ms < mt->sleeps_until_ms)
        cm_cancel_fire(mt->wake);
}

void cm_maint_at(struct cm_maint *mt, struct cm_task *t, int64_t at_ms)
{
    cm_mutex_lock(&mt->lock);
    set_locked(mt, t, at_ms);
    cm_mutex_unlock(&mt->lock);
}

void cm_maint_by(struct cm_maint *mt, struct cm_task *t, int64_t at_ms)
{
    bool earlier;

    cm_mutex_lock(&mt->lock);
    earlier = t->due.pos != CM_DUE_NOT_IN && t->due.at_ms <= at_ms;
    if (!earlier)
        set_locked(mt, t, at_ms);
    cm_mutex_unlock(&mt->lock);
}

void cm_maint_cancel(struct cm_maint *mt, struct cm_task *t)
{
    cm_mutex_lock(&mt->lock);
    while (mt->firing == t)
        (void)cm_cond_wait_ns(&mt->changed, &mt->lock, CM_WAIT_SLICE_NS);
    cm_due_remove(&mt->due, &t->due);
    cm_mutex_unlock(&mt->lock);
}

void cm_maint_enter(struct cm_maint *mt, size_t n)
{
    cm_mutex_lock(&mt->lock);
    mt->in_flight += n;
    cm_mutex_unlock(&mt->lock);
}

void cm_maint_leave(struct cm_maint *mt)
{
    cm_mutex_lock(&mt->lock);
    CM_ASSERT(mt->in_flight > 0);
    if (--mt->in_flight == 0)
        (void)pthread_cond_broadcast(&mt->changed);
    cm_mutex_unlock(&mt->lock);
}

size_t cm_maint_in_flight(struct cm_maint *mt)
{
    cm_mutex_lock(&mt->lock);
    size_t n = mt->in_flight;
    cm_mutex_unlock(&mt->lock);
    return n;
}

/* ---- the clock ---- */

struct respread {
    const struct cm_env *env;
    int64_t now_ms;
};

static bool bring_forward(void *user, struct cm_due_item *item)
{
    const struct respread *r = user;
    int64_t at_ms = r->now_ms + (int64_t)cm_random_below(r->env, RESPREAD_MS);

    if (item->at_ms > at_ms)
        item->at_ms = at_ms;
    return true;
}

/* Dates of certificates mean the same whatever the clock says. But what was put off "for an hour"
 * while the clock was ahead would now come weeks late: so after a step back everything is looked at
 * again, spread over an hour. */
static void note_clock_locked(struct cm_maint *mt)
{
    int64_t wall = mt->env->wall_ns(mt->env), mono = mt->env->mono_ns(mt->env);
    int64_t step = (wall - mt->seen_wall_ns) - (mono - mt->seen_mono_ns);
    struct respread r = { mt->env, wall / CM_NS_PER_MS };

    mt->seen_wall_ns = wall;
    mt->seen_mono_ns = mono;
    if (step <= -STEP_NS)
        cm_due_filter(&mt->due, bring_forward, &r);
    if (step > -STEP_NS && step < STEP_NS)
        return;
    struct cm_log log = mt->log;
    cm_mutex_unlock(&mt->lock);
    cm_logf(&log, CM_LOG_WARN, "clock_stepped", NULL, 0, "the clock went %s by %lld s",
            step > 0 ? "forward" : "back", (long long)(step > 0 ? step : -step) / CM_NS_PER_S);
    cm_mutex_lock(&mt->lock);
}

/* One thing that is due, NULL if nothing is. *@ret_wait_ms is how long to wait otherwise. */
static struct cm_task *take_due_locked(struct cm_maint *mt, int64_t *ret_wait_ms)
{
    struct cm_due_item *first = cm_due_first(&mt->due);
    int64_t now_ms = cm_wall_ms(mt->env);

    *ret_wait_ms = mt->interval_ms;
    if (first == NULL)
        return NULL;
    if (first->at_ms > now_ms) {
        if (first->at_ms - now_ms < mt->interval_ms)
            *ret_wait_ms = first->at_ms - now_ms;
        return NULL;
    }
    cm_due_remove(&mt->due, first);
    return CM_CONTAINER_OF(first, struct cm_task, due);
}

static void fire_locked(struct cm_maint *mt, struct cm_task *t)
{
    mt->firing = t;
    mt->in_flight++;
    cm_mutex_unlock(&mt->lock);
    t->fire(t);
    cm_mutex_lock(&mt->lock);
    mt->firing = NULL;
    mt->in_flight--;
    (void)pthread_cond_broadcast(&mt->changed);
}

bool cm_maint_step(struct cm_maint *mt)
{
    struct cm_task *t = NULL;
    int64_t wait_ms;
    bool any = false;

    cm_mutex_lock(&mt->lock);
    if (mt->env != NULL && !mt->stopped)
        note_clock_locked(mt);
    while (mt->env != NULL && !mt->stopped && (t = take_due_locked(mt, &wait_ms)) != NULL) {
        fire_locked(mt, t);
        any = true;
    }
    cm_mutex_unlock(&mt->lock);
    return any;
}

/* ---- the thread ---- */

static void sleep_locked(struct cm_maint *mt, int64_t wait_ms)
{
    const struct cm_env *env = mt->env;
    struct cm_cancel *wake = NULL;

    /* Without memory for a token it sleeps shortly, and looks again. */
    if (cm_cancel_new(NULL, &wake, NULL) != CM_OK)
        wait_ms = wait_ms < 1000 ? wait_ms : 1000;
    mt->wake = wake;
    mt->sleeps_on = env;
    mt->sleeps_until_ms = cm_wall_ms(env) + wait_ms;
    cm_mutex_unlock(&mt->lock);
    (void)!env->wait(env, wake, wait_ms * CM_NS_PER_MS);
    cm_mutex_lock(&mt->lock);
    mt->sleeps_on = NULL;
    mt->wake = NULL;
    cm_cancel_free(wake);
    (void)pthread_cond_broadcast(&mt->changed);
}

static void *thread_main(void *arg)
{
    struct cm_maint *mt = arg;
    int64_t wait_ms;

    cm_mutex_lock(&mt->lock);
    while (!mt->stopped) {
        if (mt->env == NULL) { /* the last config has gone; another may come */
            (void)pthread_cond_wait(&mt->changed, &mt->lock);
            continue;
        }
        note_clock_locked(mt);
        if (mt->stopped || mt->env == NULL)
            continue;
        struct cm_task *t = take_due_locked(mt, &wait_ms);
        if (t != NULL)
            fire_locked(mt, t);
        else
            sleep_locked(mt, wait_ms);
    }
    cm_mutex_unlock(&mt->lock);
    return NULL;
}

/* ---- public calls ---- */

/* References to the configs, so that they stay while they are worked on. */
static size_t borrow_all(struct cm_maint *mt, struct cm_config *ret[CONFIGS_MAX])
{
    cm_mutex_lock(&mt->lock);
    size_t n = mt->n_users;
    for (size_t i = 0; i < n; i++) {
        ret[i] = mt->users[i].cfg;
        mt->users[i].borrowed++;
    }
    cm_mutex_unlock(&mt->lock);
    return n;
}

static void stop_work(struct cm_maint *mt)
{
    struct cm_config *cfgs[CONFIGS_MAX];
    size_t n = borrow_all(mt, cfgs);
    const struct cm_env *real = cm_env_system();
    int64_t until = real->mono_ns(real) + STOP_LIMIT_NS;

    for (size_t i = 0; i < n; i++) {
        cm_peers_stop(cfgs[i]);
        cm_names_cancel(cfgs[i]);
    }
    cm_mutex_lock(&mt->lock);
    while (mt->in_flight > 0 && real->mono_ns(real) < until)
        (void)cm_cond_wait_ns(&mt->changed, &mt->lock, CM_WAIT_SLICE_NS);
    cm_mutex_unlock(&mt->lock);
    for (size_t i = 0; i < n; i++) {
        cm_announce_end(cfgs[i]->announce, until - real->mono_ns(real));
        cm_maint_release(mt, cfgs[i]);
    }
}

void cm_cache_stop(struct cm_cache *cache)
{
    struct cm_maint *mt = cache != NULL ? cm_cache_maint(cache) : NULL;
    bool first, join;

    if (mt == NULL)
        return;
    cm_mutex_lock(&mt->lock);
    first = !mt->stopped;
    join = first && mt->has_thread;
    mt->stopped = true;
    cm_cancel_fire(mt->wake);
    (void)pthread_cond_broadcast(&mt->changed);
    cm_mutex_unlock(&mt->lock);
    if (join)
        (void)pthread_join(mt->thread, NULL);
    if (!first)
        return;
    cm_hotfiles_stop(cache);
    stop_work(mt);
}

/* Until what was begun is done, and nothing more is due. What takes long keeps nothing else from
 * being begun when its time has come. */
static void run_to_the_end(struct cm_maint *mt)
{
    bool more;

    do {
        more = cm_maint_step(mt);
        cm_mutex_lock(&mt->lock);
        more = more || mt->in_flight > 0;
        if (mt->in_flight > 0 && !mt->stopped)
            (void)cm_cond_wait_ns(&mt->changed, &mt->lock, CM_WAIT_SLICE_NS);
        more = more && !mt->stopped;
        cm_mutex_unlock(&mt->lock);
    } while (more);
}

cm_status cm_cache_maintain_now(struct cm_cache *cache, bool all, struct cm_err *err)
{
    struct cm_maint *mt = cache != NULL ? cm_cache_maint(cache) : NULL;
    struct cm_config *cfgs[CONFIGS_MAX];
    bool stopped, no_thread;
    size_t n = 0;

    if (mt == NULL)
        return cm_fail(err, CM_E_INVAL, "no cache to maintain");
    cm_mutex_lock(&mt->lock);
    stopped = mt->stopped;
    no_thread = mt->no_thread;
    cm_cancel_fire(mt->wake);
    cm_mutex_unlock(&mt->lock);
    if (stopped)
        return cm_fail(err, CM_E_STATE, "the maintenance of this cache has been stopped");
    if (all)
        n = borrow_all(mt, cfgs);
    for (size_t i = 0; i < n; i++) {
        cm_names_look_again(cfgs[i]);
        cm_maint_release(mt, cfgs[i]);
    }
    if (no_thread)
        run_to_the_end(mt);
    return CM_OK;
}

int64_t cm_cache_next_due_s(struct cm_cache *cache)
{
    struct cm_maint *mt = cache != NULL ? cm_cache_maint(cache) : NULL;
    int64_t at_ms = INT64_MAX;

    if (mt == NULL)
        return INT64_MAX;
    cm_mutex_lock(&mt->lock);
    const struct cm_due_item *first = cm_due_first(&mt->due);
    if (first != NULL)
        at_ms = first->at_ms;
    cm_mutex_unlock(&mt->lock);
    return at_ms == INT64_MAX ? INT64_MAX : at_ms >= 0 ? (at_ms + 999) / 1000 : at_ms / 1000;
}

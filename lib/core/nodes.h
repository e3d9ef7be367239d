/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_CORE_NODES_H
#define CM_CORE_NODES_H

/* What nodes say of themselves in storage, for people: announce.c says it, fleet.c reads it. A node
 * is one configuration of one process. Below certmesh/nodes/<id> lie
 *
 *   node        a small note: who, since when, seen when, how many names
 *   names-<k>   the names that it has, by a hash of the name, so that a change touches one page
 */

#include "maintain.h"

#define CM_NODES_DIR       "certmesh/nodes"
#define CM_NODE_ID_BYTES   16u
#define CM_NODE_PAGES_MAX  1024u
#define CM_NODE_PAGE_NAMES 500u          /* that a page has on average, at most */
#define CM_NODE_PAGE_BYTES (256u * 1024) /* names that go beyond are left out */
#define CM_NODE_LINE_MAX   512u
#define CM_NODE_GONE_S     600 /* nobody heard of it for that long */
#define CM_NODE_CLEAN_S    (24 * 3600)

/* The note. */
struct cm_node {
    char id[2 * CM_NODE_ID_BYTES + 1];
    char name[128];
    char host[CM_HOST_NAME_BUF];
    char version[32];
    unsigned pid;
    int64_t started_s;
    int64_t seen_s;
    unsigned n_names;
    unsigned n_pages;
    uint64_t digest; /* of all lines, whatever their order */
};

/* One name of a page. */
struct cm_node_name {
    const char *name;
    const char *serial; /* of the certificate that is served; "" = none yet */
    int64_t from_s, until_s;
};

/* ---- node_record.c ---- */

bool cm_node_is_id(const char *text);
CM_MUST_CHECK cm_status cm_node_path(const char *id, const char *what, char ret[CM_KEY_BUF],
                                     struct cm_err *err);
/* certmesh/nodes/<id>/names-<k> */
CM_MUST_CHECK cm_status cm_node_page_path(const char *id, unsigned page, char ret[CM_KEY_BUF],
                                          struct cm_err *err);
CM_MUST_CHECK cm_status cm_node_format(const struct cm_node *n, struct cm_buf *out,
                                       struct cm_err *err);
/* CM_E_NOTFOUND also when what is there is of no use. */
CM_MUST_CHECK cm_status cm_node_load(struct cm_config *cfg, const struct cm_op *op, const char *id,
                                     struct cm_node *ret, struct cm_err *err);

unsigned cm_node_pages_for(size_t n_names); /* a power of two */
unsigned cm_node_page_of(const char *name, unsigned n_pages);
/* Line of a page, without its end; its length. */
size_t cm_node_line(const struct cm_node_name *n, char ret[CM_NODE_LINE_MAX]);
uint64_t cm_node_line_hash(const char *line, size_t len);
CM_MUST_CHECK cm_status cm_node_page_begin(struct cm_buf *out, unsigned page, unsigned n_pages,
                                           struct cm_err *err);
/* Reads @text in place, which is changed and has to stay as long as the names. @each for every
 * line, with the hash of it. CM_E_PARSE: no page with that number; what was told before is good. */
CM_MUST_CHECK cm_status cm_node_page_parse(char *text, size_t len, unsigned page, unsigned n_pages,
                                           cm_status (*each)(void *user,
                                                             const struct cm_node_name *n,
                                                             uint64_t hash, struct cm_err *err),
                                           void *user, struct cm_err *err);

/* ---- fleet_names.c ---- */

/* The names of one node, or of several that have the same. */
struct cm_fleet_list {
    uint64_t digest; /* that it has to come to */
    size_t n_expected;
    unsigned n_pages;
    uint64_t sum; /* what it comes to */
    struct cm_node_name *at;
    size_t n, cap;
    char **texts; /* what @at points into */
    size_t n_texts;
    bool whole; /* all that the node has */
};
void cm_fleet_list_free(struct cm_fleet_list *l);
/* The pages of @node, sorted by name. What cannot be read is left out: then it is not whole. */
CM_MUST_CHECK cm_status cm_fleet_list_load(struct cm_config *cfg, const struct cm_op *op,
                                           const struct cm_node *node, size_t max,
                                           struct cm_fleet_list *ret, struct cm_err *err);
const struct cm_node_name *cm_fleet_list_find(const struct cm_fleet_list *l, const char *name);
/* What storage has, as such a list: for each name the newest certificate of whatever CA. */
CM_MUST_CHECK cm_status cm_fleet_list_stored(struct cm_config *cfg, const struct cm_op *op,
                                             struct cm_fleet_list *ret, struct cm_err *err);

#endif

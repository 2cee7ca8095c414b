#ifndef LASTCALL_ADMIN_ROUTES_H
#define LASTCALL_ADMIN_ROUTES_H

/* The paths of the admin listener, for the table in admin_api.c. All of these answer the request
 * and return 0.     Thread: the admin thread. */

#include <jansson.h>

#include "admin_p.h"

/* ---- admin_questions.c: GET and HEAD ---- */

int admin_show_live(struct admin *admin, h2o_req_t *req);
int admin_show_ready(struct admin *admin, h2o_req_t *req);
int admin_show_status(struct admin *admin, h2o_req_t *req);
int admin_show_unfinished(struct admin *admin, h2o_req_t *req);
int admin_show_metrics(struct admin *admin, h2o_req_t *req);
int admin_show_events(struct admin *admin, h2o_req_t *req);
int admin_show_page(struct admin *admin, h2o_req_t *req);

/* ---- admin_orders.c: POST ---- */

struct admin_order {
    struct admin *admin;
    h2o_req_t *req;
    json_t *body; /* an object */
};

typedef int admin_order_cb(const struct admin_order *order);

admin_order_cb admin_order_drain, admin_order_undrain, admin_order_restart,
    admin_order_set_log_level;

/* Carry out an order, if the client may give it and its body is well-formed. */
int admin_give_order(struct admin *admin, h2o_req_t *req, admin_order_cb *carry_out);

#endif

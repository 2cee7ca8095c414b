#ifndef LASTCALL_FUZZ_UPSTREAM_PLAN_H
#define LASTCALL_FUZZ_UPSTREAM_PLAN_H

/* What an upstream answers, made from a number: an answer that keeps the rules, or one that breaks
 * some, and where it is cut. The same number makes the same plan. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PLAN_MAX ((size_t)768 * 1024)

enum plan_kind { PLAN_HTTP, PLAN_FASTCGI };
enum plan_end { PLAN_KEEP, PLAN_CLOSE, PLAN_RESET };

struct plan {
    enum plan_kind kind;
    bool to_head;
    bool keeps_rules;   /* else nothing is known of it, and the rest below does not hold */
    bool ends_by_close; /* its end is that of the connection */
    int status;
    char bytes[PLAN_MAX]; /* all of it */
    size_t size;
    size_t sent; /* that many bytes of it are sent, and then ... */
    enum plan_end end;
    size_t head_size;     /* a client can know the status after that many bytes */
    size_t whole_size;    /* and that it has all of the body after that many */
    size_t end_of_stdout; /* FastCGI: after that many a closed connection means the same, ... */
    size_t after_stdout;  /* up to that many; then a part of a record is missing */
    char body[PLAN_MAX];  /* that the client is to get */
    size_t body_size;
    uint64_t random; /* the state of the generator */
};

/* A number below `bound`. */
uint32_t plan_random(struct plan *plan, uint32_t bound);

void plan_make(struct plan *plan, uint64_t seed, uint64_t number);

/* Helpers of the two kinds. */
void plan_add(struct plan *plan, const void *bytes, size_t size);
void plan_say(struct plan *plan, const char *format, ...) __attribute__((format(printf, 2, 3)));
void plan_make_body(struct plan *plan);
/* Header lines that mean nothing here, or, if the rules are to be broken, too much. */
void plan_say_fields(struct plan *plan);

#endif

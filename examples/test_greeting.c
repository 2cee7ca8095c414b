/* The unit test of a handler: no socket, no thread, no wait.
 *
 *     cc test_greeting.c $(pkg-config --cflags --libs lastcall) -o test_greeting && ./test_greeting
 */
#include <lastcall/lastcall.h>
#include <stdio.h>
#include <string.h>

static void greet(lc_req *request, void *user)
{
    const char *name = lc_query(request, "name");

    (void)user;
    if (name == NULL)
        lc_fail(request, 400, "no name was given");
    else
        lc_sendf(request, 200, "text/plain", "Hello %s\n", name);
}

static int check(lc_server *server, const char *request, int status, const char *body)
{
    struct lc_answer answer = LC_ANSWER_INIT;
    int result = lc_call(server, request, NULL, NULL, 0, &answer);
    int ok = result == LC_OK && answer.status == status &&
             (body == NULL || strcmp(answer.body, body) == 0);

    printf("%s %s\n", ok ? "ok    " : "not ok", request);
    lc_answer_free(&answer);
    return ok;
}

int main(void)
{
    lc_server *server = lc_new();

    lc_handle(server, "GET /greeting", greet, NULL);
    int ok = check(server, "GET /greeting?name=Ada", 200, "Hello Ada\n") &
             check(server, "GET /greeting", 400, NULL) &
             check(server, "POST /greeting", 405, NULL) & check(server, "GET /", 404, NULL);
    lc_free(server);
    return !ok;
}

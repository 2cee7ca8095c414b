#include "cli_events.h"

#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>

#include "cli_explain.h"
#include "cli_fail.h"
#include "cli_http.h"
#include "cli_sse.h"
#include "cli_status.h"
#include "clock.h"

/* GET /events through libcurl's multi interface, so that one poll covers the stream, the keyboard
 * and signals. Each event is a whole status, so only the newest is kept. */

struct cli_stream {
    const struct cli_server *server;
    CURLM *multi;
    CURL *easy;
    struct curl_slist *fields;
    struct cli_sse sse;
    struct cli_body refusal; /* the body of an answer other than 200 */
    json_t *status;          /* the newest */
    json_t *unknown;         /* a status of another schema */
    bool fresh;              /* `status` arrived after the last cli_stream_next() */
    bool ended;
    CURLcode result; /* of the ended stream */
    long http;
};

static void on_event(void *arg, const char *name, const char *data)
{
    struct cli_stream *stream = arg;

    if (strcmp(name, "status") != 0)
        return; /* a later version may send other events */
    json_t *status = json_loads(data, 0, NULL);
    if (!cli_is_status(status)) {
        json_decref(stream->unknown);
        stream->unknown = status != NULL ? status : json_null();
        stream->ended = true; /* later events have the same schema */
        return;
    }
    json_decref(stream->status);
    stream->status = status;
    stream->fresh = true;
}

static size_t on_bytes(char *bytes, size_t one, size_t size, void *arg)
{
    struct cli_stream *stream = arg;

    (void)curl_easy_getinfo(stream->easy, CURLINFO_RESPONSE_CODE, &stream->http);
    if (stream->http != 200)
        return cli_body_write(bytes, one, size, &stream->refusal);
    cli_sse_feed(&stream->sse, bytes, size, on_event, stream);
    return size;
}

int cli_stream_open(const struct cli_server *server, struct cli_stream **ret_stream)
{
    struct cli_stream *stream = calloc(1, sizeof(*stream));

    if (stream == NULL)
        return cli_fail(EX_OSERR, "out of memory");
    stream->server = server;
    stream->multi = curl_multi_init();
    stream->easy = cli_easy_open(server, "/events", &stream->fields);
    if (stream->multi == NULL || stream->easy == NULL) {
        cli_stream_close(stream);
        return cli_fail(EX_OSERR, "out of memory");
    }
    stream->fields = curl_slist_append(stream->fields, "Accept: text/event-stream");
    (void)curl_easy_setopt(stream->easy, CURLOPT_HTTPHEADER, stream->fields);
    (void)curl_easy_setopt(stream->easy, CURLOPT_WRITEFUNCTION, on_bytes);
    (void)curl_easy_setopt(stream->easy, CURLOPT_WRITEDATA, stream);
    (void)curl_multi_add_handle(stream->multi, stream->easy);
    *ret_stream = stream;
    return 0;
}

static void note_end(struct cli_stream *stream)
{
    int left;
    const CURLMsg *message;

    while ((message = curl_multi_info_read(stream->multi, &left)) != NULL) {
        if (message->msg != CURLMSG_DONE)
            continue;
        stream->ended = true;
        stream->result = message->data.result;
        (void)curl_easy_getinfo(stream->easy, CURLINFO_RESPONSE_CODE, &stream->http);
    }
}

enum cli_next cli_stream_next(struct cli_stream *stream, const int *fds, unsigned fd_count,
                              int wait_ms)
{
    struct curl_waitfd waits[4] = {0};
    uint64_t until_ns = clock_now_ns() + (uint64_t)wait_ms * NS_PER_MS;
    int running;

    for (unsigned i = 0; i < fd_count && i < 4; i++)
        waits[i] = (struct curl_waitfd){.fd = fds[i], .events = CURL_WAIT_POLLIN};
    for (;;) {
        (void)curl_multi_perform(stream->multi, &running);
        note_end(stream);
        if (stream->fresh) {
            stream->fresh = false;
            return CLI_NEXT_STATUS; /* the next call reports an end */
        }
        if (stream->ended)
            return CLI_NEXT_END;
        for (unsigned i = 0; i < fd_count && i < 4; i++)
            if (waits[i].revents != 0)
                return CLI_NEXT_FD;
        uint64_t now_ns = clock_now_ns();
        if (now_ns >= until_ns)
            return CLI_NEXT_TIME;
        (void)curl_multi_poll(stream->multi, waits, fd_count < 4 ? fd_count : 4,
                              clock_poll_ms(now_ns, until_ns), NULL);
    }
}

const json_t *cli_stream_status(const struct cli_stream *stream)
{
    return stream->status;
}

int cli_stream_explain(const struct cli_stream *stream)
{
    if (stream->http >= 300)
        return cli_explain_answer(stream->server, stream->http, stream->refusal.text);
    if (stream->unknown != NULL)
        return cli_explain_schema(stream->server, stream->unknown);
    if (stream->status == NULL && stream->result == CURLE_OK)
        return cli_explain_schema(stream->server, NULL);
    if (stream->status == NULL)
        return cli_explain_curl(stream->server, stream->easy, stream->result);
    return 0; /* a server that exits may cut the stream */
}

void cli_stream_close(struct cli_stream *stream)
{
    if (stream == NULL)
        return;
    if (stream->multi != NULL && stream->easy != NULL)
        (void)curl_multi_remove_handle(stream->multi, stream->easy);
    if (stream->easy != NULL)
        curl_easy_cleanup(stream->easy);
    if (stream->multi != NULL)
        (void)curl_multi_cleanup(stream->multi);
    curl_slist_free_all(stream->fields);
    cli_sse_release(&stream->sse);
    free(stream->refusal.text);
    json_decref(stream->status);
    json_decref(stream->unknown);
    free(stream);
}

#include "with_fastcgi.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

enum { BEGIN_REQUEST = 1 };

static void append(char **to, size_t *size, const char *bytes, size_t count)
{
    *to = realloc(*to, *size + count + 1);
    assert_non_null(*to);
    memcpy(*to + *size, bytes, count);
    *size += count;
    (*to)[*size] = '\0';
}

/* Returns its type; 0: it was the end of FCGI_STDIN. */
static unsigned take_record(struct fixture *f, struct fastcgi_request *request)
{
    static char bytes[65535 + 255];
    unsigned char head[8];

    assert_int_equal(client_recv(f->upstream, head, 8, MSG_WAITALL), 8);
    size_t content = (size_t)head[4] << 8 | head[5], all = content + head[6];
    if (all > 0)
        assert_int_equal(client_recv(f->upstream, bytes, all, MSG_WAITALL), (ssize_t)all);
    assert_int_equal(head[0], 1);
    assert_int_equal(head[2] << 8 | head[3], 1);
    if (head[1] == BEGIN_REQUEST)
        request->flags = (unsigned char)bytes[2];
    else if (head[1] == PARAMS)
        append(&request->params, &request->params_size, bytes, content);
    else if (head[1] == STDIN)
        append(&request->body, &request->body_size, bytes, content);
    return head[1] == STDIN && content == 0 ? 0 : head[1];
}

struct fastcgi_request take_fastcgi_request(struct fixture *f)
{
    struct fastcgi_request request = {0};

    take_connection(f);
    assert_int_equal(take_record(f, &request), BEGIN_REQUEST);
    while (take_record(f, &request) != 0)
        continue;
    return request;
}

void release_fastcgi_request(struct fastcgi_request *request)
{
    free(request->params);
    free(request->body);
}

void take_fastcgi(struct fixture *f)
{
    struct fastcgi_request request = take_fastcgi_request(f);

    release_fastcgi_request(&request);
}

void send_record(struct fixture *f, unsigned type, const char *content, size_t size,
                 unsigned padding)
{
    unsigned char record[8 + 1024 + 255] = {1,
                                            (unsigned char)type,
                                            0,
                                            1,
                                            (unsigned char)(size >> 8),
                                            (unsigned char)size,
                                            (unsigned char)padding,
                                            0};

    assert_true(size <= 1024);
    memcpy(record + 8, content, size);
    assert_int_equal(send(f->upstream, record, 8 + size + padding, MSG_NOSIGNAL),
                     8 + size + padding);
}

void send_text(struct fixture *f, const char *text)
{
    send_record(f, STDOUT, text, strlen(text), 0);
}

void send_end_with(struct fixture *f, unsigned app_status, unsigned protocol_status)
{
    const char body[8] = {0, 0, 0, (char)app_status, (char)protocol_status};

    send_record(f, END_REQUEST, body, sizeof(body), 0);
}

void send_end(struct fixture *f)
{
    send_record(f, STDOUT, "", 0, 0);
    send_end_with(f, 0, 0);
}

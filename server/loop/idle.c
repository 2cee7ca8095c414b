#include "idle.h"

#include "conn.h"
#include "tls.h"

/* TLS: close_notify has come, which to the library looks like the beginning of a request. */
static bool has_sent_close_notify(const struct conn *conn)
{
    return conn->ssl != NULL && (SSL_get_shutdown(conn->ssl) & SSL_RECEIVED_SHUTDOWN) != 0;
}

/* Empty lines before a request do not begin one (RFC 9112 section 2.2); old clients send one after
 * a body. */
bool h1_is_idle(h2o_req_t *req)
{
    h2o_socket_t *sock = req->conn->callbacks->get_socket(req->conn);

    if (req->processed_at.at.tv_sec != 0)
        return false;
    if (sock->input->size == 0) {
        const struct conn *conn = sock->on_close.data;
        if (conn->ssl == NULL)
            return req->timestamps.request_begin_at.tv_sec == 0;
        /* Over TLS the stamp also comes with records that carry nothing, and does not come with a
         * part of one that followed the handshake or the last request. */
        return has_sent_close_notify(conn) ||
               (req->input.method.len == 0 && !tls_is_mid_record(conn->ssl));
    }
    for (size_t i = 0; i < sock->input->size; i++)
        if (sock->input->bytes[i] != '\r' && sock->input->bytes[i] != '\n')
            return false;
    return true;
}

bool conn_is_silent(const struct conn *conn)
{
    /* What is read without the library, as of a tunnel, leaves no trace in its socket. */
    return conn->sock != NULL && conn->active == 0 && !conn->is_tunnel &&
           ((conn->is_tls && conn->ssl == NULL && !conn->handshake_begun) ||
            (conn->expects_proxy_line && conn->sock->bytes_read == 0 &&
             conn->sock->input->size == 0));
}

bool h2_has_begun(const h2o_http2_conn_t *h2)
{
    return h2->sock->bytes_written != 0 || h2->_write.buf->size != 0 ||
           h2->_write.buf_in_flight != NULL;
}

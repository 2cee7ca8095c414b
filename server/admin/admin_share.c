#include "admin_share.h"

#include <errno.h>
#include <poll.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <openssl/evp.h>

#include "admin_p.h"
#include "handover.h"
#include "log.h"

#define NAME_BYTES 16
#define TRIES 10 /* the old process may be closing its listeners just now */
#define PAUSE_MS 30
#define ANSWER_MS 1000

/* A digest of the address: the address itself may not fit (unix(7): 107 bytes). */
static bool make_name(const struct admin *admin, struct sockaddr_un *ret_name, socklen_t *ret_size)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    char *at = ret_name->sun_path + 1; /* the first byte is 0: abstract */

    if (EVP_Digest(admin->address, strlen(admin->address), digest, NULL, EVP_sha256(), NULL) != 1)
        return false;
    memset(ret_name, 0, sizeof(*ret_name));
    ret_name->sun_family = AF_UNIX;
    at += sprintf(at, "lastcall-admin-");
    for (size_t i = 0; i < NAME_BYTES; i++)
        at += sprintf(at, "%02x", digest[i]);
    *ret_size = (socklen_t)(at - (char *)ret_name);
    return true;
}

static bool get_peer(int fd, struct ucred *ret_peer)
{
    socklen_t size = sizeof(*ret_peer);
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, ret_peer, &size) == 0;
}

/* ---- the process that drains ---- */

static void close_sock(h2o_socket_t **sock)
{
    if (*sock != NULL)
        h2o_socket_close(*sock);
    *sock = NULL;
}

/* False: main is already closing them. */
static bool set_lent(struct admin *admin, bool lent)
{
    (void)pthread_mutex_lock(&admin->mu);
    admin->is_lent = lent && !admin->leaves;
    bool is = admin->is_lent;
    (void)pthread_mutex_unlock(&admin->mu);
    return is;
}

static void on_borrower(h2o_socket_t *sock, const char *err)
{
    struct admin *admin = sock->data;
    struct message message = {0};
    uint64_t ids[8];
    int failed;

    (void)err;
    while ((failed = handover_receive(h2o_socket_get_fd(sock), &message)) == 0 &&
           message.type != HANDOVER_SETTLED)
        message_release(&message);
    if (failed == -EAGAIN)
        return;
    close_sock(&admin->borrower_sock);
    if (failed != 0) { /* its start has failed */
        (void)set_lent(admin, false);
        return;
    }
    message_release(&message);
    close_sock(&admin->share_sock);
    admin_followed(admin, ids, admin_ids(admin, ids, sizeof(ids) / sizeof(ids[0])));
    admin_accept_where_due(admin); /* not only once it is woken: the log says that it is done */
    log_line(LOG_LEVEL_INFO, "admin-followed", NULL,
             "a new process answers on the admin address %s; open connections stay here",
             admin->address);
}

static bool lend_to(struct admin *admin, int fd)
{
    struct message message;
    bool good = set_lent(admin, true);

    for (size_t i = 0; good && admin_offer(admin, i, &message); i++) {
        good = message_send(fd, &message) == 0;
        message_release(&message);
    }
    handover_begin(&message, HANDOVER_BEGIN);
    return good && message_send(fd, &message) == 0;
}

static void on_share(h2o_socket_t *sock, const char *err)
{
    struct admin *admin = sock->data;
    struct ucred peer;
    int fd = err == NULL
                 ? accept4(h2o_socket_get_fd(sock), NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)
                 : -1;

    if (fd < 0)
        return;
    if (admin->borrower_sock != NULL || !get_peer(fd, &peer) ||
        (peer.uid != 0 && peer.uid != geteuid()) || !lend_to(admin, fd)) {
        if (admin->borrower_sock == NULL)
            (void)set_lent(admin, false);
        (void)close(fd);
        return;
    }
    admin->borrower_sock = h2o_evloop_socket_create(admin->evloop, fd, H2O_SOCKET_FLAG_DONT_READ);
    admin->borrower_sock->data = admin;
    h2o_socket_read_start(admin->borrower_sock, on_borrower);
}

void admin_share_look(struct admin *admin)
{
    struct sockaddr_un name;
    socklen_t size;

    /* acquire, both: as in admin_resume_accepting() */
    if (admin->share_sock != NULL || !atomic_load_explicit(&admin->accepts, memory_order_acquire) ||
        atomic_load_explicit(&admin->followed, memory_order_acquire) ||
        coord_get_phase(admin->coord) < PHASE_CLOSING || !make_name(admin, &name, &size))
        return;
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    /* The name is taken if another process with this address drains, too: a new process then asks
     * that one, in vain. */
    if (bind(fd, (const struct sockaddr *)&name, size) != 0 || listen(fd, 4) != 0) {
        (void)close(fd);
        return;
    }
    admin->share_sock = h2o_evloop_socket_create(admin->evloop, fd, H2O_SOCKET_FLAG_DONT_READ);
    admin->share_sock->data = admin;
    h2o_socket_read_start(admin->share_sock, on_share);
}

void admin_share_stop(struct admin *admin)
{
    close_sock(&admin->share_sock);
    close_sock(&admin->borrower_sock);
}

/* ---- the process that starts ---- */

/* Any process may take the name, and could hand us a socket of its own. */
static bool is_trusted(const struct admin *admin, int fd, pid_t *ret_pid)
{
    struct ucred peer;

    if (!get_peer(fd, &peer))
        return false;
    *ret_pid = peer.pid;
    if (peer.uid == 0 || peer.uid == geteuid())
        return true;
    const struct passwd *user =
        geteuid() == 0 && admin->config.user != NULL ? getpwnam(admin->config.user) : NULL;
    return user != NULL && peer.uid == user->pw_uid;
}

/* A socket file of another folder may have the same name, as in another container of a pod. */
static bool is_same_file(const struct admin *admin, const struct message *message)
{
    struct stat st;

    if (strncmp(admin->address, "unix:", 5) != 0)
        return true;
    return stat(admin->address + 5, &st) == 0 &&
           st.st_dev == message_get_number(message, HANDOVER_DEVICE, 0) &&
           st.st_ino == message_get_number(message, HANDOVER_INODE, 0);
}

static bool receive_listeners(struct admin *admin, int fd)
{
    struct message message;
    uint64_t until_ns = clock_now_ns() + ANSWER_MS * NS_PER_MS;
    bool any = false;

    for (;;) {
        int err = handover_receive(fd, &message);
        if (err == -EAGAIN && clock_now_ns() < until_ns) {
            struct pollfd in = {.fd = fd, .events = POLLIN};
            (void)poll(&in, 1, ANSWER_MS / 10);
            continue;
        }
        if (err != 0)
            return false;
        bool ends = message.type == HANDOVER_BEGIN;
        if (message.type == HANDOVER_LISTENER && is_same_file(admin, &message))
            any |= inherit_add(admin->listeners.inheritance, &message) == 0;
        message_release(&message);
        if (ends)
            return any;
    }
}

static int connect_to_share(const struct admin *admin)
{
    struct sockaddr_un name;
    socklen_t size;
    int fd = make_name(admin, &name, &size)
                 ? socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)
                 : -1;

    for (unsigned i = 0; fd >= 0 && i < TRIES; i++) {
        if (connect(fd, (const struct sockaddr *)&name, size) == 0)
            return fd;
        (void)poll(NULL, 0, PAUSE_MS);
    }
    if (fd >= 0)
        (void)close(fd);
    return -1;
}

bool admin_share_borrow(struct admin *admin)
{
    pid_t pid = 0;
    int fd = admin->listeners.inheritance != NULL ? connect_to_share(admin) : -1;

    if (fd < 0)
        return false;
    if (!is_trusted(admin, fd, &pid) || !receive_listeners(admin, fd)) {
        (void)close(fd);
        return false;
    }
    admin->lender_fd = fd;
    log_line(LOG_LEVEL_INFO, "admin-borrowed", NULL,
             "process %ld is draining and has the admin address %s: taking it over", (long)pid,
             admin->address);
    return true;
}

void admin_share_settle(struct admin *admin)
{
    struct message message;

    if (admin->lender_fd < 0)
        return;
    handover_begin(&message, HANDOVER_SETTLED);
    (void)message_send(admin->lender_fd, &message); /* fails if the lender has ended */
    admin_share_give_up(admin);
}

void admin_share_give_up(struct admin *admin)
{
    if (admin->lender_fd >= 0)
        (void)close(admin->lender_fd);
    admin->lender_fd = -1;
}

/* A handshake that is under way when the listeners close. Its client is made of packets, on a TUN
 * device in a network namespace of this program, so its last ACK comes when the test wants it to.
 * Skipped where this program may not have such a device. */

#include "with_process.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cmocka.h>

#include "expect.h"
#include "skip.h"

#define SYN 0x02
#define RST 0x04
#define ACK 0x10
#define SERVER_4 "10.9.0.1"
#define CLIENT_4 "10.9.0.2"
#define SERVER_6 "fd09::1"
#define CLIENT_6 "fd09::2"
#define HOPS 64
#define TCP_HEADER 20

static const char *why_not; /* NULL: the tests can run */
static int tun = -1;

/* One client's end of a connection. */
struct peer {
    int family;
    uint16_t port, server_port;
    uint32_t seq, ack; /* the next that it sends, and expects */
};

/* ---- packets ---- */

static uint32_t sum_of(const void *bytes, size_t n, uint32_t sum)
{
    const unsigned char *at = bytes;

    for (size_t i = 0; i < n; i++)
        sum += (uint32_t)at[i] << (i % 2 == 0 ? 8 : 0);
    return sum;
}

static uint16_t checksum(uint32_t sum)
{
    while (sum >> 16 != 0)
        sum = (sum & 0xffff) + (sum >> 16);
    return htons((uint16_t)~sum);
}

static void put(unsigned char *at, uint64_t value, size_t bytes)
{
    for (size_t i = bytes; i-- > 0; value >>= 8)
        at[i] = (unsigned char)value;
}

static uint32_t get_number(const unsigned char *at, size_t bytes)
{
    uint32_t value = 0;
    for (size_t i = 0; i < bytes; i++)
        value = value << 8 | at[i];
    return value;
}

/* The IP header, up to the segment; returns its length. */
static size_t put_ip(unsigned char *packet, int family, size_t length)
{
    if (family == AF_INET6) {
        packet[0] = 0x60;
        put(packet + 4, length, 2);
        packet[6] = IPPROTO_TCP;
        packet[7] = HOPS;
        (void)inet_pton(AF_INET6, CLIENT_6, packet + 8);
        (void)inet_pton(AF_INET6, SERVER_6, packet + 24);
        return 40;
    }
    packet[0] = 0x45;
    put(packet + 2, 20 + length, 2);
    packet[8] = HOPS;
    packet[9] = IPPROTO_TCP;
    (void)inet_pton(AF_INET, CLIENT_4, packet + 12);
    (void)inet_pton(AF_INET, SERVER_4, packet + 16);
    uint16_t sum = checksum(sum_of(packet, 20, 0));
    memcpy(packet + 10, &sum, 2);
    return 20;
}

/* `text` goes along, and may be sent again: the peer's own count does not move. */
static void send_segment(const struct peer *peer, unsigned flags, const char *text)
{
    unsigned char packet[512] = {0};
    size_t length = TCP_HEADER + strlen(text), at = put_ip(packet, peer->family, length);
    unsigned char *tcp = packet + at;

    put(tcp, peer->port, 2);
    put(tcp + 2, peer->server_port, 2);
    put(tcp + 4, peer->seq, 4);
    put(tcp + 8, peer->ack, 4);
    tcp[12] = TCP_HEADER / 4 << 4;
    tcp[13] = (unsigned char)flags;
    put(tcp + 14, 65535, 2);
    memcpy(tcp + TCP_HEADER, text, strlen(text));
    /* Both addresses are in the sum, and lie before the segment. */
    size_t addresses = peer->family == AF_INET6 ? 32 : 8;
    uint16_t sum = checksum(
        sum_of(tcp, length, sum_of(tcp - addresses, addresses, IPPROTO_TCP + (uint32_t)length)));
    memcpy(tcp + 16, &sum, 2);
    assert_int_equal(write(tun, packet, at + length), (int)(at + length));
}

/* The next segment for this peer, its text in `text`; -1: none came in time. Others are discarded.
 */
static int receive_segment(const struct peer *peer, uint32_t wait_ms, uint32_t *ret_seq, char *text)
{
    uint64_t until_ns = now_ns() + wait_ms * NS_PER_MS;

    for (uint64_t at_ns; (at_ns = now_ns()) < until_ns;) {
        unsigned char packet[2048];
        struct pollfd readable = {.fd = tun, .events = POLLIN};
        if (poll(&readable, 1, (int)((until_ns - at_ns) / NS_PER_MS) + 1) != 1)
            continue;
        ssize_t n = read(tun, packet, sizeof(packet));
        size_t header = peer->family == AF_INET6 ? 40 : 20;
        unsigned char *tcp = packet + header;
        if (n < (ssize_t)(header + TCP_HEADER) || packet[0] >> 4 != (header == 40 ? 6 : 4) ||
            packet[header == 40 ? 6 : 9] != IPPROTO_TCP ||
            get_number(tcp, 2) != peer->server_port || get_number(tcp + 2, 2) != peer->port)
            continue;
        size_t data = header + (size_t)(tcp[12] >> 4) * 4;
        *ret_seq = get_number(tcp + 4, 4);
        memcpy(text, packet + data, (size_t)n - data);
        text[(size_t)n - data] = '\0';
        return tcp[13];
    }
    return -1;
}

/* ---- the client ---- */

static struct peer new_peer(const struct process *p, int family, uint16_t port)
{
    return (struct peer){.family = family, .port = port, .server_port = p->port, .seq = 1000};
}

/* Up to the SYN-ACK. False: none came. */
static bool begin_handshake(struct peer *peer, uint32_t wait_ms)
{
    char text[2048];
    uint32_t seq;

    send_segment(peer, SYN, "");
    if (receive_segment(peer, wait_ms, &seq, text) != (SYN | ACK))
        return false;
    peer->seq++;
    peer->ack = seq + 1;
    return true;
}

/* The client's last ACK, and so its round trip, takes so long. */
static void end_handshake(const struct peer *peer, uint32_t after_ms)
{
    (void)poll(NULL, 0, (int)after_ms);
    send_segment(peer, ACK, "");
}

/* As a client does: sends it again until something comes back. False: it was reset. */
static bool ask_until_answered(const struct peer *peer)
{
    uint64_t until_ns = now_ns() + LIMIT_MS * NS_PER_MS;
    char text[2048] = "";
    uint32_t seq;

    while (strstr(text, "Hello World") == NULL && now_ns() < until_ns) {
        send_segment(peer, ACK, GET("/hello"));
        int flags = receive_segment(peer, 100, &seq, text);
        while (flags >= 0 && text[0] == '\0' && (flags & RST) == 0)
            flags = receive_segment(peer, 100, &seq, text);
        if (flags >= 0 && (flags & RST) != 0)
            return false;
    }
    assert_contains(text, " 200 ");
    assert_contains(text, "Hello World");
    return true;
}

/* Until a SYN gets no answer. */
static void wait_until_kept_out(const struct process *p, int family)
{
    uint64_t until_ns = now_ns() + LIMIT_MS * NS_PER_MS;
    struct peer newcomer = new_peer(p, family, 3000);

    while (begin_handshake(&newcomer, 60)) {
        uint16_t port = (uint16_t)(newcomer.port + 1);
        assert_true(now_ns() < until_ns && port != 0);
        (void)poll(NULL, 0, 1);
        newcomer = new_peer(p, family, port);
    }
}

/* ---- the tests ---- */

#define FAR_MS 400

struct asked {
    const char *listen;
    int family; /* of the client */
};

/* False: this machine stood still for so long that it need not be served. */
static bool serves_handshake_under_way(void *arg)
{
    const struct asked *asked = arg;
    int family = asked->family;
    struct process p;

    /* Without a grace for idle connections, only what is known of this one keeps it. */
    process_start(&p, asked->listen,
                  ARGS("--threads", "2", "--admin", "off", "--idle-grace", "0", "--settle-max",
                       "900ms", "--deadline", "30s"));
    /* How far its clients are decides how long the server waits for a handshake. */
    struct peer far = new_peer(&p, family, 2000), late = new_peer(&p, family, 2001);
    uint64_t begun_ns = now_ns();
    assert_true(begin_handshake(&far, 5000));
    end_handshake(&far, FAR_MS);
    bool in_time = is_in_time(begun_ns, 900); /* a SYN-ACK that was sent again measures nothing */
    assert_true(ask_until_answered(&far));

    assert_true(begin_handshake(&late, 5000));
    uint64_t stop_ns = now_ns();
    process_signal(&p, SIGTERM);
    process_wait_log(&p, "closing the listeners");
    wait_until_kept_out(&p, family);
    uint64_t whole_ns = now_ns();
    end_handshake(&late, 0);
    in_time = in_time && is_in_time(stop_ns, 2 * FAR_MS); /* it waits for two such round trips */
    (void)poll(NULL, 0, 150); /* the request comes later than the accept, as after a drop */
    send_segment(&late, ACK, GET("/hello"));
    in_time = in_time && is_in_time(whole_ns, 400); /* a client would have sent it again by then */
    if (in_time) {
        assert_true(ask_until_answered(&late));
        send_segment(&late, RST, "");
        send_segment(&far, RST, "");
        process_expect(&p, 30000, 0);
        assert_lacks(p.log, "warning");
    }
    process_release(&p);
    return in_time;
}

static void handshake_under_way_is_served(const char *listen, int family)
{
    struct asked asked = {listen, family};

    if (why_not != NULL)
        skip_test(why_not);
    repeat_until_in_time(serves_handshake_under_way, &asked);
}

static void test_handshake_over_ipv4_under_way_is_served(void **state)
{
    (void)state;
    handshake_under_way_is_served(SERVER_4 ":0", AF_INET);
}

static void test_handshake_over_ipv6_under_way_is_served(void **state)
{
    (void)state;
    handshake_under_way_is_served("[" SERVER_6 "]:0", AF_INET6);
}

static void test_handshake_over_ipv4_with_an_ipv6_listener_is_served(void **state)
{
    (void)state;
    handshake_under_way_is_served("0", AF_INET);
}

static int set_up(void **state)
{
    struct ifreq wanted = {.ifr_name = "t0", .ifr_flags = IFF_TUN | IFF_NO_PI};

    (void)state;
    if (unshare(CLONE_NEWNET) != 0)
        why_not = "needs a network namespace of its own";
    else if ((tun = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC)) < 0 ||
             ioctl(tun, TUNSETIFF, &wanted) != 0)
        why_not = "needs a TUN device";
    else if (system("{ ip link set lo up && ip addr add " SERVER_4 "/24 dev t0 &&"
                    " ip addr add " SERVER_6 "/64 dev t0 nodad && ip link set t0 up; }"
                    " >/dev/null 2>&1") != 0)
        why_not = "needs ip (iproute2) to set up a TUN device";
    return 0;
}

int main(void)
{
    (void)alarm(300);
#define CLAIM(name) cmocka_unit_test_teardown(name, process_kill_left)
    const struct CMUnitTest tests[] = {
        CLAIM(test_handshake_over_ipv4_under_way_is_served),
        CLAIM(test_handshake_over_ipv6_under_way_is_served),
        CLAIM(test_handshake_over_ipv4_with_an_ipv6_listener_is_served),
    };
    return cmocka_run_group_tests_name("handshake", tests, set_up, NULL);
}

#include "rtt.h"

#include "clock.h"
#include "listener.h"
#include "loop.h"

#define RTT_EVERY_NS (1 * NS_PER_MS)
#define RTT_WINDOW_NS (60 * NS_PER_S)

/* Keep the longest round trip of the peers. The close of the listeners needs to know how long a
 * handshake may take, and there may be no open connection then to measure. */
void rtt_note(struct loop *loop, int fd)
{
    uint64_t rtt_ns = listener_peer_rtt_ns(fd), now_ns = loop_now_ns(loop);

    /* relaxed: one writer; the closing loop reads an estimate */
    uint64_t longest_ns = atomic_load_explicit(&loop->rtt.max_ns, memory_order_relaxed);
    if (now_ns - loop->rtt.window_ns > RTT_WINDOW_NS) { /* a peer of long ago does not count */
        longest_ns = loop->rtt.window_max_ns;
        loop->rtt.window_ns = now_ns;
        loop->rtt.window_max_ns = 0;
    }
    if (rtt_ns > loop->rtt.window_max_ns)
        loop->rtt.window_max_ns = rtt_ns;
    if (rtt_ns > longest_ns)
        longest_ns = rtt_ns;
    atomic_store_explicit(&loop->rtt.max_ns, longest_ns, memory_order_relaxed);
}

/* One system call for each connection would be too many when thousands arrive; one a millisecond is
 * not.
 */
bool rtt_wants_sample(struct loop *loop)
{
    uint64_t now_ns = loop_now_ns(loop);
    if (!loop->closing.begun && now_ns - loop->rtt.sampled_ns < RTT_EVERY_NS)
        return false;
    loop->rtt.sampled_ns = now_ns;
    return true;
}

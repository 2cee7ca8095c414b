/* Handlers in place: a model of the engine, for spin. tests/model/check.py runs it (`make model`).
 *
 * The engine. Each loop has a team of WIDTH + 1 threads, and WIDTH permits: so many handlers of the team run at once,
 * and one thread is left to drive the loop. A thread of the team drives its loop, or runs a job of the queue (all
 * teams share it; the mutex mu guards it), or sleeps. The loop is a coroutine.
 *
 *   - The token of a loop is FREE, DRIVEN, or HANDLER(seq): the driver runs handler number seq in place.
 *   - For a handler in place the loop takes a permit. Without a permit the job goes into the queue. The coroutine
 *     yields to its driver, which stores HANDLER(seq), runs the handler, and swaps HANDLER(seq) for DRIVEN by a CAS.
 *     If the CAS succeeds, the driver resumes the coroutine with the answer and gives the permit back. If it fails,
 *     the monitor has taken the loop: the thread pushes the answer onto the loop's done-list, gives the permit back,
 *     and is ordinary again.
 *   - The monitor takes a loop whose token is the same HANDLER(seq) at two looks: CAS from the value that it saw to
 *     FREE. Then it takes mu and wakes a sleeping thread of the team, if there is one.
 *   - An ordinary thread takes mu. If its loop's token is FREE it drives the loop, and the coroutine learns that the
 *     answer comes later. Else it takes a queued job, if it gets a permit of its team. Else it sleeps.
 *   - A loop that pushes a job wakes one sleeping thread whose team has a permit. A woken thread may not take the
 *     job: it drives its loop instead, or finds no permit. If the queue is not empty then, the thread passes the
 *     wake-up on: it does what a pusher does. Otherwise a job waits for a handler that may never end, beside an idle
 *     team.
 *   - For jobs that are expected to be brief (-DBRIEF: all of them) the threads are woken one after the other: a
 *     pusher wakes none if one is coming already, and who takes a job wakes the next if more are queued.
 *   - A permit is given back without mu. Afterwards a driver looks at the length of the queue; if it is not 0 the
 *     driver takes mu and wakes a sleeping thread of its team. An ordinary thread looks at the queue anyway.
 *   - The monitor sleeps while no token is HANDLER. It sets monitor_asleep, reads all tokens again, and sleeps. A
 *     driver stores HANDLER, reads monitor_asleep, and wakes the monitor if it is set.
 *
 * What is checked. In every state: a loop has at most one driver, of its own team; a job is taken from each place
 * once, so it runs once and is answered once; a permit count stays within 0 and WIDTH. When nothing can move any more
 * except handlers that never end: each loop has a driver, no request and no answer waits for it; a job is queued only
 * if no team has a permit; all permits are back except those of handlers that never end; all other jobs are answered;
 * the monitor sleeps. Every run ends in such a state: check.py also looks for cycles, and there are none.
 *
 * Memory order. The model is sequentially consistent. The code needs seq_cst where two threads each write one word
 * and then read the other's: permits and the queue's length; token and monitor_asleep. The mistakes ..._ORDER show
 * what happens without. The token and the done-list need acquire and release, because the coroutine and the answers
 * are handed over.
 *
 * Why the model is small and still has every interleaving:
 *
 *   - A step is one access to a word that threads share without mu (token, permits, the queue's length,
 *     monitor_asleep, the done-list, the eventfd), together with what its thread does next to it that is its own or
 *     that mu guards. Taking mu commutes with what other threads do after it, and releasing mu with what they do
 *     before it, so a critical section with one such access is one step, and a longer one keeps mu over several
 *     steps.
 *   - A job runs once, so its number serves as seq: two handlers of a loop never have the same. Nothing counts up.
 *   - A job's state says where it is. A thread may pop any queued job, and first-in-first-out is one of these orders.
 *   - All requests exist at the start. A loop that has not begun a job yet cannot be told from one that has not
 *     received it. A loop may queue a job although there is a permit: routes that are known to block do that.
 *   - A handler ends at any time, or never. The two looks of the monitor may come at any time: it can take a loop at
 *     any moment of a handler.
 *   - The threads of a team are alike. So the first driver is the team's first thread, and a wake-up goes to the
 *     first that sleeps. The others start awake: the run in which one of them looks late is there.
 *
 * It is exhaustive for the sizes that check.py names, and no proof for greater ones. With WIDTH 1 the thread that
 * lost its loop holds the only permit, so seq does not matter; hence WIDTH 2 is checked as well.
 *
 * Mistakes. -DMISTAKE_... plants one; check.py expects the checker to find each. */

#ifndef LOOPS
#define LOOPS 2 /* 1 or 2 */
#endif
#ifndef WIDTH
#define WIDTH 1 /* handlers that may run at once in a team: 1 or 2 */
#endif
#ifndef JOBS
#define JOBS 3 /* 3 or 4 */
#endif
#ifndef FIRST
#define FIRST 2 /* so many jobs are loop 0's, the others loop 1's */
#endif
#ifndef STEP
#define STEP d_step /* atomic: the same, slower, and spin reports what is never reached */
#endif
#define TEAM (WIDTH + 1)
#define THREADS (LOOPS * TEAM)
#define NONE 7

/* Where a thread is. */
mtype = {
    /* ordinary */
    LOOK,   /* wants mu, to look for work */
    COME,   /* the same, woken for the queue */
    PERMIT, /* mu: wants a permit for a queued job */
    POP,    /* mu: has the permit */
    RUN,    /* in a handler from the queue */
    RING,   /* the answer is on the empty done-list: wakes the loop */
    GIVE,   /* gives the permit back, and is ordinary again */
    SLEEP,
    /* mu: looks for a thread that it can wake for the queue; both teams' permits, in any order */
    PASS, PASS_0, PASS_1,
    /* drives the loop */
    DRIVE,         /* in libh2o */
    TAKE,          /* has read the eventfd; takes the done-list */
    YIELD,         /* has a permit for a handler in place */
    SEE, SHAKE,    /* has stored the token: does the monitor sleep? wakes it */
    PLACE,         /* in the handler */
    RETURN, CHECK, /* gives the permit back; looks at the queue */
    NUDGE,         /* wants mu, to wake a thread of its team */
    /* in a handler that never ends */
    BLOCKED,
    /* only with mistakes */
    BLIND,
    /* the monitor */
    M_LOOK, M_TAKE, M_WAKE, M_ASLEEP, M_AGAIN, M_SLEEP,
    /* jobs */
    NEW, QUEUED, RUNNING, DONE, ANSWERED
}

/* ---- what threads share ---- */

/* atomic */
#define FREE 0
#define DRIVEN 1
#define HANDLER(j) (2 + (j))
#define IS_HANDLER(s) ((s) > DRIVEN)
byte token[LOOPS];
byte permits[LOOPS];
bool rung[LOOPS]; /* the eventfd */
bool monitor_asleep;

/* A job's state says where it is: in the queue (mu; its length is atomic), in a thread, on the done-list (atomic). */
mtype status[4];

/* mu */
bool mu;
mtype at[THREADS]; /* only that a thread sleeps is shared, and is written with mu */

/* the coroutine: written by the thread that drives it */
byte driver[LOOPS]; /* the thread that is in libh2o */
byte waits[LOOPS];  /* the job that the coroutine has yielded for */

mtype monitor_at;

#define AT(x) at[me] == x
#define GO(x) at[me] = x
#define LOOP_OF(j) ((j) < FIRST -> 0 : LOOPS - 1)
#define ONE(l, j, s) (status[j] == s && LOOP_OF(j) == l)
#define OF(l, s) (ONE(l, 0, s) || ONE(l, 1, s) || ONE(l, 2, s) || ONE(l, 3, s))
#define NEXT_OF(l) (ONE(l, 0, NEW) -> 0 : (ONE(l, 1, NEW) -> 1 : (ONE(l, 2, NEW) -> 2 : 3)))
#define IS(s) (status[0] == s || status[1] == s || status[2] == s || status[3] == s)
#define COUNT(s) ((status[0] == s) + (status[1] == s) + (status[2] == s) + (status[3] == s))
#define QUEUE IS(QUEUED)
#define T(l, i, s) (at[(l) * TEAM + (i)] == s)
#if WIDTH == 1
#define SOME(l, s) (T(l, 0, s) || T(l, 1, s))
#define HOW_MANY(l, s) (T(l, 0, s) + T(l, 1, s))
#else
#define SOME(l, s) (T(l, 0, s) || T(l, 1, s) || T(l, 2, s))
#define HOW_MANY(l, s) (T(l, 0, s) + T(l, 1, s) + T(l, 2, s))
#endif
#define ASLEEP (SOME(0, SLEEP) || SOME(LOOPS - 1, SLEEP))
#define LOOKS (at[me] == LOOK || at[me] == COME)
/* How many must come for the queue: for brief jobs one at a time. */
#define COMING (HOW_MANY(0, COME) + (LOOPS - 1) * HOW_MANY(LOOPS - 1, COME))
#ifdef BRIEF
#define WANTS_ONE (QUEUE && ASLEEP && COMING == 0)
#define WANTS_ONE_MORE (QUEUE && ASLEEP && COMING == (at[me] == COME)) /* this one does not count any more */
#else
#define WANTS_ONE ASLEEP
#define WANTS_ONE_MORE (QUEUE && ASLEEP)
#endif

inline move(j, from, to)
{
    assert(status[j] == from);
    status[j] = to
}

inline enter()
{
    assert(driver[l] == NONE);
    assert(me / TEAM == l);
    driver[l] = me
}

/* The coroutine yields, to have a job's handler run. */
inline leave(j)
{
    assert(driver[l] == me && waits[l] == NONE);
    driver[l] = NONE;
    waits[l] = j
}

/* The driver resumes the coroutine: with the answer that it waits for, or it learns that the answer comes later. */
inline resume_with(j)
{
    enter();
    assert(waits[l] == j);
    waits[l] = NONE
}

inline resume()
{
    enter();
    waits[l] = NONE
}

/* mu: threads of a team are alike, so the first that sleeps stands for any. */
inline wake(l, to)
{
    if
    :: T(l, 0, SLEEP) -> at[(l) * TEAM] = to
    :: !T(l, 0, SLEEP) && T(l, 1, SLEEP) -> at[(l) * TEAM + 1] = to
#if WIDTH == 2
    :: !T(l, 0, SLEEP) && !T(l, 1, SLEEP) && T(l, 2, SLEEP) -> at[(l) * TEAM + 2] = to
#endif
    :: else
    fi
}

inline give_permit()
{
    permits[l]++;
    assert(permits[l] <= WIDTH)
}

/* The handler has ended. The thread that finds the done-list empty wakes the loop. */
inline push_done()
{
    if
    :: OF(LOOP_OF(j), DONE) -> GO(GIVE)
    :: else -> GO(RING)
    fi;
    move(j, RUNNING, DONE)
}

/* The coroutine answers: only the thread that is in it. */
inline answer(j, from)
{
    assert(driver[LOOP_OF(j)] == me);
    move(j, from, ANSWERED)
}

inline take_done_job(j)
{
    if
    :: ONE(l, j, DONE) -> answer(j, DONE)
    :: else
    fi
}

inline take_done()
{
    take_done_job(0);
    take_done_job(1);
    take_done_job(2);
#if JOBS == 4
    take_done_job(3);
#endif
    assert(driver[l] == me)
}

inline passed()
{
#ifdef MISTAKE_PUSHER_ORDER
    if
    :: j != NONE -> move(j, NEW, QUEUED); j = NONE
    :: else
    fi;
#endif
    mu = false;
    if
    :: driver[l] == me -> GO(DRIVE)
#ifdef BRIEF
    :: driver[l] != me && j != NONE -> GO(RUN)
#endif
    :: else -> GO(SLEEP)
    fi
}

/* mu: with brief jobs, who takes one wakes the next thread if more are queued. */
inline popped()
{
#if defined(BRIEF) && !defined(MISTAKE_POPPER_KEEPS_WAKE)
    if
    :: WANTS_ONE -> GO(PASS)
    :: else -> mu = false; GO(RUN)
    fi
#else
    mu = false;
    GO(RUN)
#endif
}

/* Does an ordinary thread that takes no job pass the wake-up on? */
#ifdef MISTAKE_DRIVER_KEEPS_WAKE
#define DRIVER_PASSES false
#else
#define DRIVER_PASSES WANTS_ONE_MORE
#endif
#ifdef MISTAKE_SLEEPER_KEEPS_WAKE
#define SLEEPER_PASSES false
#else
#define SLEEPER_PASSES WANTS_ONE
#endif

#ifdef BRIEF
#define PUSHER_WAKES (ASLEEP && COMING == 0)
#else
#define PUSHER_WAKES ASLEEP
#endif

proctype thread(byte me, l)
{
    byte j = NONE;
end:
    do
    /* an ordinary thread looks for work */
#ifdef MISTAKE_SLEEP_BLIND
    :: STEP { LOOKS && token[l] != FREE -> GO(BLIND) }
#define LOOKED AT(BLIND) && !mu
#else
#define LOOKED LOOKS && !mu && token[l] != FREE
#endif
#ifdef MISTAKE_OTHER_LOOP
    :: STEP { LOOKS && !mu && token[1 - l] == FREE -> l = 1 - l; token[l] = DRIVEN; resume(); GO(DRIVE) }
#endif
    :: STEP { LOOKS && !mu && token[l] == FREE && !DRIVER_PASSES ->
        token[l] = DRIVEN; resume(); GO(DRIVE) }
    :: STEP { LOOKS && !mu && token[l] == FREE && DRIVER_PASSES ->
        token[l] = DRIVEN; resume(); mu = true; GO(PASS) }
    :: STEP { LOOKED && !QUEUE -> GO(SLEEP) }
    :: STEP { LOOKED && QUEUE -> mu = true; GO(PERMIT) }
    :: STEP { AT(PERMIT) && permits[l] > 0 -> permits[l]--; GO(POP) }
    :: STEP { AT(PERMIT) && permits[l] == 0 && !SLEEPER_PASSES -> mu = false; GO(SLEEP) }
    :: STEP { AT(PERMIT) && permits[l] == 0 && SLEEPER_PASSES -> GO(PASS) }

    /* a job of the queue */
    :: STEP { AT(POP) && status[0] == QUEUED -> j = 0; move(j, QUEUED, RUNNING); popped() }
    :: STEP { AT(POP) && status[1] == QUEUED -> j = 1; move(j, QUEUED, RUNNING); popped() }
    :: STEP { AT(POP) && status[2] == QUEUED -> j = 2; move(j, QUEUED, RUNNING); popped() }
#if JOBS == 4
    :: STEP { AT(POP) && status[3] == QUEUED -> j = 3; move(j, QUEUED, RUNNING); popped() }
#endif
    :: STEP { AT(RUN) -> push_done() }
    :: STEP { AT(RUN) -> j = NONE; GO(BLOCKED) }
    :: STEP { AT(RING) -> rung[LOOP_OF(j)] = true; GO(GIVE) }
    :: STEP { AT(GIVE) -> give_permit(); j = NONE; GO(LOOK) }

    /* a wake-up for the queue */
    :: STEP { AT(PASS) && SOME(0, SLEEP) && permits[0] > 0 -> wake(0, COME); passed() }
    :: STEP { AT(PASS) && !(SOME(0, SLEEP) && permits[0] > 0) -> GO(PASS_1) }
    :: STEP { AT(PASS_0) && SOME(0, SLEEP) && permits[0] > 0 -> wake(0, COME); passed() }
    :: STEP { AT(PASS_0) && !(SOME(0, SLEEP) && permits[0] > 0) -> passed() }
#if LOOPS == 2
    :: STEP { AT(PASS) && SOME(1, SLEEP) && permits[1] > 0 -> wake(1, COME); passed() }
    :: STEP { AT(PASS) && !(SOME(1, SLEEP) && permits[1] > 0) -> GO(PASS_0) }
    :: STEP { AT(PASS_1) && SOME(1, SLEEP) && permits[1] > 0 -> wake(1, COME); passed() }
    :: STEP { AT(PASS_1) && !(SOME(1, SLEEP) && permits[1] > 0) -> passed() }
#else
    :: STEP { AT(PASS_1) -> passed() }
#endif

    /* the loop: libh2o, as a coroutine */
    :: STEP { AT(DRIVE) && OF(l, NEW) && permits[l] > 0 -> permits[l]--; j = NEXT_OF(l); GO(YIELD) }
#ifdef MISTAKE_PUSHER_ORDER
    :: STEP { AT(DRIVE) && OF(l, NEW) && !mu -> j = NEXT_OF(l); mu = true; GO(PASS) }
#else
    :: STEP { AT(DRIVE) && OF(l, NEW) && !mu && !PUSHER_WAKES -> j = NEXT_OF(l); move(j, NEW, QUEUED); j = NONE }
    :: STEP { AT(DRIVE) && OF(l, NEW) && !mu && PUSHER_WAKES ->
        j = NEXT_OF(l); move(j, NEW, QUEUED); j = NONE; mu = true; GO(PASS) }
#endif
#ifdef MISTAKE_TAKE_FIRST
    :: STEP { AT(DRIVE) && rung[l] -> take_done(); GO(TAKE) }
    :: STEP { AT(TAKE) -> rung[l] = false; GO(DRIVE) }
#else
    :: STEP { AT(DRIVE) && rung[l] -> rung[l] = false; GO(TAKE) }
    :: STEP { AT(TAKE) -> take_done(); GO(DRIVE) }
#endif

    /* a handler in place */
#ifdef MISTAKE_MONITOR_ORDER
    :: STEP { AT(YIELD) && !monitor_asleep -> GO(SHAKE) }
    :: STEP { AT(YIELD) && monitor_asleep -> monitor_asleep = false; GO(SHAKE) }
    :: STEP { AT(SHAKE) -> leave(j); move(j, NEW, RUNNING); token[l] = HANDLER(j); GO(PLACE) }
#else
    :: STEP { AT(YIELD) -> leave(j); move(j, NEW, RUNNING); token[l] = HANDLER(j); GO(SEE) }
    :: STEP { AT(SEE) && !monitor_asleep -> GO(PLACE) }
    :: STEP { AT(SEE) && monitor_asleep -> GO(SHAKE) }
    :: STEP { AT(SHAKE) -> monitor_asleep = false; GO(PLACE) }
#endif
#ifdef MISTAKE_STORE_FOR_CAS
#define STILL_MINE true
#elif defined(MISTAKE_NO_SEQ)
#define STILL_MINE IS_HANDLER(token[l])
#else
#define STILL_MINE (token[l] == HANDLER(j))
#endif
    :: STEP { AT(PLACE) && STILL_MINE ->
        token[l] = DRIVEN; resume_with(j); answer(j, RUNNING); j = NONE; GO(RETURN) }
    :: STEP { AT(PLACE) && !STILL_MINE -> push_done() }
    :: STEP { AT(PLACE) -> j = NONE; GO(BLOCKED) }
#ifdef MISTAKE_PERMIT_UNSEEN
    :: STEP { AT(RETURN) -> give_permit(); GO(DRIVE) }
#elif defined(MISTAKE_PERMIT_ORDER)
    :: STEP { AT(RETURN) && !QUEUE -> GO(CHECK) }
    :: STEP { AT(CHECK) -> give_permit(); GO(DRIVE) }
    :: STEP { AT(RETURN) && QUEUE -> give_permit(); GO(NUDGE) }
#else
    :: STEP { AT(RETURN) -> give_permit(); GO(CHECK) }
    :: STEP { AT(CHECK) && !QUEUE -> GO(DRIVE) }
    :: STEP { AT(CHECK) && QUEUE -> GO(NUDGE) }
#endif
    :: STEP { AT(NUDGE) && !mu && !QUEUE -> GO(DRIVE) }
    :: STEP { AT(NUDGE) && !mu && QUEUE -> wake(l, COME); GO(DRIVE) }
    od
}

#define M_AT(x) monitor_at == x
#define M_GO(x) monitor_at = x

/* After the last loop the round ends. If it saw a handler in place, another round follows. */
inline next_loop()
{
    s = FREE;
    l = (l + 1) % LOOPS;
    M_GO((l == 0 && !seen -> M_ASLEEP : M_LOOK));
    seen = seen && l > 0
}

#ifdef MISTAKE_LATE_CAS
#define SAME true /* CAS from a value that was read after the decision */
#else
#define SAME (token[l] == s)
#endif

proctype monitor()
{
    byte last[LOOPS]; /* the handler that the last look saw, or FREE */
    byte s = FREE;    /* the token that the decision was made on */
    byte l = 0;
    bool seen = false; /* in this round: a handler in place */
end:
    do
    :: STEP { M_AT(M_LOOK) && !IS_HANDLER(token[l]) -> last[l] = FREE; next_loop() }
    :: STEP { M_AT(M_LOOK) && IS_HANDLER(token[l]) && token[l] != last[l] ->
        last[l] = token[l]; seen = true; next_loop() }
#ifdef MISTAKE_WAKE_FIRST
    :: STEP { M_AT(M_LOOK) && IS_HANDLER(token[l]) && token[l] == last[l] ->
        s = token[l]; last[l] = FREE; M_GO(M_WAKE) }
    :: STEP { M_AT(M_WAKE) && !mu -> wake(l, LOOK); M_GO(M_TAKE) }
    :: STEP { M_AT(M_TAKE) && token[l] == s -> token[l] = FREE; next_loop() }
#else
    :: STEP { M_AT(M_LOOK) && IS_HANDLER(token[l]) && token[l] == last[l] ->
        s = token[l]; last[l] = FREE; M_GO(M_TAKE) }
    :: STEP { M_AT(M_TAKE) && SAME -> token[l] = FREE; s = FREE; M_GO(M_WAKE) }
    :: STEP { M_AT(M_WAKE) && !mu -> wake(l, LOOK); next_loop() }
#endif
    :: STEP { M_AT(M_TAKE) && !SAME -> next_loop() }

    /* no handler in place: it sleeps, but looks again first */
#ifdef MISTAKE_MONITOR_SLEEPS
    :: STEP { M_AT(M_ASLEEP) -> monitor_asleep = true; M_GO(M_SLEEP) }
#else
    :: STEP { M_AT(M_ASLEEP) -> monitor_asleep = true; M_GO(M_AGAIN) }
#endif
    :: STEP { M_AT(M_AGAIN) && IS_HANDLER(token[l]) -> monitor_asleep = false; l = 0; M_GO(M_LOOK) }
    :: STEP { M_AT(M_AGAIN) && !IS_HANDLER(token[l]) -> l = (l + 1) % LOOPS; M_GO((l == 0 -> M_SLEEP : M_AGAIN)) }
    :: STEP { M_AT(M_SLEEP) && !monitor_asleep -> M_GO(M_LOOK) }
#ifdef MISTAKE_MONITOR_POLLS
    :: STEP { M_AT(M_SLEEP) -> M_GO(M_LOOK) }
#endif
    od
}

/* Nothing can take a step any more, except handlers that never end. */
inline check_rest(l)
{
    assert(token[l] == DRIVEN && !rung[l]);
    assert(HOW_MANY(l, DRIVE) == 1);
    assert(HOW_MANY(l, DRIVE) + HOW_MANY(l, SLEEP) + HOW_MANY(l, BLOCKED) == TEAM);
    assert(permits[l] + HOW_MANY(l, BLOCKED) == WIDTH);
    assert(permits[l] == 0 || !QUEUE)
}

proctype rest()
{
    timeout ->
    d_step {
        assert(!mu && M_AT(M_SLEEP));
        check_rest(0);
#if LOOPS == 2
        check_rest(1);
#endif
        assert(!IS(NEW) && !IS(DONE));
        assert(COUNT(RUNNING) == HOW_MANY(0, BLOCKED) + (LOOPS - 1) * HOW_MANY(LOOPS - 1, BLOCKED))
    }
}

init
{
    byte k = 0;
    d_step {
        do
        :: k < THREADS -> at[k] = (k % TEAM == 0 -> DRIVE : LOOK); k++
        :: else -> break
        od;
        k = 0;
        do
        :: k < LOOPS -> token[k] = DRIVEN; driver[k] = k * TEAM; waits[k] = NONE; permits[k] = WIDTH; k++
        :: else -> break
        od;
        k = 0;
        do
        :: k < 4 -> status[k] = (k < JOBS -> NEW : ANSWERED); k++
        :: else -> break
        od;
        k = 0;
        monitor_at = M_LOOK
    }
    atomic {
        do
        :: k < THREADS -> run thread(k, k / TEAM); k++
        :: else -> break
        od;
        k = 0;
        run monitor();
        run rest()
    }
}

/* signals.c - real-time signals that nobody uses: taken for a handler of ours, and given back. */
#include "gencore.h"
#include "signal_safe.h"

int
gencore_take_signal(const struct gencore_action *action, struct gencore_action *previous)
{
    for (int signal = GENCORE_SIGNAL_COUNT; signal > GENCORE_SIGNAL_COUNT / 2 + 2; signal--) {
        if (raw4(SYS_rt_sigaction, signal, NULL, previous, sizeof(gencore_sigset)) == 0
            && previous->handler == (void *)SIG_DFL
            && raw4(SYS_rt_sigaction, signal, action, NULL, sizeof(gencore_sigset)) == 0) {
            return signal;
        }
    }
    return -EAGAIN;
}

int
gencore_has_signal(int signal, const void *handler)
{
    struct gencore_action current;

    return signal && raw4(SYS_rt_sigaction, signal, NULL, &current, sizeof(gencore_sigset)) == 0
           && current.handler == handler;
}

void
gencore_give_signal_back(int signal, const void *handler)
{
    struct gencore_action usual = {.handler = (void *)SIG_DFL};

    if (gencore_has_signal(signal, handler)) {
        (void)raw4(SYS_rt_sigaction, signal, &usual, NULL, sizeof(gencore_sigset));
    }
}

/* forked.h - children tell where they stand, and capture themselves. */
#ifndef GENCORE_FORKED_H
#define GENCORE_FORKED_H

#include "gencore.h"

/*
 * Let children that are forked from now on answer collectors; `answers`: the path of the FIFO of an
 * answer, without the child's id at its end. Again: take the signal back if somebody else has it
 * now. 0 or -errno.
 */
int gencore_arm_forked(const char *answers);

/*
 * As gencore_arm_forked() in a child that runs a program of its own: it answers itself, by that
 * signal if it has the default action. 0 or -errno.
 */
int gencore_arm_spawned(const char *answers, int signal);

/* What a child captures itself with when a collector asks for that, as gencore_set_child_standby().
 */
void gencore_set_dump_standby(const struct gencore_standby *standby);

/* Give the signal back; children that were forked before keep their handler. */
void gencore_release_forked(void);

/* The signal that asks them, 0 if it is not ours. */
int gencore_forked_signal(void);

#endif

/* complaints.c - what a handler says that could not capture. */
#include "gencore.h"
#include "signal_safe.h"

/* Whether errno says more than the message of the stage: not where the refusal is ours. */
static int
is_error_of_kernel(int32_t stage)
{
    return stage != GENCORE_STAGE_BUSY && stage != GENCORE_STAGE_LIMIT
           && stage != GENCORE_STAGE_FULL && stage != GENCORE_STAGE_DIED
           && stage != GENCORE_STAGE_OWNER && stage != GENCORE_STAGE_MODE;
}

void
gencore_complain(const struct gencore_plan *plan, const struct gencore_result *result)
{
    char line[512];
    struct safe_text text = safe_text_in(line, sizeof(line));

    if (plan->stderr_fd < 0 || result->stage == GENCORE_STAGE_CLAIMED) {
        return;
    }
    safe_put(&text, "gencore: no core archive: ");
    safe_put(&text, plan->messages[result->stage]);
    if (is_error_of_kernel(result->stage)) {
        safe_put(&text, " (errno ");
        safe_put_number(&text, (uint64_t)result->error, 1);
        safe_put(&text, ")");
    }
    safe_put(&text, "\n");
    (void)safe_write_all(plan->stderr_fd, line, (uint64_t)(text.at - line));
}

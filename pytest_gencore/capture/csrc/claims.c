/*
 * claims.c - which file keeps others from capturing the same test, and how the collector is told.
 *
 * Here, and not where a test begins: most tests are never captured.
 */
#include "gencore.h"
#include "signal_safe.h"

__extension__ typedef unsigned __int128 hash_value;

/* FNV-1a with 128 bits. The names of tests are not made to collide. */
static hash_value
add_to_hash(hash_value hash, const char *text)
{
    const hash_value prime = ((hash_value)1 << 88) + 0x13b;

    for (; *text; text++) {
        hash = (hash ^ (uint8_t)*text) * prime;
    }
    return hash;
}

static void
put_hash(struct safe_text *text, hash_value hash)
{
    for (int shift = 124; shift >= 0; shift -= 4) {
        char digit[2] = {"0123456789abcdef"[(hash >> shift) & 15], '\0'};

        safe_put(text, digit);
    }
}

void
gencore_name_claim(struct gencore_capture *capture)
{
    const hash_value start = (hash_value)0x6c62272e07bb0142 << 64 | 0x62b821756295c58d;
    const struct gencore_request *request = capture->request;
    struct safe_text name = safe_text_in(capture->claim, sizeof(capture->claim));
    struct safe_text end = safe_text_in(capture->text_end, sizeof(capture->text_end));

    if (!request->test) {
        return;
    }
    if (request->claim) {
        safe_put(&name, "claim-");
        put_hash(&name, add_to_hash(add_to_hash(start, request->claim), request->test));
    }
    safe_put(&end, request->claim ? ", \"claim\": \"" : ", \"claim\": null}");
    safe_put(&end, capture->claim);
    safe_put(&end, request->claim ? "\"}" : "");
}

-- Lets the next row of each key go, after the first of them has been removed in the same
-- transaction. A statement of its own: only so does it see what claims have marked in the
-- meantime. $1 lanes, $2 keys.
UPDATE outbox_queue q
SET blocked = false
FROM unnest($1::text[], $2::text[]) AS freed (channel, key)
CROSS JOIN LATERAL (
    SELECT s.event_id, s.blocked FROM outbox_queue s
    WHERE s.channel = freed.channel AND s.key = freed.key
    ORDER BY s.event_id LIMIT 1
) next
WHERE next.blocked AND q.event_id = next.event_id AND q.channel = freed.channel AND q.blocked

-- Locks events that were settled more than $1 days ago: looks at $2 events, from after event $3
-- on. What is unsettled stays, however old it is. Ids grow with time, so a batch in which
-- nothing is old enough ends the search; otherwise the last id says where the next batch begins.
WITH looked_at AS (
    SELECT e.id, e.created_at < now() - $1::float8 * interval '1 day' AS old
    FROM outbox_events e
    WHERE e.id > $3
    ORDER BY e.id
    LIMIT $2
), settled AS (
    SELECT e.id
    FROM outbox_events e
    WHERE e.id = ANY (ARRAY(SELECT id FROM looked_at WHERE old))
      AND NOT EXISTS (SELECT FROM outbox_queue q WHERE q.event_id = e.id)
      AND EXISTS (SELECT FROM outbox_deliveries d WHERE d.event_id = e.id)
      AND NOT EXISTS (SELECT FROM outbox_deliveries d WHERE d.event_id = e.id
                      AND d.finished_at >= now() - $1::float8 * interval '1 day')
    FOR UPDATE OF e SKIP LOCKED
)
SELECT ARRAY(SELECT id FROM settled) AS "settled!",
       CASE WHEN count(*) = $2 AND bool_or(old) THEN max(id) END AS next
FROM looked_at

-- Forgets events that were settled more than $1 days ago, at most $2 of them, oldest first,
-- beginning after event $3. What is unsettled stays, however old it is. Also says how far it
-- looked, so that the next batch need not look there again.
WITH old AS (
    SELECT e.id,
           NOT EXISTS (SELECT FROM outbox_queue q WHERE q.event_id = e.id)
           AND EXISTS (SELECT FROM outbox_deliveries d WHERE d.event_id = e.id)
           AND NOT EXISTS (SELECT FROM outbox_deliveries d WHERE d.event_id = e.id
                           AND d.finished_at >= now() - $1::float8 * interval '1 day')
           AS settled
    FROM outbox_events e
    WHERE e.id > $3 AND e.created_at < now() - $1::float8 * interval '1 day'
    ORDER BY e.id
    LIMIT $2
    FOR UPDATE OF e SKIP LOCKED
), gone AS (
    DELETE FROM outbox_events WHERE id = ANY (ARRAY(SELECT id FROM old WHERE settled))
), deliveries AS (
    DELETE FROM outbox_deliveries
    WHERE event_id = ANY (ARRAY(SELECT id FROM old WHERE settled))
), attempts AS (
    DELETE FROM outbox_attempts
    WHERE event_id = ANY (ARRAY(SELECT id FROM old WHERE settled))
)
SELECT count(*) AS "looked_at!", count(*) FILTER (WHERE settled) AS "removed!",
       max(id) AS last_id
FROM old

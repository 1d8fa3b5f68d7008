-- Settles locked rows as an operator says. $1 and $2 the rows: event, lane; $3 the result's
-- status, $4 its code. A statement after the one that locked them: a worker that registered and
-- claimed while that one ran is known only now.
WITH removed AS (
    DELETE FROM outbox_queue q
    USING unnest($1::bigint[], $2::text[]) AS row (event_id, channel)
    WHERE q.event_id = row.event_id AND q.channel = row.channel
      AND NOT EXISTS (SELECT FROM outbox_workers w
                      WHERE w.id = q.worker AND w.alive_until > now())
    RETURNING q.event_id, q.channel, q.attempt, q.began_at, q.key
), results AS (
    INSERT INTO outbox_deliveries (event_id, channel, status, attempts, code, message)
    SELECT event_id, channel, $3, attempt, $4,
           CASE WHEN $3 <> 'delivered' AND began_at IS NOT NULL THEN
               'an attempt had begun at '
               || to_char(began_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
               || ', and nobody knows its outcome'
           END
    FROM removed
    ON CONFLICT (event_id, channel) DO UPDATE
    SET finished_at = excluded.finished_at, status = excluded.status,
        attempts = excluded.attempts, code = excluded.code, message = excluded.message,
        provider_id = NULL, fell_back_to = NULL
)
SELECT event_id AS "event_id!", channel AS "channel!", key FROM removed

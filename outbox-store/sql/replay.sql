-- Makes results into work again, from the first attempt on, due now. $1 events, locked in the
-- statement before; $2 channel (null: any); $3 which results, by status; $4 whether also what is
-- held. The results go: what they said stays in outbox_attempts. A dead letter that another
-- channel took over stays as it is: it is the other's result that counts.
WITH gone AS (
    DELETE FROM outbox_deliveries d
    WHERE d.event_id = ANY ($1::bigint[])
      AND ($2::text IS NULL OR d.channel = $2)
      AND d.status = ANY ($3::text[])
      AND d.fell_back_to IS NULL
      AND NOT EXISTS (SELECT FROM outbox_queue q
                      WHERE q.event_id = d.event_id AND q.channel = d.channel)
    RETURNING d.*
), requeued AS (
    -- Not the claims of its life before: an outcome of that, written once more because the answer
    -- was lost, is not this one's.
    INSERT INTO outbox_queue (event_id, channel, due_at, priority, key, claims)
    SELECT e.id, gone.channel, now(), e.priority, e.key, 1 + floor(random() * 32766)
    FROM gone JOIN outbox_events e ON e.id = gone.event_id
), freed AS (
    UPDATE outbox_queue q
    SET due_at = now(), attempt = 0, takeovers = 0, began_at = NULL, worker = NULL
    FROM (SELECT s.event_id, s.channel, s.attempt FROM outbox_queue s
          WHERE $4 AND s.event_id = ANY ($1::bigint[]) AND s.due_at = 'infinity'
            AND ($2::text IS NULL OR s.channel = $2)) held
    WHERE q.event_id = held.event_id AND q.channel = held.channel AND q.due_at = 'infinity'
    RETURNING q.event_id, q.channel, held.attempt
), replayed AS (
    SELECT event_id, channel, attempts, status, code, message, provider_id FROM gone
    UNION ALL
    SELECT event_id, channel, attempt, 'held', NULL, NULL, NULL FROM freed
), noted AS (
    INSERT INTO outbox_attempts
        (event_id, channel, attempt, duration_ms, class, code, message, answer)
    SELECT event_id, channel, attempts, 0, 'replayed', coalesce(code, status),
           'replayed; it was ' || status || coalesce(': ' || message, ''), provider_id
    FROM replayed
)
SELECT event_id AS "event_id!", channel AS "channel!" FROM replayed ORDER BY event_id, channel

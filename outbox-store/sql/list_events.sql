-- Candidates for a list of events, the youngest first: no more than $9, with ids below $8. Each
-- comes with what outbox_event_status says of it; the view is asked about one event at a time.
-- $1 true: those with a result in $2. False: those with something left to do; $3 only what is
-- held. Null: all. The rest, null for any: $4 type (LIKE), $5 channel, $6 not older than, $7 key.
SELECT c.id AS "id!", s.event_type, s.key, s.status, s.retry_count, s.max_retries,
       s.next_retry_at, s.processed_at, s.last_error, s.created_at
FROM (
    (SELECT e.id FROM outbox_events e
     WHERE $1::bool IS NULL
       AND e.id < $8
       AND ($4::text IS NULL OR e.event_type LIKE $4)
       AND ($6::timestamptz IS NULL OR e.created_at >= $6)
       AND ($7::text IS NULL OR e.key = $7)
       AND ($5::text IS NULL
            OR EXISTS (SELECT FROM outbox_queue s WHERE s.event_id = e.id AND s.channel = $5)
            OR EXISTS (SELECT FROM outbox_deliveries s
                       WHERE s.event_id = e.id AND s.channel = $5))
     ORDER BY e.id DESC LIMIT $9)
    UNION ALL
    (SELECT DISTINCT q.event_id FROM outbox_queue q
     WHERE NOT $1::bool
       AND q.event_id < $8
       AND (NOT $3::bool OR q.due_at = 'infinity')
       AND ($7::text IS NULL OR q.key = $7)
       AND ($5::text IS NULL OR q.channel = $5
            OR EXISTS (SELECT FROM outbox_queue s
                       WHERE s.event_id = q.event_id AND s.channel = $5)
            OR EXISTS (SELECT FROM outbox_deliveries s
                       WHERE s.event_id = q.event_id AND s.channel = $5))
       AND EXISTS (SELECT FROM outbox_events e
                   WHERE e.id = q.event_id
                     AND ($4::text IS NULL OR e.event_type LIKE $4)
                     AND ($6::timestamptz IS NULL OR e.created_at >= $6)
                   OFFSET 0)
     ORDER BY q.event_id DESC LIMIT $9)
    UNION ALL
    (SELECT DISTINCT d.event_id FROM outbox_deliveries d
     WHERE $1::bool
       AND d.event_id < $8
       AND d.status = ANY ($2::text[])
       AND ($5::text IS NULL OR d.channel = $5
            OR EXISTS (SELECT FROM outbox_deliveries s
                       WHERE s.event_id = d.event_id AND s.channel = $5))
       AND EXISTS (SELECT FROM outbox_events e
                   WHERE e.id = d.event_id
                     AND ($4::text IS NULL OR e.event_type LIKE $4)
                     AND ($6::timestamptz IS NULL OR e.created_at >= $6)
                     AND ($7::text IS NULL OR e.key = $7)
                   OFFSET 0)
     ORDER BY d.event_id DESC LIMIT $9)
) c
LEFT JOIN LATERAL (SELECT * FROM outbox_event_status WHERE id = c.id OFFSET 0) s ON true
ORDER BY c.id DESC

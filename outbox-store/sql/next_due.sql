-- Seconds until the earliest row that is not due yet, over the lanes that are claimed for ($1);
-- for a channel that is down, until it may be tried again. Null when nothing waits for a time.
SELECT extract(epoch FROM min(due.at) - now())::float8 AS seconds
FROM unnest($1::text[]) AS wanted (channel)
LEFT JOIN outbox_channels down ON down.name = wanted.channel AND down.down_until > now()
CROSS JOIN LATERAL (
    WITH RECURSIVE lane (priority) AS (
        (SELECT q.priority FROM outbox_queue q
         WHERE q.channel = wanted.channel AND NOT q.blocked
         ORDER BY q.priority LIMIT 1)
        UNION ALL
        SELECT (SELECT q.priority FROM outbox_queue q
                WHERE q.channel = wanted.channel AND NOT q.blocked
                  AND q.priority > lane.priority
                ORDER BY q.priority LIMIT 1)
        FROM lane WHERE lane.priority IS NOT NULL
    )
    -- What is due already waits too when its channel is down.
    SELECT (SELECT greatest(q.due_at, down.down_until) FROM outbox_queue q
            WHERE q.channel = wanted.channel AND NOT q.blocked
              AND q.priority = lane.priority
              AND q.due_at > CASE WHEN down.name IS NULL THEN now() ELSE '-infinity' END
              AND q.due_at < 'infinity'
            ORDER BY q.due_at, q.event_id LIMIT 1) AS at
    FROM lane WHERE lane.priority IS NOT NULL
) due

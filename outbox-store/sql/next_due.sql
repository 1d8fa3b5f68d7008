-- Seconds until the earliest row that is not due yet, over the lanes that are claimed for ($1);
-- for a channel that is down, until it may be tried again. Null when nothing waits for a time.
SELECT extract(epoch FROM min(due.at) - now())::float8 AS seconds
FROM unnest($1::text[]) AS wanted (channel)
CROSS JOIN LATERAL (
    WITH RECURSIVE lane (priority) AS (
        (SELECT q.priority FROM outbox_queue q
         WHERE q.channel = wanted.channel
         ORDER BY q.priority LIMIT 1)
        UNION ALL
        SELECT (SELECT q.priority FROM outbox_queue q
                WHERE q.channel = wanted.channel AND q.priority > lane.priority
                ORDER BY q.priority LIMIT 1)
        FROM lane WHERE lane.priority IS NOT NULL
    )
    SELECT greatest(
        (SELECT q.due_at FROM outbox_queue q
         WHERE q.channel = wanted.channel AND q.priority = lane.priority
           AND q.due_at > now() AND q.due_at < 'infinity'
         ORDER BY q.due_at, q.event_id LIMIT 1),
        (SELECT c.down_until FROM outbox_channels c
         WHERE c.name = wanted.channel AND c.down_until > now())) AS at
    FROM lane WHERE lane.priority IS NOT NULL
) due

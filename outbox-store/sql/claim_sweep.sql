-- Leases due rows, looking from the start of every lane: the urgent first, the oldest first
-- among equals. $1 worker, $2 channels to claim for ('' is what is not routed yet), $3 how many
-- for each. A row is free when nobody has it, or when who has it is no longer alive.
WITH claimed AS (
    UPDATE outbox_queue q
    SET worker = $1,
        takeovers = takeovers + (q.worker IS NOT NULL)::int::smallint
    WHERE q.ctid = ANY (ARRAY(
        SELECT picked.ctid
        FROM unnest($2::text[], $3::int[]) AS wanted (channel, room)
        CROSS JOIN LATERAL (
            -- The priorities in use, one index look-up each.
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
            SELECT due.ctid
            FROM lane
            CROSS JOIN LATERAL (
                SELECT q.ctid FROM outbox_queue q
                WHERE q.channel = wanted.channel
                  AND q.priority = lane.priority
                  AND q.due_at <= now()
                  AND (q.worker IS NULL OR q.worker <> ALL (ARRAY(
                          SELECT w.id FROM outbox_workers w WHERE w.alive_until > now())))
                ORDER BY q.due_at, q.event_id
                LIMIT 1000
                FOR UPDATE SKIP LOCKED
            ) due
            LIMIT wanted.room
        ) picked
        WHERE NOT EXISTS (
            SELECT FROM outbox_channels c
            WHERE c.name = wanted.channel
              AND (c.paused_at IS NOT NULL OR c.down_until > now()))
        -- Always true, and costly unless $1 is known when planning: a plan that is kept, made
        -- while the tables were small, would walk over the whole backlog of the next rush.
        AND ($1::int IS NOT NULL OR (SELECT count(*) FROM generate_series(1, 4000000)) > 0)
        LIMIT 1000
    ))
    RETURNING q.event_id, q.channel, q.priority, q.due_at, q.attempt, q.takeovers
)
SELECT claimed.event_id   AS "event_id!",
       claimed.channel    AS "channel!",
       claimed.priority   AS "priority!",
       claimed.due_at     AS "due_at!",
       claimed.attempt    AS "attempt!",
       claimed.takeovers  AS "takeovers!",
       e.event_type       AS "event_type?",
       e.payload          AS "payload?: sqlx::types::Json<Box<serde_json::value::RawValue>>",
       e.headers          AS "headers?: sqlx::types::Json<Box<serde_json::value::RawValue>>",
       e.key              AS "key?",
       e.max_retries      AS "max_retries?",
       e.expires_at       AS "expires_at?",
       e.created_at       AS "created_at?"
FROM claimed
LEFT JOIN outbox_events e ON e.id = claimed.event_id

-- Leases due rows, going on in each lane from where the last claim ended: rows that are dead
-- but not yet removed (an old snapshot is open somewhere) are never walked over twice.
-- $1 worker, $2 channels, $3 how many for each; $4 to $7 the lanes: channel, priority, and the
-- position (due time, event id) after which to go on.
WITH claimed AS (
    UPDATE outbox_queue q
    SET worker = $1,
        takeovers = takeovers + (q.worker IS NOT NULL)::int::smallint
    WHERE q.ctid = ANY (ARRAY(
        SELECT picked.ctid
        FROM unnest($2::text[], $3::int[]) AS wanted (channel, room)
        CROSS JOIN LATERAL (
            SELECT due.ctid
            FROM unnest($4::text[], $5::smallint[], $6::timestamptz[], $7::bigint[])
                 AS lane (channel, priority, due_at, event_id)
            CROSS JOIN LATERAL (
                SELECT q.ctid FROM outbox_queue q
                WHERE q.channel = wanted.channel
                  AND q.priority = lane.priority
                  AND (q.due_at, q.event_id) > (lane.due_at, lane.event_id)
                  AND q.due_at <= now()
                  AND (q.worker IS NULL OR q.worker <> ALL (ARRAY(
                          SELECT w.id FROM outbox_workers w WHERE w.alive_until > now())))
                ORDER BY q.due_at, q.event_id
                LIMIT 1000
                FOR UPDATE SKIP LOCKED
            ) due
            WHERE lane.channel = wanted.channel
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

-- Leases due rows: the urgent first, the oldest first among equals.
--
-- $1 worker; $2 channels to claim for ('' is what is not routed yet), $3 how many for each.
-- $4 true: a sweep, which looks from the start of every lane. False: goes on in each lane from
-- where the last claim ended, so that rows which are dead but not yet removed (an old snapshot
-- is open somewhere) are never walked over twice; $5 to $8 are the lanes: channel, priority,
-- and the position (due time, event id) after which to go on. $9 all channels of the worker.
--
-- A row is free when nobody has it, or when who has it is no longer alive: not when this
-- statement began, and, since a worker may have registered and claimed meanwhile, not now either.
-- Of a key, only the first row of a lane may be taken, and with it those right behind it. Rows
-- that have to wait for another of their key are marked blocked, which takes them out of the
-- index that claims read; whoever removes the first of a key unblocks the next (unblock.sql).
WITH RECURSIVE wanted AS MATERIALIZED (
    SELECT w.channel, w.room
    FROM unnest($2::text[], $3::int[]) AS w (channel, room)
    WHERE NOT EXISTS (
        SELECT FROM outbox_channels c
        WHERE c.name = w.channel AND (c.paused_at IS NOT NULL OR c.down_until > now()))
), alive AS MATERIALIZED (
    SELECT array_agg(id) AS ids FROM outbox_workers WHERE alive_until > now()
), picked AS MATERIALIZED (
    SELECT due.ctid, due.event_id, due.channel, due.key
    FROM wanted
    CROSS JOIN LATERAL (
        WITH RECURSIVE priorities (priority) AS (
            (SELECT q.priority FROM outbox_queue q
             WHERE $4 AND q.channel = wanted.channel AND NOT q.blocked
             ORDER BY q.priority LIMIT 1)
            UNION ALL
            SELECT (SELECT q.priority FROM outbox_queue q
                    WHERE q.channel = wanted.channel AND NOT q.blocked
                      AND q.priority > priorities.priority
                    ORDER BY q.priority LIMIT 1)
            FROM priorities WHERE priorities.priority IS NOT NULL
        ), lane (priority, due_at, event_id) AS (
            SELECT priority, '-infinity'::timestamptz, 0::bigint FROM priorities
            UNION ALL
            SELECT l.priority, l.due_at, l.event_id
            FROM unnest($5::text[], $6::smallint[], $7::timestamptz[], $8::bigint[])
                 AS l (channel, priority, due_at, event_id)
            WHERE l.channel = wanted.channel AND NOT $4
        )
        SELECT free.*
        FROM lane
        CROSS JOIN LATERAL (
            SELECT q.ctid, q.event_id, q.channel, q.key FROM outbox_queue q
            WHERE q.channel = wanted.channel
              AND NOT q.blocked
              AND q.priority = lane.priority
              AND (q.due_at, q.event_id) > (lane.due_at, lane.event_id)
              AND q.due_at <= now()
              AND (q.worker IS NULL OR q.worker <> ALL ((SELECT ids FROM alive)::int[])
                   AND NOT outbox_worker_is_alive(q.worker))
            ORDER BY q.due_at, q.event_id
            LIMIT 1000
            FOR UPDATE SKIP LOCKED
        ) free
        LIMIT wanted.room
    ) due
    LIMIT 1000
), met AS MATERIALIZED (
    -- The keys that were met, how many rows of each there is room for, and of all together.
    SELECT lane.channel, keys.key, lane.room - lane.unkeyed AS room_of_all,
           greatest(keys.rows, (lane.room - lane.unkeyed) / lane.keys) AS room
    FROM (SELECT channel, key, count(*) AS rows FROM picked WHERE key IS NOT NULL
          GROUP BY channel, key) keys
    JOIN (SELECT wanted.channel, wanted.room, count(DISTINCT picked.key) AS keys,
                 count(*) FILTER (WHERE picked.key IS NULL) AS unkeyed
          FROM picked JOIN wanted USING (channel)
          GROUP BY wanted.channel, wanted.room) lane ON lane.channel = keys.channel
), run AS MATERIALIZED (
    -- Their rows, from the first on, whatever state they are in.
    SELECT met.channel, met.key, met.room_of_all, rows.event_id, rows.is_free,
           row_number() OVER (PARTITION BY met.channel, met.key ORDER BY rows.event_id) AS place
    FROM met
    CROSS JOIN LATERAL (
        SELECT q.event_id,
               q.due_at <= now()
                   AND (q.worker IS NULL OR q.worker <> ALL ((SELECT ids FROM alive)::int[])
                   AND NOT outbox_worker_is_alive(q.worker))
                   AS is_free
        FROM outbox_queue q
        WHERE q.channel = met.channel AND q.key = met.key
        ORDER BY q.event_id
        LIMIT met.room
    ) rows
), locked AS MATERIALIZED (
    -- A row that somebody else has just taken or is changing is not to be had.
    SELECT q.channel, q.event_id
    FROM (SELECT channel, event_id FROM run WHERE is_free
          EXCEPT SELECT channel, event_id FROM picked) more
    JOIN outbox_queue q ON q.channel = more.channel AND q.event_id = more.event_id
    WHERE q.due_at <= now()
      AND (q.worker IS NULL OR q.worker <> ALL ((SELECT ids FROM alive)::int[])
                   AND NOT outbox_worker_is_alive(q.worker))
    FOR UPDATE OF q SKIP LOCKED
), taken AS MATERIALIZED (
    -- Without gaps from the first on; no more than there is room for, the first of keys first.
    SELECT ranked.channel, ranked.key, ranked.event_id
    FROM (
        SELECT gapless.*, row_number() OVER (PARTITION BY channel ORDER BY place) AS rank
        FROM (
            SELECT run.channel, run.key, run.event_id, run.place, run.room_of_all,
                   bool_and(had.event_id IS NOT NULL)
                       OVER (PARTITION BY run.channel, run.key ORDER BY run.place) AS is_gapless
            FROM run
            LEFT JOIN (SELECT channel, event_id FROM locked
                       UNION ALL SELECT channel, event_id FROM picked WHERE key IS NOT NULL) had
                   ON had.channel = run.channel AND had.event_id = run.event_id
        ) gapless
        WHERE is_gapless
    ) ranked
    WHERE ranked.rank <= ranked.room_of_all
), waiting AS MATERIALIZED (
    SELECT picked.channel, picked.key, picked.event_id
    FROM picked
    WHERE picked.key IS NOT NULL
      AND NOT EXISTS (SELECT FROM taken
                      WHERE taken.channel = picked.channel AND taken.event_id = picked.event_id)
), held_up AS MATERIALIZED (
    -- The first of the key is locked, so that nobody removes it, and looks for the next to
    -- unblock, before these are marked.
    SELECT q.channel, q.key
    FROM run
    JOIN outbox_queue q ON q.channel = run.channel AND q.event_id = run.event_id
    WHERE run.place = 1
      AND (run.channel, run.key) IN (SELECT channel, key FROM waiting)
      AND (run.channel, run.key) NOT IN (SELECT channel, key FROM taken)
    FOR KEY SHARE OF q SKIP LOCKED
), blocked AS (
    UPDATE outbox_queue q
    SET blocked = true
    FROM waiting
    WHERE q.channel = waiting.channel AND q.event_id = waiting.event_id
      AND ((waiting.channel, waiting.key) IN (SELECT channel, key FROM taken)
           OR ((waiting.channel, waiting.key) IN (SELECT channel, key FROM held_up)
               AND NOT EXISTS (SELECT FROM run
                               WHERE run.channel = waiting.channel
                                 AND run.event_id = waiting.event_id AND run.place = 1)))
    RETURNING q.event_id
), claimed AS (
    UPDATE outbox_queue q
    SET worker = $1, claims = q.claims % 32767 + 1,
        takeovers = q.takeovers + (q.worker IS NOT NULL)::int::smallint
    WHERE q.ctid = ANY (ARRAY(SELECT ctid FROM picked WHERE key IS NULL))
    RETURNING q.*
), claimed_in_order AS (
    UPDATE outbox_queue q
    SET worker = $1, claims = q.claims % 32767 + 1,
        takeovers = q.takeovers + (q.worker IS NOT NULL)::int::smallint
    FROM taken
    WHERE q.channel = taken.channel AND q.event_id = taken.event_id
    RETURNING q.*
), occupied AS MATERIALIZED (
    -- Channels in whose own lane some keyed row waits; nearly always none.
    SELECT known.channel
    FROM unnest($9::text[]) AS known (channel)
    WHERE EXISTS (SELECT FROM outbox_queue q
                  WHERE q.channel = known.channel AND q.key IS NOT NULL)
)
-- The number of rows that were blocked comes with every row, and alone when there is no other.
SELECT (SELECT count(*) FROM blocked) AS "blocked!",
       c.event_id    AS "event_id?",
       c.channel     AS "channel?",
       c.priority    AS "priority?",
       c.due_at      AS "due_at?",
       c.attempt     AS "attempt?",
       c.takeovers   AS "takeovers?",
       c.claims      AS "claim?",
       c.began_at    AS "began_at?",
       -- Channels that an earlier event of the key still waits for.
       CASE WHEN c.channel = '' AND c.key IS NOT NULL THEN
           ARRAY(SELECT occupied.channel FROM occupied
                 WHERE EXISTS (SELECT FROM outbox_queue s
                               WHERE s.channel = occupied.channel AND s.key = c.key
                                 AND s.event_id < c.event_id))
       END           AS "behind?: Vec<String>",
       e.event_type  AS "event_type?",
       -- One byte more than 32 kB says that there is more: stored, 1e99999 takes a few bytes only.
       CASE WHEN size.is_small THEN substring(jsonb_send(e.payload) FOR 32770)
       END           AS "payload?: Excerpt",
       -- Nearly always {}, which takes no more than 8 bytes, and is not sent.
       CASE WHEN size.of_headers > 8 AND size.is_small
            THEN substring(jsonb_send(e.headers) FOR 32770)
       END           AS "headers?: Excerpt",
       CASE WHEN NOT size.is_small THEN size.of_both
       END           AS "stored_bytes?",
       e.key         AS "key?",
       e.max_retries AS "max_retries?",
       e.expires_at  AS "expires_at?",
       e.created_at  AS "created_at?"
FROM (SELECT) AS one
LEFT JOIN (SELECT * FROM claimed UNION ALL SELECT * FROM claimed_in_order) AS c ON true
LEFT JOIN outbox_events e ON e.id = c.event_id
-- What is large is left behind (contents.sql), without being looked into: stored in more than
-- 32 kB, or than 4 kB where that is compressed, perhaps to a hundredth.
CROSS JOIN LATERAL (
    SELECT pg_column_size(e.headers) AS of_headers,
           pg_column_size(e.payload) + pg_column_size(e.headers) AS of_both,
           pg_column_size(e.payload) + pg_column_size(e.headers)
               <= CASE WHEN coalesce(pg_column_compression(e.payload),
                                     pg_column_compression(e.headers)) IS NULL
                       THEN 32768 ELSE 4096 END AS is_small
) AS size

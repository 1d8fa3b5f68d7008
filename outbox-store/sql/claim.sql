-- Leases due rows: the urgent first, the oldest first among equals.
--
-- $1 worker; $2 channels to claim for ('' is what is not routed yet), $3 how many for each.
-- $4 true: a sweep, which looks from the start of every lane. False: goes on in each lane from
-- where the last claim ended, so that rows which are dead but not yet removed (an old snapshot
-- is open somewhere) are never walked over twice; $5 to $8 are the lanes: channel, priority,
-- and the position (due time, event id) after which to go on. $9 all channels of the worker.
-- $10 how many rows of one key. $11 and $12 rows to look at first, wherever they are: event, lane.
--
-- A row is free when nobody has it, or when who has it is no longer alive: not when this
-- statement began, and, since a worker may have registered and claimed meanwhile, not now either.
-- Of a key, only the first row of a lane may be taken, and with it those right behind it. Rows
-- that have to wait for another of their key are marked blocked, which takes them out of the
-- index that claims read; whoever removes the first of a key unblocks the next (0005_unblock.sql).
WITH RECURSIVE wanted AS MATERIALIZED (
    SELECT w.channel, w.room
    FROM unnest($2::text[], $3::int[]) AS w (channel, room)
    WHERE NOT EXISTS (
        SELECT FROM outbox_channels c
        WHERE c.name = w.channel AND (c.paused_at IS NOT NULL OR c.down_until > now()))
), alive AS MATERIALIZED (
    SELECT array_agg(id) AS ids FROM outbox_workers WHERE alive_until > now()
), picked AS MATERIALIZED (
    SELECT due.*
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
        -- Row by row, so that no more are locked than there is room for.
        SELECT CASE WHEN run.is_behind THEN run.ctid ELSE met.ctid END AS ctid,
               coalesce(run.event_id, met.event_id) AS event_id, met.channel, met.key,
               coalesce(run.is_behind, false) AS is_behind,
               CASE WHEN run.is_behind THEN run.is_free
                    ELSE met.previous IS NULL END AS is_free,
               met.previous
        FROM (
            -- The one before it, and not the first of its key: where many of that were removed, what
            -- is dead but still in the index is not walked over for those that have to wait.
            SELECT met.*, CASE WHEN met.key IS NOT NULL THEN (
                       SELECT s.event_id FROM outbox_queue s
                       WHERE s.channel = met.channel AND s.key = met.key
                         AND s.event_id < met.event_id
                       ORDER BY s.event_id DESC LIMIT 1) END AS previous
            FROM (
                SELECT freed.* FROM (
                    SELECT q.ctid, q.event_id, q.channel, q.key FROM outbox_queue q
                    WHERE q.event_id = ANY ($11::bigint[])
                      -- In words that no other index answers: PostgreSQL may believe that the table
                      -- is empty, so that all plans look alike.
                      AND ($1::int IS NULL OR q.channel = wanted.channel)
                      AND ($1::int IS NULL OR (q.event_id, q.channel) IN (
                          SELECT * FROM unnest($11::bigint[], $12::text[])))
                      AND q.blocked IS NOT TRUE
                      AND q.due_at <= now()
                      AND (q.worker IS NULL OR q.worker <> ALL ((SELECT ids FROM alive)::int[])
                           AND NOT outbox_worker_is_alive(q.worker))
                    FOR NO KEY UPDATE SKIP LOCKED
                ) freed
                UNION ALL
                SELECT next.* FROM lane
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
                    FOR NO KEY UPDATE SKIP LOCKED
                ) next
            ) met
            OFFSET 0
        ) met
        LEFT JOIN LATERAL (
            -- The first of a key comes with those behind it, whatever state they are in.
            SELECT s.ctid, s.event_id, s.event_id > met.event_id AS is_behind,
                   s.due_at <= now()
                   AND (s.worker IS NULL OR s.worker <> ALL ((SELECT ids FROM alive)::int[])
                        AND NOT outbox_worker_is_alive(s.worker)) AS is_free
            FROM outbox_queue s
            WHERE met.previous IS NULL AND met.key IS NOT NULL AND $10::int > 1
              AND s.channel = met.channel AND s.key = met.key AND s.event_id >= met.event_id
            ORDER BY s.event_id
            LIMIT $10::int
        ) run ON true
        LIMIT wanted.room
    ) due
    LIMIT 1000
), locked AS MATERIALIZED (
    -- A row that somebody else has just taken or is changing is not to be had; nor are those behind
    -- it, also when it is the first, which is locked already.
    SELECT q.ctid
    FROM outbox_queue q
    WHERE q.ctid = ANY (ARRAY(
        SELECT ctid FROM picked WHERE is_free AND key IS NOT NULL AND $10::int > 1))
      AND q.due_at <= now()
      AND (q.worker IS NULL OR q.worker <> ALL ((SELECT ids FROM alive)::int[])
           AND NOT outbox_worker_is_alive(q.worker))
    FOR NO KEY UPDATE SKIP LOCKED
), behind AS MATERIALIZED (
    -- Right behind the first of their key, without a gap.
    SELECT ctid, channel, event_id
    FROM (
        SELECT picked.ctid, picked.is_behind, picked.channel, picked.event_id,
               bool_and(locked.ctid IS NOT NULL)
                   OVER (PARTITION BY picked.channel, picked.key ORDER BY picked.event_id) AS is_next
        FROM picked LEFT JOIN locked USING (ctid)
        WHERE picked.key IS NOT NULL AND $10::int > 1
          AND (picked.is_behind OR picked.is_free)
    ) run
    WHERE is_next AND is_behind
), claimed AS (
    UPDATE outbox_queue q
    SET worker = $1, claims = q.claims % 32767 + 1,
        takeovers = q.takeovers + (q.worker IS NOT NULL)::int::smallint
    WHERE q.ctid = ANY (ARRAY(SELECT ctid FROM picked WHERE is_free AND NOT is_behind)
                        || ARRAY(SELECT ctid FROM behind))
    RETURNING q.*
), waiting AS MATERIALIZED (
    SELECT ctid, channel, previous FROM picked
    WHERE NOT is_behind AND NOT is_free AND ctid NOT IN (SELECT ctid FROM behind)
), locked_here AS MATERIALIZED (
    SELECT channel, event_id FROM picked WHERE NOT is_behind
    UNION ALL
    SELECT channel, event_id FROM behind
), held_up AS MATERIALIZED (
    -- The one before is locked, so that nobody removes it, and looks for the next to unblock,
    -- before these are marked.
    SELECT q.channel, q.event_id
    FROM outbox_queue q
    WHERE q.event_id = ANY (ARRAY(
        SELECT event_id
        FROM (SELECT channel, previous AS event_id FROM waiting
              EXCEPT SELECT channel, event_id FROM locked_here) before))
      -- What is joined by OR is looked up by hash, whatever the planner believes.
      AND ($1 IS NULL
           OR (q.channel, q.event_id) IN (SELECT channel, previous FROM waiting))
    FOR KEY SHARE SKIP LOCKED
), blocked AS (
    UPDATE outbox_queue q
    SET blocked = true
    WHERE q.ctid = ANY (ARRAY(
        SELECT ctid FROM waiting
        WHERE (channel, previous) IN (SELECT channel, event_id FROM locked_here)
           OR (channel, previous) IN (SELECT channel, event_id FROM held_up)))
    RETURNING q.event_id
), occupied AS MATERIALIZED (
    -- Channels in whose own lane some keyed row waits; nearly always none.
    SELECT known.channel
    FROM unnest($9::text[]) AS known (channel)
    -- One is looked for, where EXISTS would be made into a join with all of them.
    WHERE (SELECT q.event_id FROM outbox_queue q
           WHERE q.channel = known.channel AND q.key IS NOT NULL
           ORDER BY q.key, q.event_id LIMIT 1) IS NOT NULL
)
-- Whether rows were blocked, and whether there was no room to look further, comes with every row,
-- and alone when there is none. What is nearly always the same is told only when it is not.
SELECT nullif(EXISTS (SELECT FROM blocked), false) AS "has_blocked?",
       nullif((SELECT count(*) >= 1000 FROM picked)
              OR EXISTS (SELECT FROM wanted
                         WHERE room <= (SELECT count(*) FROM picked
                                        WHERE picked.channel = wanted.channel)),
              false)           AS "is_cut?",
       c.event_id              AS "event_id?",
       c.due_at                AS "due_at?",
       c.claims                AS "claim?",
       nullif(c.channel, '')   AS "channel?",
       nullif(c.priority, 0)   AS "priority?",
       nullif(c.attempt, 0)    AS "attempt?",
       nullif(c.takeovers, 0)  AS "takeovers?",
       c.began_at              AS "began_at?",
       -- Not the key, which comes with the event: only which rows have the same.
       hashtextextended(c.key, 0) AS "key_hash?",
       -- Channels that an earlier event of the key still waits for.
       CASE WHEN c.channel = '' AND c.key IS NOT NULL AND EXISTS (SELECT FROM occupied) THEN
           ARRAY(SELECT occupied.channel FROM occupied
                 WHERE (SELECT s.event_id FROM outbox_queue s
                        WHERE s.channel = occupied.channel AND s.key = c.key
                          AND s.event_id < c.event_id
                        ORDER BY s.event_id DESC LIMIT 1) IS NOT NULL)
       END                     AS "behind?: Vec<String>"
FROM (SELECT) AS one
LEFT JOIN claimed c ON true

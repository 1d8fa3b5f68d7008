-- Writes down what became of leased rows, all or nothing: each row goes, its results come, what
-- is left to do comes back as rows of its own, and the next of each key is let go. A row that the
-- worker no longer holds (its lease ran out and another took over) is left alone, with all that
-- hangs on it. Returns those, and the rows that were let go and had been blocked.
--
-- $1         worker
-- $2 to $5   the leased rows: event, lane ('' is not routed yet), by which claim, whether something
--            is left in another lane. Here and in $8 to $10 one value may stand for all rows: nearly
--            always they are alike, and need not be sent.
-- $6         whether some of this may be written already: an earlier try whose answer was lost
-- $7 to $10  what was delivered, and no more to say: event, lane, channel, attempts
-- $11 to $19 other results: event, lane, channel, status, attempts, code, message, provider's id,
--            the channel that takes over
-- $20 to $26 what is left: event, lane, channel, attempts spent, wait in seconds (null: as due
--            before; infinity: held), whether this worker keeps the lease, whether the outcome
--            of the last attempt is unknown
-- $27 to $35 attempts that failed, true whoever holds the row now: event, channel, attempt,
--            duration in ms, class, code, message, answer, age in seconds
WITH alike AS MATERIALIZED (
    SELECT ($3::text[])[1] AS lane, ($4::smallint[])[1] AS claim
    WHERE cardinality($3::text[]) = 1 AND cardinality($4::smallint[]) = 1
), done AS MATERIALIZED (
    SELECT event_id, coalesce(lane, ($3::text[])[1]) AS channel,
           coalesce(claim, ($4::smallint[])[1]) AS claim, coalesce(moves, ($5::bool[])[1]) AS moves
    FROM unnest($2::bigint[], $3::text[], $4::smallint[], $5::bool[])
         AS done (event_id, lane, claim, moves)
), removed AS (
    -- By what they are and not by where they lie, which changes when somebody has just changed one.
    DELETE FROM outbox_queue q
    WHERE q.event_id = ANY ($2::bigint[]) AND q.worker = $1
      -- What is joined by OR is looked up by hash, whatever the planner believes, and only if it is
      -- asked for.
      AND (q.channel = (SELECT lane FROM alike) AND q.claims = (SELECT claim FROM alike)
           OR (q.event_id, q.channel, q.claims) IN (SELECT event_id, channel, claim FROM done))
      -- Others may have taken those ahead of it in its key, and not this one: in another lane,
      -- nothing would hold it back any more.
      AND (q.key IS NULL
           OR (q.event_id, q.channel) NOT IN (
               SELECT event_id, channel FROM done WHERE true = ANY ($5::bool[]) AND moves)
           OR outbox_worker_is_alive($1))
    RETURNING q.event_id, q.channel, q.priority, q.due_at, q.began_at, q.key, q.claims,
              q.takeovers
), gone AS MATERIALIZED (
    SELECT count(*) = cardinality($2::bigint[]) AS is_all,
           count(key) AS keyed, min(event_id) FILTER (WHERE key IS NOT NULL) AS first_keyed
    FROM removed
), final AS NOT MATERIALIZED (
    -- By hash again: `removed` is taken for one row, and a thousand would be compared with a
    -- thousand.
    SELECT r.event_id, coalesce(r.channel, ($9::text[])[1]) AS channel, 'delivered' AS status,
           coalesce(r.attempts, ($10::int[])[1]) AS attempts, NULL AS code,
           NULL AS message, NULL AS provider_id, NULL AS fell_back_to
    FROM unnest($7::bigint[], $8::text[], $9::text[], $10::int[])
         AS r (event_id, lane, channel, attempts)
    WHERE (SELECT is_all FROM gone)
       OR (r.event_id, coalesce(r.lane, ($8::text[])[1])) IN (SELECT event_id, channel FROM removed)
    UNION ALL
    SELECT r.event_id, r.channel, r.status, r.attempts, r.code, r.message, r.provider_id,
           r.fell_back_to
    FROM unnest($11::bigint[], $12::text[], $13::text[], $14::text[], $15::int[], $16::text[],
                $17::text[], $18::text[], $19::text[])
         AS r (event_id, lane, channel, status, attempts, code, message, provider_id,
               fell_back_to)
    WHERE (SELECT is_all FROM gone)
       OR (r.event_id, r.lane) IN (SELECT event_id, channel FROM removed)
), results AS (
    INSERT INTO outbox_deliveries
        (event_id, channel, status, attempts, code, message, provider_id, fell_back_to)
    SELECT * FROM final WHERE NOT $6
), results_again AS (
    -- To look for each whether it is there costs as much as to write it.
    INSERT INTO outbox_deliveries
        (event_id, channel, status, attempts, code, message, provider_id, fell_back_to)
    SELECT * FROM final WHERE $6
    ON CONFLICT (event_id, channel) DO UPDATE
    SET finished_at = excluded.finished_at, status = excluded.status,
        attempts = excluded.attempts, code = excluded.code, message = excluded.message,
        provider_id = excluded.provider_id, fell_back_to = excluded.fell_back_to
), held AS MATERIALIZED (
    -- What was removed, if something is left of it. The function returns one row and is taken for
    -- a thousand, so that the join below is made by hashing.
    SELECT removed.* FROM removed CROSS JOIN regexp_split_to_table('one', ',')
    WHERE cardinality($20::bigint[]) > 0
), requeued AS (
    INSERT INTO outbox_queue
        (event_id, channel, priority, key, attempt, due_at, worker, began_at, claims, takeovers)
    SELECT l.event_id, l.channel, held.priority, held.key, l.attempt,
           CASE WHEN l.wait IS NULL THEN held.due_at
                WHEN l.wait = 'infinity' THEN 'infinity'
                ELSE now() + l.wait * interval '1 second' END,
           CASE WHEN l.keep THEN $1 END,
           CASE WHEN l.unknown THEN coalesce(held.began_at, now()) END,
           held.claims,
           -- Not begun, it still is what workers died with.
           CASE WHEN l.wait IS NULL THEN held.takeovers ELSE 0 END
    FROM unnest($20::bigint[], $21::text[], $22::text[], $23::int[], $24::float8[], $25::bool[],
                $26::bool[])
         AS l (event_id, lane, channel, attempt, wait, keep, unknown)
    JOIN held ON held.event_id = l.event_id AND held.channel = l.lane
    ON CONFLICT (event_id, channel) DO NOTHING
    RETURNING event_id, channel
), failed AS (
    INSERT INTO outbox_attempts
        (event_id, channel, attempt, duration_ms, class, code, message, answer, finished_at)
    SELECT f.event_id, f.channel, f.attempt, f.duration_ms, f.class, f.code, f.message, f.answer,
           now() - f.age * interval '1 second'
    FROM unnest($27::bigint[], $28::text[], $29::int[], $30::int[], $31::text[], $32::text[],
                $33::text[], $34::text[], $35::float8[])
         AS f (event_id, channel, attempt, duration_ms, class, code, message, answer, age)
    -- Written before, it began within a moment of when it began by this account.
    WHERE NOT ($6 AND EXISTS (
        SELECT FROM outbox_attempts a
        WHERE a.event_id = f.event_id AND a.channel = f.channel AND a.attempt = f.attempt
          AND a.duration_ms = f.duration_ms AND a.class = f.class AND a.code = f.code
          AND abs(extract(epoch FROM now() - a.finished_at) - f.age) < 5))
)
SELECT true AS "is_lost!", event_id AS "event_id!", channel AS "channel!"
FROM (
    SELECT event_id, channel FROM done
    WHERE NOT (SELECT is_all FROM gone)
    EXCEPT ALL
    SELECT event_id, channel FROM removed
    WHERE NOT (SELECT is_all FROM gone)
) lost
UNION ALL
SELECT false, freed.*
FROM (SELECT * FROM gone WHERE keyed > 0) gone
-- Whether anything waits at all: nearly always nothing, and no key is looked at. Not asked for a
-- few, which are looked at as quickly.
CROSS JOIN LATERAL outbox_blocked_behind(CASE WHEN gone.keyed >= 50 THEN gone.first_keyed END)
    AS behind (has_some)
CROSS JOIN LATERAL (
    SELECT array_agg(channel) AS lanes, array_agg(key) AS keys, array_agg(first) AS removed
    FROM (SELECT channel, key, min(event_id) AS first FROM removed
          WHERE behind.has_some IS NOT FALSE
            AND key IS NOT NULL
            -- What has come back is not gone.
            AND (event_id, channel) NOT IN (SELECT event_id, channel FROM requeued)
          GROUP BY channel, key) keys
) done
CROSS JOIN LATERAL outbox_unblock(done.lanes, done.keys, done.removed) freed

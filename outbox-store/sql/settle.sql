-- Writes down what became of leased rows, all or nothing: each row goes, its results come, and
-- what is left to do comes back as rows of its own. $1 worker; a row that the worker no longer
-- holds (its lease ran out and another took over) is left alone, with all that hangs on it.
-- $2, $3     the leased rows: event, lane ('' is not routed yet)
-- $4 to $12  results: event, lane, channel, status, attempts, code, message, provider's id, the
--            channel that takes over
-- $13 to $19 what is left: event, lane, channel, attempts spent, wait in seconds (null: as due
--            before; infinity: held), whether this worker keeps the lease, whether the outcome
--            of the last attempt is unknown
-- $20 to $28 attempts that failed, true whoever holds the row now: event, channel, attempt,
--            duration in ms, class, code, message, answer, age in seconds
WITH removed AS (
    DELETE FROM outbox_queue q
    USING unnest($2::bigint[], $3::text[]) AS done (event_id, channel)
    WHERE q.event_id = done.event_id AND q.channel = done.channel AND q.worker = $1
    -- Always true, and costly unless $1 is known when planning: a plan that is kept, made
    -- while the tables were small, would walk over the whole backlog of the next rush.
    AND ($1::int IS NOT NULL OR (SELECT count(*) FROM generate_series(1, 4000000)) > 0)
    RETURNING q.event_id, q.channel, q.priority, q.due_at, q.began_at, q.key
), held AS MATERIALIZED (
    -- The same rows. The function returns one row and is taken for a thousand, so that the
    -- joins below are made by hashing: `removed` is taken for one row, whatever it is, and five
    -- hundred would be compared with five hundred.
    SELECT removed.* FROM removed CROSS JOIN regexp_split_to_table('one', ',')
), results AS (
    INSERT INTO outbox_deliveries
        (event_id, channel, status, attempts, code, message, provider_id, fell_back_to)
    SELECT r.event_id, r.channel, r.status, r.attempts, r.code, r.message, r.provider_id,
           r.fell_back_to
    FROM unnest($4::bigint[], $5::text[], $6::text[], $7::text[], $8::int[], $9::text[],
                $10::text[], $11::text[], $12::text[])
         AS r (event_id, lane, channel, status, attempts, code, message, provider_id,
               fell_back_to)
    JOIN held ON held.event_id = r.event_id AND held.channel = r.lane
    ON CONFLICT (event_id, channel) DO UPDATE
    SET finished_at = excluded.finished_at, status = excluded.status,
        attempts = excluded.attempts, code = excluded.code, message = excluded.message,
        provider_id = excluded.provider_id, fell_back_to = excluded.fell_back_to
), requeued AS (
    INSERT INTO outbox_queue (event_id, channel, priority, key, attempt, due_at, worker, began_at)
    SELECT l.event_id, l.channel, held.priority, held.key, l.attempt,
           CASE WHEN l.wait IS NULL THEN held.due_at
                WHEN l.wait = 'infinity' THEN 'infinity'
                ELSE now() + l.wait * interval '1 second' END,
           CASE WHEN l.keep THEN $1 END,
           CASE WHEN l.unknown THEN coalesce(held.began_at, now()) END
    FROM unnest($13::bigint[], $14::text[], $15::text[], $16::int[], $17::float8[], $18::bool[],
                $19::bool[])
         AS l (event_id, lane, channel, attempt, wait, keep, unknown)
    JOIN held ON held.event_id = l.event_id AND held.channel = l.lane
    ON CONFLICT (event_id, channel) DO NOTHING
), failed AS (
    INSERT INTO outbox_attempts
        (event_id, channel, attempt, duration_ms, class, code, message, answer, finished_at)
    SELECT f.event_id, f.channel, f.attempt, f.duration_ms, f.class, f.code, f.message, f.answer,
           now() - f.age * interval '1 second'
    FROM unnest($20::bigint[], $21::text[], $22::int[], $23::int[], $24::text[], $25::text[],
                $26::text[], $27::text[], $28::float8[])
         AS f (event_id, channel, attempt, duration_ms, class, code, message, answer, age)
)
SELECT event_id AS "event_id!", channel AS "channel!", key FROM held

-- Outbox: lets the next of a key go also when two rows of the key are removed at the same time.
--
-- One statement that guards itself, as 0001_outbox.sql.

DO $migration$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('outbox_migrations'));
    IF EXISTS (SELECT FROM outbox_migrations WHERE version = 4) THEN
        RETURN;
    END IF;
    -- Not a caller's temporary tables of the same names.
    PERFORM set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

    DROP FUNCTION outbox_unblock(text[], text[]);

    -- Unblocks the first row that is left of each of these keys, and returns those that were
    -- blocked. Called by the statement that removed rows of them, once it has; `removed` is the
    -- first that it removed of each. What is VOLATILE sees what its caller has done, and what
    -- others have while the caller waited for their locks.
    --
    -- Others may be removing rows of the same key this very moment. Who has removed an earlier one
    -- looks ahead and waits for who is removing a later one, never the other way round: so the
    -- last of them to commit has seen what the others did.
    CREATE FUNCTION outbox_unblock(lanes text[], keys text[], removed bigint[])
    RETURNS TABLE (freed_event bigint, freed_channel text)
    LANGUAGE plpgsql VOLATILE STRICT SET search_path FROM CURRENT AS $function$
    DECLARE
        firsts     bigint[];
        is_blocked boolean;
        unblocked  int;
    BEGIN
        LOOP
            -- Where one is left before what was removed, who removes that will look.
            SELECT array_agg(k.channel), array_agg(k.key), array_agg(k.removed),
                   array_agg(first.event_id), bool_or(first.blocked)
            INTO lanes, keys, removed, firsts, is_blocked
            FROM unnest(lanes, keys, removed) AS k (channel, key, removed)
            CROSS JOIN LATERAL (
                SELECT s.event_id, s.blocked FROM outbox_queue s
                WHERE s.channel = k.channel AND s.key = k.key
                ORDER BY s.event_id LIMIT 1
            ) first
            WHERE first.event_id > k.removed;
            EXIT WHEN firsts IS NULL;

            IF is_blocked THEN
                RETURN QUERY
                UPDATE outbox_queue q
                SET blocked = false
                FROM unnest(lanes, firsts) AS first (channel, event_id)
                WHERE q.event_id = first.event_id AND q.channel = first.channel AND q.blocked
                RETURNING q.event_id, q.channel;
                GET DIAGNOSTICS unblocked = ROW_COUNT;
                EXIT WHEN unblocked = cardinality(firsts);
            END IF;

            -- Locked, it cannot be removed before this is committed. Where it is gone by now, who
            -- removed it may not have seen that those before it were going: look once more.
            SELECT array_agg(k.channel), array_agg(k.key), array_agg(k.removed)
            INTO lanes, keys, removed
            FROM unnest(lanes, keys, removed, firsts) AS k (channel, key, removed, first)
            WHERE NOT EXISTS (
                SELECT FROM outbox_queue q
                WHERE q.event_id = k.first AND q.channel = k.channel
                FOR KEY SHARE);
            EXIT WHEN lanes IS NULL;
        END LOOP;
    END $function$;

    -- What was left behind so far: blocked, and nothing before it.
    UPDATE outbox_queue q
    SET blocked = false
    WHERE q.blocked
      AND NOT EXISTS (SELECT FROM outbox_queue s
                      WHERE s.channel = q.channel AND s.key = q.key AND s.event_id < q.event_id);

    INSERT INTO outbox_migrations (version, file) VALUES (4, '0004_unblock.sql');
END
$migration$;

-- Outbox: lets the next of a key go without walking over what is gone.
--
-- One statement that guards itself, as 0001_outbox.sql.

DO $migration$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('outbox_migrations'));
    IF EXISTS (SELECT FROM outbox_migrations WHERE version = 5) THEN
        RETURN;
    END IF;
    -- Not a caller's temporary tables of the same names.
    PERFORM set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

    -- Unblocks, of each of these keys, the next row after `removed`, and returns those that were
    -- blocked. Called by the statement that removed rows of them, once it has; `removed` is the
    -- first that it removed of each. What is VOLATILE sees what its caller has done, and what
    -- others have while the caller waited for their locks.
    --
    -- Where one is left before `removed`, what is unblocked has to wait all the same: claims see
    -- that. To look for the first of a key instead would be to walk over all that were removed of
    -- it and are still in the index.
    --
    -- Others may be removing rows of the same key this very moment. Who has removed an earlier one
    -- looks ahead and waits for who is removing a later one: so the last of them to commit has seen
    -- what the others did. Where the rows of two are interleaved each waits for the other, and the
    -- one that PostgreSQL ends is tried again.
    CREATE OR REPLACE FUNCTION outbox_unblock(lanes text[], keys text[], removed bigint[])
    RETURNS TABLE (freed_event bigint, freed_channel text)
    LANGUAGE plpgsql VOLATILE STRICT SET search_path FROM CURRENT AS $function$
    DECLARE
        nexts      bigint[];
        is_blocked boolean;
        unblocked  int;
    BEGIN
        LOOP
            SELECT array_agg(k.channel), array_agg(k.key), array_agg(k.removed),
                   array_agg(next.event_id), bool_or(next.blocked)
            INTO lanes, keys, removed, nexts, is_blocked
            FROM unnest(lanes, keys, removed) AS k (channel, key, removed)
            CROSS JOIN LATERAL (
                SELECT s.event_id, s.blocked FROM outbox_queue s
                WHERE s.channel = k.channel AND s.key = k.key AND s.event_id > k.removed
                ORDER BY s.event_id LIMIT 1
            ) next;
            EXIT WHEN nexts IS NULL;

            IF is_blocked THEN
                RETURN QUERY
                UPDATE outbox_queue q
                SET blocked = false
                FROM unnest(lanes, nexts) AS next (channel, event_id)
                WHERE q.event_id = next.event_id AND q.channel = next.channel AND q.blocked
                RETURNING q.event_id, q.channel;
                GET DIAGNOSTICS unblocked = ROW_COUNT;
                EXIT WHEN unblocked = cardinality(nexts);
            END IF;

            -- Locked, it cannot be removed before this is committed. Where it is gone by now, who
            -- removed it may not have seen that those before it were going: look once more.
            SELECT array_agg(k.channel), array_agg(k.key), array_agg(k.removed)
            INTO lanes, keys, removed
            FROM unnest(lanes, keys, removed, nexts) AS k (channel, key, removed, next)
            WHERE NOT EXISTS (
                SELECT FROM outbox_queue q
                WHERE q.event_id = k.next AND q.channel = k.channel
                FOR KEY SHARE);
            EXIT WHEN lanes IS NULL;
        END LOOP;
    END $function$;

    INSERT INTO outbox_migrations (version, file) VALUES (5, '0005_unblock.sql');
END
$migration$;

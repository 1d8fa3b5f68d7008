-- Outbox: lets the next of a key go within the statement that removed the one before it.
--
-- One statement that guards itself, as 0001_outbox.sql.

DO $migration$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('outbox_migrations'));
    IF EXISTS (SELECT FROM outbox_migrations WHERE version = 3) THEN
        RETURN;
    END IF;
    -- Not a caller's temporary tables of the same names.
    PERFORM set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

    -- Unblocks the first row that is left of each of these keys, and returns those that were
    -- blocked. Called by the statement that removed rows of them, once it has: what is VOLATILE
    -- sees what its caller has done, and what claims have marked while the caller waited for
    -- their locks.
    CREATE FUNCTION outbox_unblock(lanes text[], keys text[])
    RETURNS TABLE (freed_event bigint, freed_channel text)
    LANGUAGE plpgsql VOLATILE STRICT SET search_path FROM CURRENT AS $function$
    BEGIN
        RETURN QUERY
        UPDATE outbox_queue q
        SET blocked = false
        FROM unnest(lanes, keys) AS freed (channel, key)
        CROSS JOIN LATERAL (
            SELECT s.event_id, s.blocked FROM outbox_queue s
            WHERE s.channel = freed.channel AND s.key = freed.key
            ORDER BY s.event_id LIMIT 1
        ) next
        WHERE next.blocked
          AND q.event_id = next.event_id AND q.channel = freed.channel AND q.blocked
        RETURNING q.event_id, q.channel;
    END $function$;

    INSERT INTO outbox_migrations (version, file) VALUES (3, '0003_unblock.sql');
END
$migration$;

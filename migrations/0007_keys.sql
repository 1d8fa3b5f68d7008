-- Outbox: what settling events with keys costs is less.
--
-- One statement that guards itself, as 0001_outbox.sql.

DO $migration$
DECLARE
    patience CONSTANT text := current_setting('lock_timeout');
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('outbox_migrations'));
    IF EXISTS (SELECT FROM outbox_migrations WHERE version = 7) THEN
        RETURN;
    END IF;
    -- Not a caller's temporary tables of the same names.
    PERFORM set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

    -- Producers queue up behind a lock that waits, so it does not wait for long.
    PERFORM set_config('lock_timeout', '5s', true);
    BEGIN
        LOCK TABLE outbox_queue IN SHARE MODE;
    EXCEPTION WHEN lock_not_available THEN
        RAISE EXCEPTION 'a transaction that wrote events or changed the queue has been open for '
            '5 seconds: run this again when it has ended'
            USING ERRCODE = 'lock_not_available';
    END;
    PERFORM set_config('lock_timeout', patience, true);

    -- What waits for another of its key. PostgreSQL may believe that the table is empty, so that all
    -- plans look alike, and has no choice here: nothing else is asked in these words, and no other
    -- index answers them.
    CREATE INDEX outbox_queue_blocked ON outbox_queue ((-event_id)) WHERE blocked::int = 1;

    -- Whether any row behind `removed` is blocked: if not, nobody has to look for the next of each
    -- key. Called by the statement that removed rows, once it has; `removed` is the first of them.
    --
    -- Who marks a row holds the one before it, so that its removal waits, and sees the mark then:
    -- what is VOLATILE sees what others have done while its caller waited. Only what lies behind is
    -- asked for, since of what lies before, much may be gone and still be in the index.
    CREATE FUNCTION outbox_blocked_behind(removed bigint) RETURNS boolean
    LANGUAGE plpgsql VOLATILE STRICT SET search_path FROM CURRENT AS $function$
    BEGIN
        RETURN EXISTS (SELECT FROM outbox_queue q
                       WHERE q.blocked::int = 1 AND -q.event_id < -removed);
    END $function$;

    INSERT INTO outbox_migrations (version, file) VALUES (7, '0007_keys.sql');
END
$migration$;

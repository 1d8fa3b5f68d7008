-- Outbox: what an application's INSERT pays for is less.
--
-- One statement that guards itself, as 0001_outbox.sql.

DO $migration$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('outbox_migrations'));
    IF EXISTS (SELECT FROM outbox_migrations WHERE version = 6) THEN
        RETURN;
    END IF;
    -- Not a caller's temporary tables of the same names.
    PERFORM set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

    -- Puts new events to work, in the application's own transaction.
    --
    -- Each name is written with its schema: the function runs with our rights under the caller's
    -- search_path, and a path of its own would have to be set and reset for each statement.
    -- `new_events` needs none, since a transition table goes before all others.
    --
    -- NOTIFY takes a lock that all committing transactions share, so it is used only when a worker
    -- sleeps. Who sleeps shares an advisory lock (outbox-store/sql/set_asleep.sql), which cannot be
    -- had alone then. It is a lock and not a row because it costs a fifth of a query, ends with the
    -- worker's session, and tells who sleeps now, however old the caller's snapshot is. It is given
    -- back within the expression that takes it, so that nothing comes between. Where two ask at the
    -- same moment, one may notify for nothing.
    EXECUTE format($create$
        CREATE OR REPLACE FUNCTION outbox_queue_new_events() RETURNS trigger
        LANGUAGE plpgsql SECURITY DEFINER AS $function$
        DECLARE
            asleep  CONSTANT pg_catalog.int4 := 1868722040;
            here    CONSTANT pg_catalog.int4 := TG_RELID;
        BEGIN
            INSERT INTO %1$I.outbox_queue (event_id, due_at, priority, key)
            SELECT id, deliver_at, priority, key FROM new_events;
            IF (CASE WHEN pg_catalog.pg_try_advisory_lock(asleep, here)
                THEN NOT pg_catalog.pg_advisory_unlock(asleep, here) ELSE true END)
            THEN
                PERFORM pg_catalog.pg_notify(%2$L, '');
            END IF;
            RETURN NULL;
        END $function$
    $create$, current_schema(), left('outbox:' || current_schema(), 63));

    -- Workers of before still write it until they are restarted, and producers may be in the middle
    -- of a transaction that reads it: a later migration can drop it.
    COMMENT ON COLUMN outbox_workers.asleep IS 'not used any more';

    INSERT INTO outbox_migrations (version, file) VALUES (6, '0006_producers.sql');
END
$migration$;

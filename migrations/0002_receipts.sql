-- Outbox: what providers report later of messages that they took.
--
-- One statement that guards itself, as 0001_outbox.sql. While it makes the index on
-- outbox_deliveries, workers wait with what they have to write.

DO $migration$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('outbox_migrations'));
    IF EXISTS (SELECT FROM outbox_migrations WHERE version = 2) THEN
        RETURN;
    END IF;
    -- Not a caller's temporary tables of the same names.
    PERFORM set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

    -- Receipts: what all reports about a message add up to. A report may come before the result
    -- is written, so a receipt knows its message by the provider's name for it, and no event.
    CREATE TABLE outbox_receipts (
        reported_at timestamptz NOT NULL DEFAULT now(), -- when what counts was reported first
        channel     text        COLLATE "C" NOT NULL,
        provider_id text        NOT NULL,
        status      text        NOT NULL CHECK (status IN
            ('accepted', 'sent', 'failed', 'undelivered', 'delivered')),
        code        text,
        PRIMARY KEY (provider_id, channel)
    );
    -- What nothing refers to is forgotten by its age.
    CREATE INDEX outbox_receipts_reported_at ON outbox_receipts (reported_at);

    -- From a receipt to its event. Channels whose providers give no name pay nothing for it.
    CREATE INDEX outbox_deliveries_provider_id ON outbox_deliveries (provider_id)
        WHERE provider_id IS NOT NULL;

    INSERT INTO outbox_migrations (version, file) VALUES (2, '0002_receipts.sql');
END
$migration$;

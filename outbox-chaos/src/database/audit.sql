-- What the judge goes by: written by triggers, in the transactions that it tells of, and kept
-- when retention removes what it is about. All times are taken before the commit.

CREATE TABLE chaos_events (
    id           bigint      PRIMARY KEY,
    token        text        NOT NULL,
    event_type   text        NOT NULL,
    key          text,
    dedup_key    text,
    deliver_at   timestamptz NOT NULL,
    expires_at   timestamptz,
    max_retries  int,
    written_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    pruned_at    timestamptz,
    -- Whether there was still work to do when it was pruned.
    pruned_early boolean     NOT NULL DEFAULT false
);

-- Each time a delivery gets a result, and each time one is taken back for it to be made again:
-- then the status is null.
CREATE TABLE chaos_results (
    seq      bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id bigint      NOT NULL,
    channel  text        NOT NULL,
    status   text,
    code     text,
    message  text,
    at       timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Each time a delivery is held for a human, and each time it is let go to be made again.
CREATE TABLE chaos_holds (
    event_id bigint      NOT NULL,
    channel  text        NOT NULL,
    is_held  boolean     NOT NULL,
    at       timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- What workers that did not end in order said of their leases, when the row goes.
CREATE TABLE chaos_leases (LIKE outbox_workers);

CREATE FUNCTION chaos_event_written() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    INSERT INTO chaos_events
        (id, token, event_type, key, dedup_key, deliver_at, expires_at, max_retries)
    VALUES (NEW.id, NEW.payload ->> 'token', NEW.event_type, NEW.key, NEW.dedup_key,
            NEW.deliver_at, NEW.expires_at, NEW.max_retries);
    RETURN NULL;
END $$;
CREATE TRIGGER chaos_event_written AFTER INSERT ON outbox_events
    FOR EACH ROW EXECUTE FUNCTION chaos_event_written();

CREATE FUNCTION chaos_event_pruned() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    UPDATE chaos_events
    SET pruned_at = clock_timestamp(),
        pruned_early = EXISTS (SELECT FROM outbox_queue WHERE event_id = OLD.id)
    WHERE id = OLD.id;
    RETURN NULL;
END $$;
CREATE TRIGGER chaos_event_pruned AFTER DELETE ON outbox_events
    FOR EACH ROW EXECUTE FUNCTION chaos_event_pruned();

CREATE FUNCTION chaos_result() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    IF TG_OP <> 'DELETE' THEN
        INSERT INTO chaos_results (event_id, channel, status, code, message)
        VALUES (NEW.event_id, NEW.channel, NEW.status, NEW.code, NEW.message);
    ELSIF EXISTS (SELECT FROM outbox_events WHERE id = OLD.event_id) THEN
        -- Not pruned: replayed.
        INSERT INTO chaos_results (event_id, channel) VALUES (OLD.event_id, OLD.channel);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER chaos_result AFTER INSERT OR UPDATE OR DELETE ON outbox_deliveries
    FOR EACH ROW EXECUTE FUNCTION chaos_result();

CREATE FUNCTION chaos_hold() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    INSERT INTO chaos_holds (event_id, channel, is_held)
    VALUES (NEW.event_id, NEW.channel, NEW.due_at = 'infinity');
    RETURN NULL;
END $$;
CREATE TRIGGER chaos_held AFTER INSERT ON outbox_queue
    FOR EACH ROW WHEN (NEW.due_at = 'infinity') EXECUTE FUNCTION chaos_hold();
CREATE TRIGGER chaos_released AFTER UPDATE ON outbox_queue
    FOR EACH ROW WHEN ((OLD.due_at = 'infinity') <> (NEW.due_at = 'infinity'))
    EXECUTE FUNCTION chaos_hold();

CREATE FUNCTION chaos_lease_ended() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    IF OLD.alive_until <= now() THEN
        INSERT INTO chaos_leases SELECT OLD.*;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER chaos_lease_ended AFTER DELETE ON outbox_workers
    FOR EACH ROW EXECUTE FUNCTION chaos_lease_ended();

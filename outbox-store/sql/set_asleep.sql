-- Whether producers are to notify ($1), until this session says otherwise or ends. $2 is what holds
-- so far; without a change this is a sign of life.
-- Who sleeps shares a lock; a producer asks whether he could have it alone (0006_producers.sql).
SELECT CASE
    WHEN $1::boolean
    THEN pg_advisory_lock_shared(1868722040, 'outbox_events'::regclass::oid::int4)::text
    ELSE pg_advisory_unlock_shared(1868722040, 'outbox_events'::regclass::oid::int4)::text
    END
WHERE $1 <> $2::boolean

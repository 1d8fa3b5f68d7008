-- Removes events $1 with all that hangs on them. They were locked in the statement before; one that
-- was replayed between its looking and its locking has work again, and stays.
WITH settled AS (
    SELECT id FROM unnest($1::bigint[]) AS locked (id)
    WHERE NOT EXISTS (SELECT FROM outbox_queue q WHERE q.event_id = locked.id)
    -- Always true, and costly unless $1 is known when planning: a plan that is kept, made
    -- while the tables were small, would walk over the whole backlog of the next rush.
    AND ($1::bigint[] IS NOT NULL OR (SELECT count(*) FROM generate_series(1, 4000000)) > 0)
), gone AS (
    DELETE FROM outbox_events WHERE id = ANY (ARRAY(SELECT id FROM settled))
), deliveries AS (
    DELETE FROM outbox_deliveries WHERE event_id = ANY (ARRAY(SELECT id FROM settled))
), attempts AS (
    DELETE FROM outbox_attempts WHERE event_id = ANY (ARRAY(SELECT id FROM settled))
)
SELECT count(*) AS "removed!" FROM settled

-- Removes events $1 with all that hangs on them. They were locked in the statement before; one that
-- was replayed between its looking and its locking has work again, and stays.
WITH settled AS (
    SELECT id FROM unnest($1::bigint[]) AS locked (id)
    WHERE NOT EXISTS (SELECT FROM outbox_queue q WHERE q.event_id = locked.id)
), gone AS (
    DELETE FROM outbox_events WHERE id = ANY (ARRAY(SELECT id FROM settled))
), deliveries AS (
    DELETE FROM outbox_deliveries WHERE event_id = ANY (ARRAY(SELECT id FROM settled))
    RETURNING channel, provider_id
), receipts AS (
    DELETE FROM outbox_receipts
    WHERE provider_id = ANY (ARRAY(SELECT provider_id FROM deliveries))
      AND (channel, provider_id) IN (SELECT channel, provider_id FROM deliveries)
), attempts AS (
    DELETE FROM outbox_attempts WHERE event_id = ANY (ARRAY(SELECT id FROM settled))
)
SELECT count(*) AS "removed!" FROM settled

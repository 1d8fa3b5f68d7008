-- Removes receipts of which nothing was heard for $1 days and that belong to no result: of
-- messages that were sent again, or not by us. Looks at the oldest $2. Those with a result go
-- together with their event.
WITH looked_at AS (
    SELECT r.provider_id, r.channel
    FROM outbox_receipts r
    WHERE r.reported_at < now() - $1::float8 * interval '1 day'
    ORDER BY r.reported_at
    LIMIT $2
    FOR UPDATE SKIP LOCKED
), nobodys AS (
    SELECT l.provider_id, l.channel
    FROM looked_at l
    -- Counted, and not NOT EXISTS, which is made a join that reads all results.
    WHERE (SELECT count(*) FROM outbox_deliveries d
           WHERE d.provider_id = l.provider_id AND d.channel = l.channel) = 0
)
DELETE FROM outbox_receipts
WHERE provider_id = ANY (ARRAY(SELECT provider_id FROM nobodys))
  AND (channel, provider_id) IN (SELECT channel, provider_id FROM nobodys)

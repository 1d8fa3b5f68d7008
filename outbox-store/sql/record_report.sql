-- Adds a report to the receipt of the message that the provider of channel $1 calls $2: status $3,
-- code $4. Reports are repeated and come in any order, so the greatest status holds, whichever
-- comes first. Says whether that changed anything, and which event it is about: none while its
-- result is not written, or when the message is not ours.
WITH kept AS (
    INSERT INTO outbox_receipts AS r (channel, provider_id, status, code)
    VALUES ($1, $2, $3, $4)
    ON CONFLICT (provider_id, channel) DO UPDATE
    SET status = excluded.status, code = excluded.code, reported_at = now()
    WHERE array_position(
              '{accepted,sent,failed,undelivered,delivered}'::text[], excluded.status)
        > array_position('{accepted,sent,failed,undelivered,delivered}'::text[], r.status)
    RETURNING r.status
)
SELECT EXISTS (SELECT FROM kept) AS "is_news!",
       (SELECT d.event_id FROM outbox_deliveries d
        WHERE d.provider_id = $2 AND d.channel = $1
        ORDER BY d.finished_at DESC LIMIT 1) AS event_id

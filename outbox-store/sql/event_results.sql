-- How event $1 ended, per channel, and what the providers have reported since.
SELECT d.channel, d.status, d.finished_at, d.attempts, d.code, d.message, d.provider_id,
       d.fell_back_to, r.status AS "reported?", r.code AS reported_code,
       r.reported_at AS "reported_at?"
FROM outbox_deliveries d
LEFT JOIN outbox_receipts r ON r.provider_id = d.provider_id AND r.channel = d.channel
WHERE d.event_id = $1
ORDER BY d.finished_at, d.channel

SELECT channel, status, finished_at, attempts, code, message, provider_id, fell_back_to
FROM outbox_deliveries WHERE event_id = $1 ORDER BY finished_at, channel

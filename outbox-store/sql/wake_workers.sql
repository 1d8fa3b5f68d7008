-- As the trigger on outbox_events does for new events.
SELECT pg_notify(left('outbox:' || current_schema(), 63), '')::text
FROM outbox_workers WHERE asleep AND alive_until > now() LIMIT 1

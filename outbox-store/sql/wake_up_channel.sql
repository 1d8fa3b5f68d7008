-- What the trigger on outbox_events notifies.
SELECT left('outbox:' || current_schema(), 63) AS "name!"

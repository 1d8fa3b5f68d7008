-- As the trigger on outbox_events does, without asking whether anybody sleeps: these are few.
SELECT pg_notify(left('outbox:' || current_schema(), 63), '')::text

-- Queue rows whose event somebody deleted: nothing is left to deliver. $1 worker, $2 and $3 the
-- rows: event, lane.
DELETE FROM outbox_queue q
USING unnest($2::bigint[], $3::text[]) AS gone (event_id, channel)
WHERE q.event_id = gone.event_id AND q.channel = gone.channel AND q.worker = $1
RETURNING q.event_id, q.channel, q.key

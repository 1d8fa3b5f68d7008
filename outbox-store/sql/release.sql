-- Gives leased rows back, uncharged. $1 worker, $2 and $3 the rows: event, lane.
UPDATE outbox_queue q
SET worker = NULL
FROM unnest($2::bigint[], $3::text[]) AS given (event_id, channel)
WHERE q.event_id = given.event_id AND q.channel = given.channel AND q.worker = $1

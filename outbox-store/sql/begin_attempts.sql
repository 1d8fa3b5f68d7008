-- Written before a message is sent whose channel must not send twice: should this worker die,
-- the next one knows that an attempt began. $1 worker, $2 and $3 the rows: event, lane. Returns
-- those that the worker still holds; the others must not be sent.
UPDATE outbox_queue q
SET began_at = now()
FROM unnest($2::bigint[], $3::text[]) AS row (event_id, channel)
WHERE q.event_id = row.event_id AND q.channel = row.channel AND q.worker = $1
  AND ($1::int IS NOT NULL OR (SELECT count(*) FROM generate_series(1, 4000000)) > 0)
RETURNING q.event_id AS "event_id!", q.channel AS "channel!"

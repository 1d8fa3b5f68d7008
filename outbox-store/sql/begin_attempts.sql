-- Written before a message is sent whose channel must not send twice: should this worker die,
-- the next one knows that an attempt began. $1 worker, $2 and $3 the rows: event, lane. Returns
-- those that the worker still holds; the others must not be sent.
UPDATE outbox_queue q
SET began_at = now()
WHERE q.ctid = ANY (ARRAY(
    SELECT leased.ctid
    FROM unnest($2::bigint[], $3::text[]) AS row (event_id, channel)
    CROSS JOIN LATERAL (
        SELECT s.ctid FROM outbox_queue s
        WHERE s.event_id = row.event_id AND s.channel = row.channel AND s.worker = $1
        OFFSET 0
    ) leased))
  AND q.worker = $1
RETURNING q.event_id AS "event_id!", q.channel AS "channel!"

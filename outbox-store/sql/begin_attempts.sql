-- Written before a message is sent whose channel must not send twice: should this worker die,
-- the next one knows that an attempt began. $1 worker, $2 and $3 the rows: event, lane. Returns
-- those that the worker still holds; the others must not be sent, nor any when its lease has run
-- out: somebody else may be taking them.
UPDATE outbox_queue q
SET began_at = now()
WHERE q.event_id = ANY ($2::bigint[]) AND q.worker = $1
  AND (SELECT outbox_worker_is_alive($1))
  -- What is joined by OR is looked up by hash, whatever the planner believes.
  AND ($1 IS NULL
       OR (q.event_id, q.channel) IN (SELECT * FROM unnest($2::bigint[], $3::text[])))
RETURNING q.event_id AS "event_id!", q.channel AS "channel!"

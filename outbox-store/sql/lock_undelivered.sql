-- Rows that an operator may settle: of events $1, of channel $2 (null: of any), which no living
-- worker has; $3 only held ones. One that is being claimed or settled this moment is passed over:
-- who waits for a lock while holding others can wait in a circle.
SELECT q.event_id, q.channel
FROM outbox_queue q
WHERE q.event_id = ANY ($1::bigint[])
  AND ($2::text IS NULL OR q.channel = $2)
  AND (NOT $3::bool OR q.due_at = 'infinity')
  AND NOT EXISTS (SELECT FROM outbox_workers w WHERE w.id = q.worker AND w.alive_until > now())
FOR UPDATE OF q SKIP LOCKED

-- Which of events $1 there are, and their rows of channel $2 (null: of any), each with the living
-- worker that has it; $3 only held ones.
SELECT e.id AS "event_id!", q.channel AS "channel?", w.name AS "worker?"
FROM outbox_events e
LEFT JOIN outbox_queue q ON q.event_id = e.id
    AND ($2::text IS NULL OR q.channel = $2) AND (NOT $3::bool OR q.due_at = 'infinity')
LEFT JOIN outbox_workers w ON w.id = q.worker AND w.alive_until > now()
WHERE e.id = ANY ($1::bigint[])
ORDER BY e.id, q.channel

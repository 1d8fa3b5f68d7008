-- What is left of event $1. Infinity is not a time that programs know: it means held.
SELECT q.channel, NULLIF(q.due_at, 'infinity') AS due_at, q.due_at = 'infinity' AS "held!",
       q.attempt AS attempts, q.takeovers, q.blocked, q.began_at, w.name AS "worker?"
FROM outbox_queue q
LEFT JOIN outbox_workers w ON w.id = q.worker AND w.alive_until > now()
WHERE q.event_id = $1
ORDER BY q.channel

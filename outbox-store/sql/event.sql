-- One event; its payload only when $2.
SELECT e.id, s.status, e.event_type, e.key, e.dedup_key, e.priority, e.max_retries, e.deliver_at,
       e.expires_at, e.created_at, s.processed_at, s.last_error,
       CASE WHEN $2 THEN e.payload END AS "payload: serde_json::Value",
       CASE WHEN $2 THEN e.headers END AS "headers: serde_json::Value"
FROM outbox_events e
LEFT JOIN outbox_event_status s ON s.id = e.id
WHERE e.id = $1
